//! Key pairs, and the files that keep them: PKCS#8 in PEM, as openssl reads and writes it.
//!
//! An encrypted file holds PBES2 with scrypt (N 16384, r 8, p 5) and AES-256-CBC: the largest N whose
//! memory (16 MiB) stays below the 32 MiB that openssl allows itself, made up for by p.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signer as _, SigningKey};
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::{EncryptionScheme, pbes2, scrypt};
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use crate::passphrase::Passphrase;
use crate::public::PublicKey;
use crate::signature::Signature;
use crate::signer::{SignError, Signer};

/// The largest key file that is read, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// The most memory that opening a key file takes, all lanes of scrypt together, in bytes: 16 times openssl's default.
const MAX_SCRYPT: u64 = 256 << 20;

/// The most iterations of PBKDF2 that opening a key file takes: a thousand times openssl's default.
const MAX_ITERATIONS: u64 = 2_048_000;

/// An ed25519 key pair in memory; the secret is wiped when dropped.
pub struct KeyPair {
    secret: SigningKey,
    public: PublicKey,
}

/// Why a key file cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system has no randomness to give.
    #[error("cannot generate a key: no randomness from the system: {0}")]
    Random(getrandom::Error),
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key file is never overwritten.
    #[error("the key file {0} exists and is not overwritten; move it away first or choose another name")]
    Exists(PathBuf),
    /// The file is encrypted and no passphrase was given.
    #[error(
        "the key file {0} is encrypted; name its passphrase with --passphrase fd:N, file:PATH or env:NAME"
    )]
    Encrypted(PathBuf),
    /// The passphrase does not open the file.
    #[error("the passphrase does not open the key file {0}")]
    Passphrase(PathBuf),
    /// Opening it would take beyond reason.
    #[error(
        "the key file {0} asks for more work than is done to open one (scrypt beyond 256 MiB, 2048000 iterations of \
         PBKDF2); encrypt it again with less, such as openssl's defaults"
    )]
    Costly(PathBuf),
    /// Not a key file.
    #[error("{0} is not an ed25519 private key in PKCS#8 PEM")]
    Malformed(PathBuf),
    /// The key could not be encoded.
    #[error("cannot encode the key: {0}")]
    Encode(String),
}

impl KeyPair {
    /// A new key pair from the system's randomness.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyFileError::Random)?;
        Ok(Self::from_seed(*seed))
    }

    /// The key pair of a seed of 32 bytes (RFC 8032's private key).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let secret = SigningKey::from_bytes(&seed);
        let public = secret.verifying_key().into();
        Self { secret, public }
    }

    /// The key as a PKCS#8 PEM file's text, encrypted if there is a passphrase.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyFileError> {
        let encode = |error: pkcs8::Error| KeyFileError::Encode(error.to_string());
        // Version 1, without the public key: openssl 3.0 does not read version 2.
        let bytes = KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        let plain = bytes.to_pkcs8_der().map_err(encode)?;
        let Some(passphrase) = passphrase else {
            return bytes.to_pkcs8_pem(LineEnding::LF).map_err(encode);
        };
        let info = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(encode)?;
        let sealed = info.encrypt_with_params(kdf_and_cipher()?, passphrase.as_bytes()).map_err(encode)?;
        sealed
            .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .map_err(|e| KeyFileError::Encode(e.to_string()))
    }

    /// Reads the text of a PKCS#8 PEM file; `path` is for messages.
    pub fn from_pem(text: &str, passphrase: Option<&Passphrase>, path: &Path) -> Result<Self, KeyFileError> {
        let malformed = || KeyFileError::Malformed(path.to_owned());
        let bytes = if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            let passphrase = passphrase.ok_or_else(|| KeyFileError::Encrypted(path.to_owned()))?;
            let (_, sealed) = SecretDocument::from_pem(text.trim()).map_err(|_| malformed())?;
            let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).map_err(|_| malformed())?;
            if !is_affordable(&sealed.encryption_algorithm) {
                return Err(KeyFileError::Costly(path.to_owned()));
            }
            // A wrong passphrase shows as bad padding or, one time in 256, as a key that does not parse.
            let plain = sealed.decrypt(passphrase.as_bytes());
            plain
                .and_then(|plain| KeypairBytes::from_pkcs8_der(plain.as_bytes()))
                .map_err(|_| KeyFileError::Passphrase(path.to_owned()))?
        } else {
            KeypairBytes::from_pkcs8_pem(text.trim()).map_err(|_| malformed())?
        };
        Ok(Self::from_seed(bytes.secret_key))
    }

    /// Reads a key file.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, KeyFileError> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize));
        File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
        Self::from_pem(&text, passphrase, path)
    }

    /// Writes a new key file that its owner alone can read (mode 0600). Never overwrites anything.
    pub fn save(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), KeyFileError> {
        let pem = self.to_pem(passphrase)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
                    _ => KeyFileError::Write { path: path.to_owned(), source },
                }
            })?;
        // A key that only half reached the disk is worse than none: its public half may be in use already.
        let written =
            file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        written.map_err(|source| {
            let _ = fs::remove_file(path);
            KeyFileError::Write { path: path.to_owned(), source }
        })
    }
}

