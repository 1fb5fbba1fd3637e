//! What happened on this host, for `upright history` and `upright why`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upright_manifests::bytes::human;
use upright_manifests::name::Slot;
use upright_manifests::version::Version;

use super::event::{HealthReport, WayTaken};
use super::record::{Cause, Record};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub time: Timestamp,
    /// The release it happened to.
    pub version: Version,
    /// What.
    pub outcome: Outcome,
    /// The same again, with nothing in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// How often something happened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// How many times more.
    pub times: u32,
    /// When last.
    pub last: Timestamp,
}

/// What happened to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was written to the inactive slot and read back.
    Applied {
        /// How it came.
        way: WayTaken,
    },
    /// It could not be applied; the slot that runs was not touched.
    NotApplied {
        /// Why, in one line.
        reason: String,
    },
    /// It could not be applied yet; what came is kept, and the next attempt goes on there.
    Interrupted {
        /// Why, in one line.
        reason: String,
    },
    /// It proved healthy and is what this host runs from now on.
    Proven {
        /// How many boots the trial took.
        boots: u32,
        /// What the health checks said.
        report: HealthReport,
    },
    /// It was left for the other slot's release.
    RolledBack {
        /// Why.
        cause: Cause,
        /// What the health checks said, if they were the cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<HealthReport>,
        /// How many boots the trial had; none if it was already proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boots: Option<u32>,
    },
    /// It was left for the other slot's release, which then did not start.
    Stuck {
        /// Why it was left.
        cause: Cause,
    },
    /// It did not prove healthy, and there is nothing to go back to.
    Unhealthy {
        /// What the health checks said.
        report: HealthReport,
    },
    /// It was switched to again at an operator's word; its slot held it already.
    SwitchedBack,
    /// Its slot was damaged, and mended block by block.
    Repaired {
        /// What was done.
        repair: Repair,
    },
    /// It ran when a reset that an operator had asked for was carried out.
    Reset {
        /// What was done.
        reset: Reset,
    },
    /// What a newer agent wrote, before it was rolled back.
    #[serde(other)]
    Unknown,
}

/// What a reset did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reset {
    /// Whether `/var` was reset, too.
    pub var: bool,
    /// Whether what makes this host this one was kept.
    pub keep_identity: bool,
    /// What could not be done, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.var { "/etc and /var were" } else { "/etc was" };
        let kept = if self.keep_identity { ", and this host's identity kept" } else { "" };
        write!(f, "{what} reset to the image{kept}")?;
        self.left.iter().try_for_each(|line| write!(f, "; {line}"))
    }
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The slot.
    pub slot: Slot,
    /// Blocks of the image that were written.
    pub blocks: u64,
    /// How many of them were somewhere else on this host.
    pub here: u64,
    /// Blocks of the hash tree that were written, its superblock included.
    pub tree: u64,
    /// Whether the boot entry was composed again.
    #[serde(default)]
    pub entry: bool,
    /// Bytes that were fetched.
    pub fetched: u64,
    /// The medium that they came from, if it was not the server that sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
}

impl Repair {
    /// Nothing was done to a slot.
    pub fn nothing(slot: Slot) -> Self {
        Self { slot, blocks: 0, here: 0, tree: 0, entry: false, fetched: 0, medium: None }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, blocks, here, tree, entry, fetched, medium } = self;
        let entry = if *entry { ", and its boot entry," } else { "" };
        write!(
            f,
            "slot {slot} was damaged: {} of its image ({here} of them found on this host) and {tree} of its hash tree\
             {entry} were written anew, {} fetched",
            counted(*blocks),
            human(*fetched)
        )?;
        medium.as_ref().map_or(Ok(()), |medium| write!(f, " from {medium}"))
    }
}

/// So many blocks.
pub(crate) fn counted(blocks: u64) -> String {
    format!("{blocks} block{}", if blocks == 1 { "" } else { "s" })
}

impl HistoryEntry {
    /// How many entries are kept.
    pub const MOST: usize = 100;

    /// When it happened last.
    pub fn latest(&self) -> Timestamp {
        self.again.map_or(self.time, |again| again.last)
    }
}

impl fmt::Display for HistoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, version, outcome, again } = self;
        write!(f, "{time:.0}  {version}  {outcome}")?;
        again.map_or(Ok(()), |Again { times, last }| {
            write!(f, " (and {times} time{} more, last at {last:.0})", if times == 1 { "" } else { "s" })
        })
    }
}

impl Outcome {
    /// Whether it is an attempt that came to nothing, which each look at the server may repeat.
    fn is_attempt(&self) -> bool {
        matches!(self, Self::NotApplied { .. } | Self::Interrupted { .. })
    }
}

