//! Why a document is refused, and what to do about it.

use jiff::Timestamp as Time;
use upright_keys::ThresholdError;

use super::names;
use super::schema::HashError;

/// A document that a repository served, or that the host had stored, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{document}: {problem}{}", remedy(document, problem))]
pub struct TufError {
    /// The file's name, such as `3.root.json`; for a target that was not found, the target path.
    pub document: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not a document of its kind.
    #[error(
        "malformed: {0}; the server may be answering with something else, or the publisher made a mistake"
    )]
    Malformed(String),
    /// Too few of the role's keys have signed it.
    #[error(
        "not signed by those whom {delegator} appoints: {error}; it was not made by this host's publisher"
    )]
    Signatures {
        /// The document that appoints the keys.
        delegator: String,
        /// How many signatures are valid and needed.
        error: ThresholdError,
    },
    /// Older than what the host has seen.
    #[error(
        "rolled back: {what} is {offered}, but this host has seen {seen}; the server is stale or hostile"
    )]
    Rollback {
        /// What went back.
        what: String,
        /// The version offered.
        offered: u64,
        /// The version seen.
        seen: u64,
    },
    /// A role that was listed is not listed any more.
    #[error(
        "rolled back: {role} is no longer listed; the server is hostile, or the publisher must rotate the snapshot key to remove a role"
    )]
    Removed {
        /// The role's file name.
        role: String,
    },
    /// Another version than asked for.
    #[error("is version {found}, but version {expected} was announced; the server mixes two publications")]
    Version {
        /// The version announced.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// Its time is over.
    #[error(
        "expired at {expired}, and it is {now}; this host's clock is wrong, or the publisher must sign it anew"
    )]
    Expired {
        /// When it expired.
        expired: Time,
        /// The time of the refresh.
        now: Time,
    },
    /// Another length than signed.
    #[error(
        "has {found} bytes where {expected} are signed; the server mixes two publications or cut it short"
    )]
    Length {
        /// The length signed.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// Other content than signed.
    #[error("{0}; the server mixes two publications or changed the file")]
    Hash(HashError),
    /// Longer than allowed.
    #[error("has {found} bytes or more, {limit} are allowed")]
    TooLong {
        /// The limit in bytes.
        limit: u64,
        /// The length found or announced.
        found: u64,
    },
    /// The server does not have it.
    #[error("does not exist on the server; the publication is incomplete, or the address is wrong")]
    NotFound,
    /// A role that is delegated to is not in the snapshot.
    #[error("not listed in the snapshot though a role delegates to it; the publication is incomplete")]
    NotListed,
    /// A chain of new roots without end.
    #[error("comes after {0} other new roots in one refresh; the next refresh goes on from the last of them")]
    TooManyRoots(u32),
    /// Too many delegated roles for one search.
    #[error("looking for it would visit more than {0} delegated roles")]
    TooManyDelegations(usize),
    /// No role that may speak for the target lists it.
    #[error(
        "not among the targets that the publisher has signed; check the names of OS, channel and version"
    )]
    UnknownTarget,
    /// Lists a target in a way that cannot be fetched.
    #[error("its entry has no usable hash; sha256 or sha512 in hexadecimal digits is needed")]
    Unusable,
    /// There is no root to start from.
    #[error(
        "there is no root to trust; put the publisher's root.json where the image should have brought it"
    )]
    NoTrust,
    /// What the host had stored is damaged.
    #[error(
        "the stored copy is damaged ({0}), and trust is not guessed at; `upright reset-trust` starts again from the \
         root.json that came with the image"
    )]
    Stored(Box<Problem>),
}

/// The kinds of problem, for exit codes, metrics and decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Signatures are missing or wrong.
    Signature,
    /// Something went back to an older version.
    Rollback,
    /// Something has expired.
    Expired,
    /// A length, hash or version differs from what was signed.
    Mismatch,
    /// Not a document, or beyond a limit.
    Malformed,
    /// A file or target does not exist.
    NotFound,
    /// What the host itself stored is damaged.
    Stored,
}

/// The publisher's command that signs `roles` anew, each by the name that the metadata has for it; the online ones always
/// are.
pub fn refresh_command<'a>(roles: impl IntoIterator<Item = &'a str>) -> String {
    let offline = roles.into_iter().filter(|role| !matches!(*role, "snapshot" | "timestamp"));
    let flags = offline.map(|role| format!(" --role {}", names::short(role)));
    std::iter::once("upright-build refresh".to_owned()).chain(flags).collect()
}

/// What the error cannot say without the document's name.
fn remedy(document: &str, problem: &Problem) -> String {
    match problem {
        Problem::Expired { .. } => {
            format!(" with `{}`", refresh_command(names::role_of(document)))
        }
        _ => String::new(),
    }
}

impl TufError {
    /// Which kind of problem it is.
    pub fn kind(&self) -> Kind {
        self.problem.kind()
    }

    pub(super) fn new(document: impl Into<String>, problem: Problem) -> Self {
        Self { document: document.into(), problem }
    }
}

impl Problem {
    /// Which kind of problem it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_)
            | Self::TooLong { .. }
            | Self::TooManyRoots(_)
            | Self::TooManyDelegations(_)
            | Self::Unusable => Kind::Malformed,
            Self::Signatures { .. } => Kind::Signature,
            Self::Rollback { .. } | Self::Removed { .. } => Kind::Rollback,
            Self::Version { .. } | Self::Length { .. } | Self::Hash(_) => Kind::Mismatch,
            Self::Expired { .. } => Kind::Expired,
            Self::NotFound | Self::NotListed | Self::UnknownTarget => Kind::NotFound,
            Self::Stored(_) | Self::NoTrust => Kind::Stored,
        }
    }
}

impl Kind {
    /// Whether the same request may well succeed later without anyone doing anything on this host: the
    /// server's files may be caught in the middle of a publication, or the publisher be late.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Expired | Self::Mismatch | Self::NotFound | Self::Malformed)
    }
}
