//! Which release to take: the channel's, unless something speaks against it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, OsName};
use upright_manifests::release::Release;
use upright_manifests::version::Version;

use super::wave;
use crate::machine::BadRelease;

/// What the decision needs to know about the host.
#[derive(Debug, Clone)]
pub struct HostFacts<'a> {
    /// The OS it runs.
    pub os: &'a OsName,
    /// Its architecture.
    pub arch: Arch,
    /// Its machine id.
    pub machine_id: &'a str,
    /// The version it runs.
    pub version: &'a Version,
    /// The dm-verity root hash of the image it runs.
    pub root_hash: &'a Digest,
    /// Releases that it must not try again.
    pub bad: &'a [BadRelease],
    /// Why an operator holds this host back, if one does.
    pub hold: Option<&'a str>,
    /// When the timestamp expires that vouches for what is offered.
    pub good_until: Timestamp,
}

/// What to do about the channel's release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// The host runs it.
    UpToDate {
        /// The version that runs.
        version: Version,
        /// What the channel offers, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offered: Option<Version>,
    },
    /// Take it.
    Take {
        /// The version to take.
        version: Version,
    },
    /// Take the release it must pass through first.
    TakeFirst {
        /// The version to take first.
        floor: Version,
        /// The version the channel points at.
        version: Version,
    },
    /// Not yet.
    Wait {
        /// The version that waits.
        version: Version,
        /// What it waits for.
        #[serde(flatten)]
        wait: Wait,
    },
    /// Not on this host, until something changes.
    Refuse {
        /// The version that is refused.
        version: Version,
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
    },
}

/// What a release waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "waits_for", rename_all = "kebab-case")]
pub enum Wait {
    /// The host's wave, which starts at `from`; `None` if no wave reaches this host yet.
    Wave {
        /// When the wave starts.
        from: Option<Timestamp>,
    },
    /// The publisher holds the release back.
    ChannelHold {
        /// Why, in the publisher's words.
        reason: String,
    },
    /// An operator holds this host back.
    HostHold {
        /// Why, in the operator's words.
        reason: String,
    },
}

/// Why a release is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Refusal {
    /// It was rolled back on this host.
    Bad {
        /// When and why.
        bad: BadRelease,
    },
    /// It is older than what runs, and no operator asked for that.
    Downgrade {
        /// The version that runs.
        running: Version,
    },
    /// It is for another OS.
    OtherOs {
        /// The OS it is for.
        theirs: OsName,
        /// The OS of this host.
        ours: OsName,
    },
    /// It is for another architecture.
    OtherArch {
        /// The architecture it is for.
        theirs: Arch,
        /// The architecture of this host.
        ours: Arch,
    },
    /// It is of a time at which nothing that is signed now will be good. Hosts never take it to be earlier than the image
    /// that runs was made, so one that ran it would take no update any more.
    Future {
        /// The release's time.
        time: Timestamp,
        /// When the metadata expires that offers it.
        until: Timestamp,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpToDate { version, offered: None } => {
                write!(f, "{version} is what the channel offers; nothing to do")
            }
            Self::UpToDate { version, offered: Some(offered) } => {
                write!(f, "{version} runs already, and the channel offers {offered}; nothing to do")
            }
            Self::Take { version } => write!(f, "{version} is available"),
            Self::TakeFirst { floor, version } => {
                write!(f, "{floor} is taken first, because {version} can only follow it")
            }
            Self::Wait { version, wait } => write!(f, "{version} waits: {wait}"),
            Self::Refuse { version, refusal } => write!(f, "{version} is refused: {refusal}"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wave { from: Some(from) } => write!(
                f,
                "this host's wave starts at {from}; `upright update --now` does not wait for the wave"
            ),
            Self::Wave { from: None } => {
                write!(f, "no wave reaches this host yet; `upright update --now` does not wait for the wave")
            }
            Self::ChannelHold { reason } => write!(f, "the publisher holds it back ({reason})"),
            Self::HostHold { reason } => {
                write!(f, "this host is held back ({reason}); remove `hold` from its config to go on")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { bad } => write!(
                f,
                "it was rolled back on this host at {} ({}); `upright update --retry` tries it again",
                bad.time, bad.reason
            ),
            Self::Downgrade { running } => write!(
                f,
                "it is older than {running}, which runs; `upright update --allow-downgrade` takes it all the same"
            ),
            Self::OtherOs { theirs, ours } => {
                write!(
                    f,
                    "it is a release of {theirs} and this host runs {ours}; check the repository's address"
                )
            }
            Self::OtherArch { theirs, ours } => {
                write!(f, "it is built for {theirs} and this host is {ours}; check the repository's address")
            }
            Self::Future { time, until } => write!(
                f,
                "it is of {time}, and what offers it is good until {until}: a host that ran it would take every update for \
                 expired; the publisher must build it under a new version with an earlier --time"
            ),
        }
    }
}