impl Record {
    /// Adds an entry, cut to what is kept of it, and drops the oldest ones above the limit. An attempt that ends as the one before is counted with it, and older
    /// attempts go before anything that tells what this host was given and has left.
    pub(crate) fn remember(&mut self, time: Timestamp, version: &Version, mut outcome: Outcome) {
        outcome.cut();
        match self.history.last_mut() {
            Some(last) if outcome.is_attempt() && last.version == *version && last.outcome == outcome => {
                let times = last.again.map_or(0, |again| again.times).saturating_add(1);
                last.again = Some(Again { times, last: time });
            }
            _ => self.history.push(HistoryEntry { time, version: version.clone(), outcome, again: None }),
        }
        while self.history.len() > HistoryEntry::MOST {
            let older = self.history.len() - 1;
            let attempt = self.history.iter().take(older).position(|entry| entry.outcome.is_attempt());
            self.history.remove(attempt.unwrap_or(0));
        }
    }

    /// Whether going back to a release is the last that was asked for it.
    pub(crate) fn was_asked_back(&self, version: &Version) -> bool {
        let last = self.history.iter().rfind(|entry| entry.version == *version);
        last.is_some_and(|entry| entry.outcome == Outcome::SwitchedBack)
    }

    /// What to do about `slot`, to which this host cannot go back.
    pub(crate) fn no_way_back(&self, slot: Slot) -> String {
        match self.lost.get(&slot) {
            Some(lost) => format!(
                "slot {slot} holds {}, which cannot be booted as it is; `upright repair` brings it back",
                lost.version
            ),
            None => format!("slot {slot} holds no complete release; `upright update` brings one there"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { way } if way.way == WayTaken::PRESENT => {
                write!(f, "its slot held it already; nothing was fetched or written")
            }
            Self::Applied { way } => {
                write!(
                    f,
                    "applied by {} ({} fetched, {} ms)",
                    way.way,
                    human(way.fetched),
                    way.milliseconds
                )?;
                way.medium.as_ref().map_or(Ok(()), |medium| write!(f, " from {medium}"))
            }
            Self::NotApplied { reason } => write!(f, "not applied: {reason}"),
            Self::Interrupted { reason } => {
                write!(f, "interrupted: {reason}; what came is kept, and the next attempt goes on there")
            }
            Self::Proven { boots: 1, .. } => write!(f, "proven healthy on its first boot"),
            Self::Proven { boots, .. } => write!(f, "proven healthy after {boots} boots"),
            Self::RolledBack { cause, .. } => write!(f, "rolled back: {cause}"),
            Self::Stuck { cause } => {
                write!(f, "still running although it was left ({cause}): the other slot does not start")
            }
            Self::Unhealthy { report } => match report.culprit() {
                Some(check) => write!(
                    f,
                    "health check {:?} failed ({}), but no other slot holds a release to go back to",
                    check.name, check.message
                ),
                None => write!(f, "not healthy, but no other slot holds a release to go back to"),
            },
            Self::SwitchedBack => write!(f, "switched to again by an operator"),
            Self::Repaired { repair } => write!(f, "{repair}"),
            Self::Reset { reset } => write!(f, "{reset}"),
            Self::Unknown => write!(f, "what this version of upright has no word for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn refused(reason: &str) -> Outcome {
        Outcome::NotApplied { reason: reason.to_owned() }
    }

    #[test]
    fn what_each_poll_repeats_does_not_push_out_what_happened() {
        let version: Version = "1.0.0".parse().unwrap();
        let mut record = Record::default();
        record.remember(at(0), &version, Outcome::SwitchedBack);
        for second in 1..=1000 {
            record.remember(at(second), &version, refused("too large"));
        }
        assert_eq!(record.history.len(), 2);
        let last = &record.history[1];
        assert_eq!((last.time, last.latest(), last.again.unwrap().times), (at(1), at(1000), 999));
        assert!(last.to_string().ends_with("(and 999 times more, last at 1970-01-01T00:16:40Z)"), "{last}");
        // With another reason each time, they go before what tells of releases.
        for second in 1001..=2000 {
            record.remember(at(second), &version, refused(&second.to_string()));
        }
        assert_eq!((record.history.len(), record.history[0].time), (HistoryEntry::MOST, at(0)));
        assert_eq!(record.history.last().unwrap().time, at(2000));
        // What happened twice did happen twice.
        record.remember(at(2001), &version, Outcome::SwitchedBack);
        record.remember(at(2002), &version, Outcome::SwitchedBack);
        assert!(record.history.iter().rev().take(2).all(|entry| entry.again.is_none()));
    }

    /// An agent that does not know the count reads the rest.
    #[test]
    fn an_entry_that_is_counted_has_the_fields_of_one_that_is_not() {
        let entry = |again| HistoryEntry {
            time: at(1),
            version: "1.0.0".parse().unwrap(),
            outcome: refused("x"),
            again,
        };
        let counted = serde_json::to_value(entry(Some(Again { times: 1, last: at(2) }))).unwrap();
        let mut once = counted.clone();
        once.as_object_mut().unwrap().remove("again");
        assert_eq!(once, serde_json::to_value(entry(None)).unwrap());
        assert_eq!(serde_json::from_value::<HistoryEntry>(once).unwrap(), entry(None));
        assert!(entry(Some(Again { times: 1, last: at(2) })).to_string().contains("and 1 time more"));
    }
}
