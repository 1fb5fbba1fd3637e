//! Why a release could not be installed.

use std::io;

use upright_manifests::chunks::{IndexError, PlanError};
use upright_manifests::delta::{self, SegmentError};
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::payload::{self, FrameError};
use upright_manifests::verity::VerityError;
use upright_manifests::version::Version;

use crate::fetch::FetchError;
use crate::state::StateError;
use crate::store::StoreError;

/// Why a release could not be installed. The slot that runs was not touched.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It does not fit; nothing was erased.
    #[error(
        "{version} needs {needed} bytes in {place}, which has {available}: {missing} bytes too few; nothing was changed, and this host needs more room or a smaller release"
    )]
    NoRoom {
        /// The release.
        version: Version,
        /// The partition or file system.
        place: String,
        /// What it needs, in bytes.
        needed: u64,
        /// What there is, in bytes.
        available: u64,
        /// What is missing, in bytes.
        missing: u64,
    },
    /// There is no room to compose its boot entry again; what is there was left as it is.
    #[error(
        "the boot entry of {version} needs {needed} bytes in the ESP, which has {available}: {missing} bytes too few; it was left as it is: \
         remove from the ESP what is not needed to boot, then `upright repair`; if it is that of what runs, `upright rollback` leaves it"
    )]
    NoRoomForEntry {
        /// The release.
        version: Version,
        /// What it needs, in bytes.
        needed: u64,
        /// What there is, in bytes.
        available: u64,
        /// What is missing, in bytes.
        missing: u64,
    },
    /// What it declares as versioned cannot be kept for each slot; what runs was not touched.
    #[error(
        "{version} is not switched to: {source}; `upright plan` shows what is versioned; this host stays with what runs"
    )]
    State {
        /// The release.
        version: Version,
        /// Why.
        source: StateError,
    },
    /// The firmware would not start it; nothing was erased.
    #[error(
        "{version} would not start here: this machine enforces Secure Boot, and {reason}; nothing was changed; build it with \
         [secure-boot] in upright.toml and a key whose certificate is enrolled here"
    )]
    Unsigned {
        /// The release.
        version: Version,
        /// What is wrong with its signature.
        reason: &'static str,
    },
    /// A partition cannot be read or written.
    #[error("cannot {what}: {source}")]
    Device {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest's dm-verity parameters contradict each other.
    #[error("{version} has impossible dm-verity parameters: {source}")]
    Verity {
        /// The release.
        version: Version,
        /// What is wrong.
        source: VerityError,
    },
    /// The slot does not hold what was written, or what was written is not what was signed.
    #[error(
        "slot {slot} has root hash {found} after {version} was written by {way}, {expected} is signed; the disk loses writes, or the publisher made a mistake"
    )]
    ReadBack {
        /// The slot.
        slot: Slot,
        /// The release.
        version: Version,
        /// How it was written.
        way: String,
        /// The root hash signed.
        expected: Digest,
        /// The root hash found.
        found: Digest,
    },
    /// The hash tree on the slot is not the one that was written.
    #[error(
        "the hash tree of slot {slot} does not read back as it was written (block {block}); the disk loses writes"
    )]
    Tree {
        /// The slot.
        slot: Slot,
        /// The block of the partition.
        block: u64,
    },
    /// The staged UKI is not the one that was signed.
    #[error(
        "the UKI of {version} has sha256 {found} on the ESP, {expected} is signed; the ESP loses writes, or the publisher made a mistake"
    )]
    Uki {
        /// The release.
        version: Version,
        /// The digest signed.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A slot is too damaged to be mended block by block.
    #[error("slot {slot} cannot be mended: {reason}")]
    Beyond {
        /// The slot.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// What a slot lacks could not be had.
    #[error("slot {slot} cannot be mended: {source}")]
    Mend {
        /// The slot.
        slot: Slot,
        /// Why.
        source: WayError,
    },
    /// No way led to the release.
    #[error("no way led to {version}: {}", reasons(.ways))]
    NoWay {
        /// The release.
        version: Version,
        /// Each way that was tried and why it failed.
        ways: Vec<(String, WayError)>,
    },
    /// The UKI could not be made.
    #[error("the UKI of {version} could not be made: {source}")]
    Compose {
        /// The release.
        version: Version,
        /// Why.
        source: WayError,
    },
    /// The progress could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn reasons(ways: &[(String, WayError)]) -> String {
    let reasons: Vec<String> = ways.iter().map(|(way, error)| format!("by {way}: {error}")).collect();
    reasons.join("; ")
}

impl ApplyError {
    /// Whether it is this host that cannot be worked on: a partition or the state that cannot be written.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Device { .. } | Self::Store(_) | Self::Tree { .. } => true,
            Self::State { source, .. } => matches!(source, StateError::Io { .. } | StateError::InMemory),
            Self::NoWay { ways, .. } => ways.iter().any(|(_, error)| error.is_local()),
            Self::Compose { source, .. } | Self::Mend { source, .. } => source.is_local(),
            _ => false,
        }
    }

    /// Whether a medium was taken out, which is told with what to do.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NoWay { ways, .. } => ways.iter().any(|(_, error)| error.is_gone()),
            Self::Compose { source, .. } | Self::Mend { source, .. } => source.is_gone(),
            _ => false,
        }
    }

    /// Whether a file on a medium cannot be read.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::NoWay { ways, .. } => ways.iter().any(|(_, error)| error.is_unreadable()),
            Self::Compose { source, .. } | Self::Mend { source, .. } => source.is_unreadable(),
            _ => false,
        }
    }

    /// Whether a copy of the repository is not whole.
    pub fn is_partial(&self) -> bool {
        match self {
            Self::NoWay { ways, .. } => ways.iter().any(|(_, error)| error.is_partial()),
            Self::Compose { source, .. } | Self::Mend { source, .. } => source.is_partial(),
            _ => false,
        }
    }

    /// Whether it is the line or the server, so that another try can go on where this one stopped.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoWay { ways, .. } => ways.iter().any(|(_, error)| error.is_temporary()),
            Self::Compose { source, .. } | Self::Mend { source, .. } => source.is_temporary(),
            _ => false,
        }
    }
}