/// What an operator asked for beyond what policy would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Do not wait for the wave or a hold.
    pub now: bool,
    /// Try a release again that was rolled back here.
    pub retry: bool,
    /// Take an older release than the one that runs.
    pub allow_downgrade: bool,
}

/// Decides about `release`, which `channel` points at.
pub fn choose(
    host: &HostFacts<'_>,
    channel: &Channel,
    release: &Release,
    now: Timestamp,
    overrides: Overrides,
) -> Decision {
    let version = release.version.clone();
    if let Some(refusal) = wrong_kind(host, release) {
        return Decision::Refuse { version, refusal };
    }
    if release.root.verity.root_hash == *host.root_hash {
        let offered = Some(&channel.version).filter(|offered| **offered != version).cloned();
        return Decision::UpToDate { version, offered };
    }
    if let Some(refusal) =
        of_the_future(release, host.good_until).or_else(|| refused_here(host, release, overrides))
    {
        return Decision::Refuse { version, refusal };
    }
    if !overrides.now
        && let Some(wait) = waits_for(host, channel, release, now)
    {
        return Decision::Wait { version, wait };
    }
    match &release.floor {
        Some(floor) if floor.is_newer_than(host.version) => {
            Decision::TakeFirst { floor: floor.clone(), version }
        }
        _ => Decision::Take { version },
    }
}

/// Whether the release is for another kind of host; no operator can override that.
fn wrong_kind(host: &HostFacts<'_>, release: &Release) -> Option<Refusal> {
    if release.os != *host.os {
        return Some(Refusal::OtherOs { theirs: release.os.clone(), ours: host.os.clone() });
    }
    (release.arch != host.arch).then_some(Refusal::OtherArch { theirs: release.arch, ours: host.arch })
}

/// What to do about a floor that must be taken before `version`, once its manifest is known.
pub fn take_first(floor: &Release, version: Version, until: Timestamp) -> Decision {
    match of_the_future(floor, until) {
        Some(refusal) => Decision::Refuse { version: floor.version.clone(), refusal },
        None => Decision::TakeFirst { floor: floor.version.clone(), version },
    }
}

/// Whether a host that ran the release would take the metadata that offers it, good until `until`, for expired; no operator
/// can override that.
fn of_the_future(release: &Release, until: Timestamp) -> Option<Refusal> {
    (release.time >= until).then_some(Refusal::Future { time: release.time, until })
}

fn refused_here(host: &HostFacts<'_>, release: &Release, overrides: Overrides) -> Option<Refusal> {
    let bad = host.bad.iter().find(|bad| bad.root_hash == release.root.verity.root_hash);
    if let Some(bad) = bad.filter(|_| !overrides.retry) {
        return Some(Refusal::Bad { bad: bad.clone() });
    }
    (host.version.is_newer_than(&release.version) && !overrides.allow_downgrade)
        .then(|| Refusal::Downgrade { running: host.version.clone() })
}

fn waits_for(host: &HostFacts<'_>, channel: &Channel, release: &Release, now: Timestamp) -> Option<Wait> {
    if let Some(reason) = host.hold {
        return Some(Wait::HostHold { reason: reason.to_owned() });
    }
    if let Some(reason) = &channel.hold {
        return Some(Wait::ChannelHold { reason: reason.clone() });
    }
    let place = wave::place(host.machine_id, &release.root.verity.root_hash);
    match wave::open_from(&channel.waves, place) {
        Some(from) if from <= now => None,
        from => Some(Wait::Wave { from }),
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
