//! External signers: a command that gets the bytes on standard input and writes the signature.
//!
//! So a PKCS#11 token, a cloud KMS or Vault signs without being linked in. Nothing the command says is
//! believed: its output is bounded, and the signature is verified before it is used.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use base64ct::{Base64, Encoding};

use crate::public::PublicKey;
use crate::signature::Signature;
use crate::signer::{SignError, Signer};

/// The most that is read from a command's output, in bytes.
const MAX_OUTPUT: u64 = 4096;

/// A command that signs with one key. The bytes to sign are its standard input; the signature, on its
/// standard output, is 64 raw bytes, 128 hexadecimal digits or base64, with or without a newline.
#[derive(Debug, Clone)]
pub struct ExternalSigner {
    public: PublicKey,
    program: String,
    arguments: Vec<String>,
}

impl ExternalSigner {
    /// A signer that runs `program` with `arguments`, without a shell, and should sign with `public`.
    pub fn new(public: PublicKey, program: impl Into<String>, arguments: Vec<String>) -> Self {
        Self { public, program: program.into(), arguments }
    }

    fn run(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |source| SignError::Command { command: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // Each pipe has its own thread, so that neither side waits for the other to read first.
        let (output, errors) = thread::scope(|scope| {
            let errors = scope.spawn(|| drain(stderr));
            scope.spawn(move || {
                // A command that does not read all of its input is judged by its output alone.
                stdin.map(|mut stdin| stdin.write_all(bytes)).transpose().ok()
            });
            (drain(stdout), errors.join().unwrap_or_default())
        });
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            let stderr = String::from_utf8_lossy(&errors);
            let stderr = stderr.lines().last().unwrap_or("it wrote no reason").chars().take(200).collect();
            return Err(SignError::Failed { command: self.program.clone(), status, stderr });
        }
        Ok(output)
    }
}

/// The first [`MAX_OUTPUT`] bytes; the rest is read and dropped, so that the writer is not stopped.
fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut kept);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    kept
}

fn parse(output: &[u8]) -> Option<Signature> {
    if let Ok(signature) = Signature::try_from(output) {
        return Some(signature);
    }
    let text = std::str::from_utf8(output).ok()?.trim();
    text.parse().ok().or_else(|| Signature::try_from(Base64::decode_vec(text).ok()?.as_slice()).ok())
}

impl Signer for ExternalSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, bytes: &[u8]) -> Result<Signature, SignError> {
        let output = self.run(bytes)?;
        let command = self.program.clone();
        let Some(signature) = parse(&output) else {
            return Err(SignError::Output { command, length: output.len() });
        };
        match self.public.verify(bytes, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err(SignError::WrongKey { command, key: self.public.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_pair::KeyPair;

    /// A command whose input is `bytes` of some length and whose output is what `script` writes.
    fn signer(script: &str) -> ExternalSigner {
        let public = *KeyPair::from_seed([1; 32]).public();
        ExternalSigner::new(public, "sh", vec!["-c".into(), script.into()])
    }

    #[test]
    fn every_spelling_of_a_signature_is_read() {
        let bytes = vec![7; 1 << 20];
        let signature = KeyPair::from_seed([1; 32]).sign(&bytes).unwrap();
        let base64 = Base64::encode_string(signature.as_bytes());
        let octal: String = signature.as_bytes().iter().map(|b| format!("\\{b:03o}")).collect();
        for script in [
            format!("cat >/dev/null; echo {signature}"),
            format!("echo {base64}"),
            format!("cat >/dev/null; printf '{octal}'"),
        ] {
            assert_eq!(signer(&script).sign(&bytes).unwrap(), signature, "{script}");
        }
    }

    #[test]
    fn a_signature_of_another_key_is_not_used() {
        let other = KeyPair::from_seed([2; 32]).sign(b"x").unwrap();
        let error = signer(&format!("cat >/dev/null; echo {other}")).sign(b"x").unwrap_err();
        assert!(matches!(error, SignError::WrongKey { .. }), "{error}");
    }

    #[test]
    fn a_command_that_fails_or_babbles_is_an_error() {
        let error = signer("echo no token >&2; exit 3").sign(b"x").unwrap_err();
        assert!(error.to_string().ends_with("failed (exit status: 3): no token"), "{error}");
        let error = signer("yes | head -c 10000000").sign(b"x").unwrap_err();
        assert!(matches!(error, SignError::Output { length: 4096, .. }), "{error}");
        let missing = ExternalSigner::new(*KeyPair::from_seed([1; 32]).public(), "/nonexistent", vec![]);
        assert!(matches!(missing.sign(b"x"), Err(SignError::Command { .. })));
    }
}
