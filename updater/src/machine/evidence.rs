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
            (0, 0) => write!(
                f,
                "none is known to have mounted /var, so it failed in its boot loader entry, kernel, initrd or root file system"
            )?,
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
}
