//! Why something could not be had from the repository, or not be trusted.

use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::channel::ChannelError;
use upright_manifests::digest::Digest;
use upright_manifests::name::ChannelName;
use upright_manifests::release::ReleaseError;
use upright_manifests::tuf::{Kind, TufError};
use upright_manifests::version::Version;

use crate::host::RemoteError;
use crate::store::StoreError;

/// Why something could not be had from the repository, or not be trusted.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server did not give it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The metadata cannot be trusted.
    #[error("the repository's metadata is refused: {0}")]
    Tuf(#[from] TufError),
    /// What is on a medium expired too long ago.
    #[error(
        "{document} on the medium expired at {expired}, and it is {now}; bring a newer export, or set `offline-expiry` in [update] \
         to how long ago it may have (now {}); if it is not that late, set this host's clock",
        if .within.is_zero() { "\"refuse\"".to_owned() } else { format!("{} h", .within.as_secs() / 3600) }
    )]
    TooOld {
        /// The document.
        document: String,
        /// When it expired.
        expired: Timestamp,
        /// The time.
        now: Timestamp,
        /// How long ago it may have expired.
        within: Duration,
    },
    /// This host's own copy of the metadata cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is longer or shorter than what was signed.
    #[error(
        "{path} has {found} bytes where {expected} are signed; the server is being updated or changes files"
    )]
    Length {
        /// The file.
        path: String,
        /// The length signed.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// A file that somebody copied is seen to be of another length than what was signed.
    #[error("{path} in {place} has {found} bytes where {expected} are signed")]
    Partial {
        /// The copy of the repository.
        place: String,
        /// The file.
        path: String,
        /// The length signed.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// A file is not what was signed.
    #[error(
        "{path} has sha256 {found} where {expected} is signed; the server is being updated or changes files"
    )]
    Hash {
        /// The file.
        path: String,
        /// The digest signed.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A signed file is larger than anything of its kind may be.
    #[error("{path} is signed with {length} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The file.
        path: String,
        /// The length signed.
        length: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A signed release manifest makes no sense.
    #[error("{path}: {source}")]
    Release {
        /// The file.
        path: String,
        /// What is wrong.
        source: ReleaseError,
    },
    /// A signed channel file makes no sense.
    #[error("{path}: {source}")]
    Channel {
        /// The file.
        path: String,
        /// What is wrong.
        source: ChannelError,
    },
    /// A signed document is about something else than its path says.
    #[error("{path} describes {found}, so the publisher made a mistake; nothing is taken from it")]
    Misplaced {
        /// The file.
        path: String,
        /// What it describes.
        found: String,
    },
    /// What a slot holds is not offered any more.
    #[error(
        "the repository does not offer {version} any more, so nothing of it can be had: `upright repair --from PATH` takes an export \
         that has it; a slot that does not run is written anew by the next update"
    )]
    NotPublished {
        /// The release.
        version: Version,
    },
    /// There is no such release.
    #[error("there is no {release}; `upright update` takes {offered}, which the channel points at")]
    NoRelease {
        /// Version, OS, architecture and channel, in words.
        release: String,
        /// What the channel points at.
        offered: Version,
    },
    /// A medium vouches for a release and does not have it.
    #[error("{place} has nothing of {version} but its manifest; {}", instead(place, others))]
    NotOnMedium {
        /// The medium.
        place: String,
        /// The release.
        version: Version,
        /// The newer releases than what runs that it has, newest first.
        others: Vec<Version>,
    },
    /// A medium has nothing of what a slot holds.
    #[error(
        "{place} has nothing of {version}, which this host has: bring what `upright-build export {version}` writes"
    )]
    NotBrought {
        /// The medium.
        place: String,
        /// The release.
        version: Version,
    },
    /// A medium was made for hosts of another channel.
    #[error(
        "{place} holds {}, and this host follows channel {channel}: bring what `upright-build export --channel {channel}` writes; what \
         this host follows is said by `upright channel`, or `channel` in [update] of its configuration",
        channels(has)
    )]
    OtherChannel {
        /// The medium.
        place: String,
        /// What the host follows.
        channel: ChannelName,
        /// What the medium has.
        has: Vec<ChannelName>,
    },
    /// A channel points at another manifest of its release than the one that is listed.
    #[error(
        "{path} is not the manifest that channel {channel} names, so the publisher made a mistake; nothing is taken"
    )]
    OtherManifest {
        /// The manifest that is listed.
        path: String,
        /// The channel.
        channel: ChannelName,
    },
}

impl FetchError {
    /// Whether the same may well succeed later without anyone doing anything on this host.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Remote(error) => !matches!(error, RemoteError::Protocol { .. }),
            Self::Tuf(error) => error.kind() == Kind::NotFound,
            Self::NoRelease { .. }
            | Self::NotPublished { .. }
            | Self::NotOnMedium { .. }
            | Self::NotBrought { .. }
            | Self::OtherChannel { .. } => true,
            _ => false,
        }
    }

    /// Whether it is this host that cannot be worked on.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Tuf(error) => error.kind() == Kind::Stored,
            _ => false,
        }
    }
}

/// Channels in words.
fn channels(names: &[ChannelName]) -> String {
    let names: Vec<&str> = names.iter().map(ChannelName::as_str).collect();
    format!("channel{} {}", if names.len() > 1 { "s" } else { "" }, names.join(", "))
}

/// What to do where a medium has other releases.
fn instead(place: &str, others: &[Version]) -> String {
    let command = |version: &Version| format!("`upright update --from {place} --version {version}`");
    match others {
        [] => "bring an export that has it".to_owned(),
        others => {
            let names: Vec<&str> = others.iter().map(Version::as_str).collect();
            let commands: Vec<String> = others.iter().map(command).collect();
            format!("it has {}, which {} takes", names.join(", "), commands.join(" or "))
        }
    }
}
