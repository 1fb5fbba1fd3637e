//! Whatever can sign: a key in memory, or a command that reaches a token or a service.

use crate::public::PublicKey;
use crate::signature::Signature;

/// Something that signs bytes with one ed25519 key.
pub trait Signer {
    /// The public half of the key it signs with.
    fn public(&self) -> &PublicKey;

    /// Signs `bytes`. What it returns has been verified with [`Signer::public`].
    fn sign(&self, bytes: &[u8]) -> Result<Signature, SignError>;
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The external command could not be started, or talked to.
    #[error("cannot run the signing command {command:?}: {source}")]
    Command {
        /// The program.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The external command ended with an error.
    #[error("the signing command {command:?} failed ({status}): {stderr}")]
    Failed {
        /// The program.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last line it wrote to standard error.
        stderr: String,
    },
    /// The external command does not end.
    #[error(
        "the signing command {command:?} did not end within {limit:?} and was stopped; see what it waits for, or give it \
         more time with --timeout, or `timeout` in upright.toml"
    )]
    TimedOut {
        /// The program.
        command: String,
        /// The time it was given.
        limit: std::time::Duration,
    },
    /// The external command's output is not a signature.
    #[error(
        "the signing command {command:?} wrote {length} bytes that are not an ed25519 signature; \
         expected 64 raw bytes, 128 hexadecimal digits or base64"
    )]
    Output {
        /// The program.
        command: String,
        /// How much it wrote.
        length: usize,
    },
    /// The signature is not one of the expected key.
    #[error("the signing command {command:?} signed with another key than {key}")]
    WrongKey {
        /// The program.
        command: String,
        /// The key that was expected, in hexadecimal digits.
        key: String,
    },
}