/// Whether the key derivation stays in bounds; whoever wrote the file chose its cost.
fn is_affordable(scheme: &EncryptionScheme) -> bool {
    let Some(parameters) = scheme.pbes2() else { return false };
    match &parameters.kdf {
        pbes2::Kdf::Pbkdf2(pbkdf2) => u64::from(pbkdf2.iteration_count) <= MAX_ITERATIONS,
        pbes2::Kdf::Scrypt(scrypt) => {
            let (blocks, lanes) = (u64::from(scrypt.block_size), u64::from(scrypt.parallelization));
            // The library takes for granted that the cost is a power of two.
            let memory = scrypt.cost_parameter.checked_mul(128 * blocks * lanes);
            scrypt.cost_parameter.is_power_of_two() && memory.is_some_and(|memory| memory <= MAX_SCRYPT)
        }
        _ => false,
    }
}

fn kdf_and_cipher() -> Result<pbes2::Parameters, KeyFileError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut iv)).map_err(KeyFileError::Random)?;
    let cost = scrypt::Params::new(14, 8, 5).map_err(|error| KeyFileError::Encode(error.to_string()))?;
    pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|error| KeyFileError::Encode(error.to_string()))
}

/// Makes the name of a file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

impl Signer for KeyPair {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, bytes: &[u8]) -> Result<Signature, SignError> {
        Ok(self.secret.sign(bytes).to_bytes().into())
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_reads_back_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::from("correct horse");
        for (name, passphrase) in [("plain", None), ("sealed", Some(&passphrase))] {
            let path = folder.path().join(name);
            let pair = KeyPair::generate().unwrap();
            pair.save(&path, passphrase).unwrap();
            assert_eq!(KeyPair::load(&path, passphrase).unwrap().public(), pair.public(), "{name}");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_encrypted_file_opens_with_its_passphrase_only() {
        let pair = KeyPair::from_seed([1; 32]);
        let pem = pair.to_pem(Some(&Passphrase::from("right"))).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        let open = |passphrase: Option<&str>| {
            KeyPair::from_pem(&pem, passphrase.map(Passphrase::from).as_ref(), Path::new("k")).unwrap_err()
        };
        assert!(matches!(open(None), KeyFileError::Encrypted(_)));
        assert!(matches!(open(Some("wrong")), KeyFileError::Passphrase(_)), "{}", open(Some("wrong")));
    }

    #[test]
    fn a_key_file_that_asks_for_endless_work_is_refused() {
        let passphrase = Passphrase::from("right");
        let pem = KeyPair::from_seed([1; 32]).to_pem(Some(&passphrase)).unwrap();
        let (_, sealed) = SecretDocument::from_pem(&pem).unwrap();
        let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).unwrap();
        // Who changes the cost in the file need not have paid it.
        let bent = |change: &dyn Fn(&mut pbes2::ScryptParams)| {
            let mut bent = sealed.clone();
            let EncryptionScheme::Pbes2(parameters) = &mut bent.encryption_algorithm else { panic!() };
            let pbes2::Kdf::Scrypt(scrypt) = &mut parameters.kdf else { panic!() };
            change(scrypt);
            let pem =
                SecretDocument::encode_msg(&bent).unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF);
            KeyPair::from_pem(&pem.unwrap(), Some(&passphrase), Path::new("k"))
        };
        assert!(bent(&|_| ()).is_ok());
        let costly: [&dyn Fn(&mut pbes2::ScryptParams); 5] = [
            &|scrypt| scrypt.cost_parameter = 1 << 40,
            &|scrypt| scrypt.block_size = u16::MAX,
            &|scrypt| scrypt.parallelization = u16::MAX,
            &|scrypt| scrypt.cost_parameter = 0,
            &|scrypt| scrypt.cost_parameter = 3,
        ];
        for change in costly {
            assert!(matches!(bent(change), Err(KeyFileError::Costly(_))));
        }
        let iterations = |count| {
            let mut pbkdf2 = pbes2::Pbkdf2Params::hmac_sha256(1, &[0; 16]).unwrap();
            pbkdf2.iteration_count = count;
            let kdf = pbes2::Kdf::Pbkdf2(pbkdf2);
            let encryption = sealed.encryption_algorithm.pbes2().unwrap().encryption;
            is_affordable(&pbes2::Parameters { kdf, encryption }.into())
        };
        assert!(iterations(600_000) && !iterations(u32::MAX));
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let first = KeyPair::generate().unwrap();
        first.save(&path, None).unwrap();
        let error = KeyPair::generate().unwrap().save(&path, None).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists(_)), "{error}");
        assert_eq!(KeyPair::load(&path, None).unwrap().public(), first.public());
    }

    #[test]
    fn other_files_are_not_keys() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "ssh-ed25519 AAAA"] {
            let error = KeyPair::from_pem(text, None, Path::new("k")).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn the_rfcs_test_vector_signs_as_published() {
        // RFC 8032, section 7.1, test 2.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let pair = KeyPair::from_seed(crate::hex::decode_array(seed).unwrap());
        assert!(pair.sign(&[0x72]).unwrap().to_string().starts_with("92a009a9f0d4cab8720e820b5f642540"));
    }
}