/// Why one way failed. Another may lead there.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// Something could not be fetched, or is not what was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The payload's head is not acceptable.
    #[error(transparent)]
    PayloadHead(#[from] payload::HeadError),
    /// A frame is not acceptable.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The delta's head is not acceptable.
    #[error(transparent)]
    DeltaHead(#[from] delta::HeadError),
    /// A segment is not acceptable.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The chunk index is not acceptable.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Index and payload do not belong together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What is fetched is for something else.
    #[error("it is made for another {0}")]
    Other(&'static str),
    /// No slot has a hash tree with the release's salt.
    #[error("neither slot has a hash tree to look in")]
    NothingToUse,
    /// The slots hold so little of it that everything in one is less.
    #[error("what the slots lack has {needed} bytes with its index, the full payload {full}")]
    Dearer {
        /// What would be fetched.
        needed: u64,
        /// What the full payload has.
        full: u64,
    },
    /// A slot that blocks are taken from cannot be read.
    #[error("cannot {what}: {source}")]
    Source {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A device could not be read or written.
    #[error("cannot {what}: {source}")]
    Device {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A UKI that is made is not the one that was signed.
    #[error(
        "what the slot's image makes of it has sha256 {found}, {expected} is signed; a block that it is made of is damaged, or the publisher made a mistake"
    )]
    Composed {
        /// The digest signed.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The slot does not hold what was written, or what was written is not what was signed.
    #[error("the slot reads back with root hash {found}, {expected} is signed")]
    ReadBack {
        /// The root hash signed.
        expected: Digest,
        /// The root hash found.
        found: Digest,
    },
}

impl WayError {
    /// Whether it is the line or the server.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_temporary())
    }

    /// Whether a medium was taken out.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Remote(error)) if error.is_gone())
    }

    /// Whether a file on a medium cannot be read.
    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Remote(error)) if error.is_unreadable())
    }

    /// Whether a copy of the repository is not whole.
    fn is_partial(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Partial { .. }))
    }

    /// Whether this host's disk does not take what is written.
    fn is_local(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::Segment(SegmentError::Write(_)))
    }

    /// Whether it would keep any other way from leading anywhere, too.
    pub(super) fn concerns_all_ways(&self) -> bool {
        match self {
            Self::Fetch(FetchError::Remote(error)) => !error.is_final() || error.is_gone(),
            _ => self.is_local(),
        }
    }

    /// A slot that is not being written could not be read while trying to do `what`.
    pub(super) fn source(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Source { what, source }
    }

    /// The slot that is being written could not be read or written while trying to do `what`.
    pub(super) fn device(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Device { what, source }
    }
}
