//! Keys and signatures: ed25519 key pairs and their files, signers, signature thresholds.
//!
//! What only verifies (the agent) builds without the `sign` feature and holds no code that touches a secret.
//! Nothing here knows what the signed bytes mean; documents are `upright-manifests`' part.

pub mod envelope;
pub mod hex;
pub mod json;
pub mod public;
pub mod signature;
pub mod threshold;
pub mod tuf_key;

#[cfg(feature = "sign")]
pub mod external;
#[cfg(feature = "sign")]
pub mod key_pair;
#[cfg(feature = "sign")]
pub mod passphrase;
#[cfg(feature = "sign")]
pub mod signer;

#[cfg(feature = "arguments")]
pub mod arguments;
#[cfg(feature = "cli")]
pub mod cli;

pub use envelope::{Envelope, EnvelopeError};
pub use public::{ParsePublicKeyError, PublicKey};
pub use signature::{ParseSignatureError, Signature, VerifyError};
pub use threshold::{RoleKeys, ThresholdError};
pub use tuf_key::{KeyId, TufKey};

#[cfg(feature = "sign")]
pub use external::ExternalSigner;
#[cfg(feature = "sign")]
pub use key_pair::{KeyFileError, KeyPair};
#[cfg(feature = "sign")]
pub use passphrase::{Passphrase, PassphraseError, PassphraseSource};
#[cfg(feature = "sign")]
pub use signer::{SignError, Signer};
