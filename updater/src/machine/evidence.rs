//! What trial boots left behind that came to no end of their own: the old release tells from it how far the new one got.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of the boots of a trial that were used up. What is not known is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The ids of the boots whose initrd mounted this host's state, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<String>,
    /// In how many boots the agent started.
    #[serde(default)]
    pub agent: u32,
    /// What the kernel said when it panicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<String>,
    /// Whether the hardware watchdog ended the last boot.
    #[serde(default)]
    pub watchdog: bool,
    /// What is damaged in the release's slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Why boots that mounted this host's state may have left no note of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// Why notes may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// Nothing can be written where they are kept.
    ReadOnly,
    /// There is no room for them.
    Full,
    /// What says whose boots are to be noted is not there.
    Unnamed,
    /// They are there and cannot be read.
    Unreadable,
    /// What a newer agent wrote, before it was rolled back.
    #[serde(other)]
    Unknown,
}

/// What the place is like where boots of a trial are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotesPlace {
    /// Whether anything can be written there.
    pub writable: bool,
    /// How many bytes are free, and how many files may be added.
    pub room: (u64, u64),
    /// Whether the release on trial is named there.
    pub named: bool,
    /// Whether what is there can be read.
    pub readable: bool,
}

impl NotesPlace {
    /// With less room than this, in bytes, a note may not have found any: what is free now was less while an update was written.
    const ENOUGH: u64 = 64 << 10;

    /// Whether there is a reason for notes to be missing other than that no boot came to write them.
    pub fn doubt(self) -> Option<Doubt> {
        match self {
            Self { writable: false, .. } => Some(Doubt::ReadOnly),
            Self { readable: false, .. } => Some(Doubt::Unreadable),
            Self { room: (bytes, files), .. } if bytes < Self::ENOUGH || files == 0 => Some(Doubt::Full),
            Self { named: false, .. } => Some(Doubt::Unnamed),
            _ => None,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "it could not note its boots, since /var/lib/upright cannot be written",
            Self::Full => "there was no room for notes of its boots, since /var is full",
            Self::Unnamed => {
                "its boots were not noted, since /var/lib/upright/trial, which names it, is not there"
            }
            Self::Unreadable => "the notes of its boots, /var/lib/upright/trial-boots, cannot be read",
            Self::Unknown => "the notes of its boots are missing for another reason",
        })
    }
}

impl Evidence {
    /// The last boot that may be in the journal.
    pub fn last_boot(&self) -> Option<&str> {
        self.mounted.last().map(String::as_str)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.agent, self.mounted.len()) {
            (0, 0) => {
                const EARLY: &str = "failed in its boot loader entry, kernel, initrd or root file system";
                match self.doubt {
                    None => write!(f, "none is known to have mounted /var, so it {EARLY}")?,
                    Some(doubt) => write!(
                        f,
                        "none is known to have mounted /var: it may have {EARLY}, or come further: {doubt}"
                    )?,
                }
            }
            (0, mounted) => write!(
                f,
                "{mounted} mounted /var and none reached the agent, so it failed while its system started"
            )?,
            (agent, _) => write!(f, "the agent started in {agent}, and the health checks did not end")?,
        }
        if let Some(panic) = &self.panic {
            write!(f, "; the kernel said: {panic}")?;
        }
        if self.watchdog {
            write!(f, "; the last one hung until the hardware watchdog ended it")?;
        }
        if let Some(damage) = &self.damage {
            write!(f, "; {damage}")?;
        }
        match self.last_boot() {
            Some(boot) => write!(f, "; see `journalctl --boot={boot}`"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let mut evidence = Evidence::default();
        assert!(evidence.to_string().starts_with("none is known to have mounted /var"), "{evidence}");
        assert!(!evidence.to_string().contains(';'), "{evidence}");
        evidence.doubt = Some(Doubt::Full);
        let said = "none is known to have mounted /var: it may have failed in its boot loader entry, kernel, initrd or root file \
                    system, or come further: there was no room for notes of its boots, since /var is full";
        assert_eq!(evidence.to_string(), said);
        evidence.mounted = vec!["11".to_owned(), "22".to_owned()];
        assert!(evidence.to_string().starts_with("2 mounted /var and none reached the agent"), "{evidence}");
        assert!(evidence.to_string().ends_with("; see `journalctl --boot=22`"), "{evidence}");
        evidence.agent = 1;
        evidence.panic = Some("Kernel panic - not syncing: x".to_owned());
        evidence.watchdog = true;
        evidence.damage = Some("slot b is damaged".to_owned());
        let said = "the agent started in 1, and the health checks did not end; the kernel said: Kernel panic - not syncing: x; \
                    the last one hung until the hardware watchdog ended it; slot b is damaged; see `journalctl --boot=22`";
        assert_eq!(evidence.to_string(), said);
    }

    #[test]
    fn notes_are_missed_only_where_they_could_have_been_written() {
        let fine = NotesPlace { writable: true, room: (1 << 30, 1000), named: true, readable: true };
        assert_eq!(fine.doubt(), None);
        for (place, doubt) in [
            (NotesPlace { writable: false, ..fine }, Doubt::ReadOnly),
            (NotesPlace { readable: false, ..fine }, Doubt::Unreadable),
            (NotesPlace { room: (4095, 1000), ..fine }, Doubt::Full),
            (NotesPlace { room: (1 << 30, 0), ..fine }, Doubt::Full),
            (NotesPlace { named: false, ..fine }, Doubt::Unnamed),
        ] {
            assert_eq!(place.doubt(), Some(doubt), "{place:?}");
        }
        // What a newer agent has found out is none of an older one's words.
        let newer = serde_json::from_str::<Evidence>(r#"{ "doubt": "eaten-by-mice" }"#).unwrap();
        assert_eq!(newer.doubt, Some(Doubt::Unknown));
    }
}
