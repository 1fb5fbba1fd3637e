//! Teams: who signs some of the channels with keys of their own, and nothing else.
//!
//! A team's channels are compartments: what it signs, and the releases listed for it, are those of its channels alone
//! (`docs/design/0008-compartments.md`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use upright_manifests::name::ChannelName;

use super::{Config, Misfit, Role, SignerCommand, default_threshold};

/// A team, its channels and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Team {
    /// The channels that it signs, and nobody else.
    pub channels: Vec<ChannelName>,
    /// As in [`Role`].
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// As in [`Role`].
    #[serde(default)]
    pub signers: Vec<SignerCommand>,
    /// As in [`Role`].
    #[serde(default = "default_threshold")]
    pub threshold: u32,
    /// As in [`Role`].
    #[serde(default = "default_days")]
    pub days: u32,
}

fn default_days() -> u32 {
    90
}

impl Team {
    /// Its keys, as a role's.
    pub fn role(&self) -> Role {
        Role {
            keys: self.keys.clone(),
            signers: self.signers.clone(),
            threshold: self.threshold,
            days: self.days,
        }
    }
}

impl Config {
    /// What the names of this OS's team roles start with, which those of no other OS or architecture do.
    pub fn team_prefix(&self) -> String {
        format!("{}.{}.", self.os, self.arch)
    }

    /// The name that metadata has for a team's role.
    pub fn team_role(&self, team: &str) -> String {
        format!("{}{team}", self.team_prefix())
    }

    /// Whether a role of the metadata is, or was, a team of this OS and architecture.
    pub fn is_team(&self, role: &str) -> bool {
        role.starts_with(&self.team_prefix())
    }

    /// The name that `upright.toml` has for a role of the metadata.
    pub fn short_name<'a>(&self, role: &'a str) -> &'a str {
        role.strip_prefix(&self.team_prefix()).unwrap_or(role)
    }

    /// The role that signs `channel`.
    pub fn signing_role(&self, channel: &ChannelName) -> String {
        let team = self.teams.iter().find(|(_, team)| team.channels.contains(channel));
        team.map_or_else(|| "targets".to_owned(), |(name, _)| self.team_role(name))
    }

    /// The channel itself, if its releases are listed apart from those of others.
    pub fn compartment(&self, channel: &ChannelName) -> Option<ChannelName> {
        self.teams.values().any(|team| team.channels.contains(channel)).then(|| channel.clone())
    }

    /// The target paths that a team signs, as patterns.
    pub fn team_paths(&self, team: &Team) -> Vec<String> {
        let (os, arch) = (&self.os, self.arch);
        let paths = team.channels.iter().flat_map(|channel| {
            [format!("channels/{os}/{arch}/{channel}.json"), format!("releases/{os}/{arch}/{channel}/*.json")]
        });
        paths.collect()
    }

    /// All roles by the names that metadata has for them: the top-level ones, then the teams'.
    pub fn all_roles(&self) -> Vec<(String, Role)> {
        let top = self.roles().into_iter().map(|(name, role)| (name.to_owned(), role.clone()));
        top.chain(self.teams.iter().map(|(name, team)| (self.team_role(name), team.role()))).collect()
    }

    pub(super) fn check_teams(&self) -> Result<(), Misfit> {
        let mut taken = BTreeSet::new();
        for (name, team) in &self.teams {
            let table = format!("teams.{name}");
            let refuse = |key, message| Err(Misfit::new(table.as_str(), key, message));
            // A channel's name will do for a team's: it may stand in a role's name and on the command line.
            if name.parse::<ChannelName>().is_err() || self.roles().iter().any(|(role, _)| role == name) {
                let message =
                    format!("`{table}` is not a team's name; expected a-z, 0-9 and -, and not a role's name");
                return refuse("", message);
            }
            team.role().check(&table)?;
            if team.channels.is_empty() {
                return refuse("channels", format!("`{table}.channels` is empty; expected at least one"));
            }
            for channel in &team.channels {
                if !self.channels.contains(channel) {
                    let message = format!("`{table}` signs {channel}, which is not in `channels`");
                    return refuse("channels", message);
                }
                if !taken.insert(channel) {
                    let message = format!("{channel} has two teams; a channel is signed by one");
                    return refuse("channels", message);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse, written};

    fn with(teams: &str) -> String {
        written().replacen("channels = [\"stable\"]", "channels = [\"stable\", \"beta\", \"edge\"]", 1)
            + teams
    }

    #[test]
    fn a_team_signs_its_channels_and_no_others() {
        let text = with("[teams.beta]\nchannels = [\"beta\", \"edge\"]\nkeys = [\"keys/beta.pem\"]\n");
        let config = parse(&text).unwrap();
        let role = |channel: &str| config.signing_role(&channel.parse().unwrap());
        assert_eq!([role("stable"), role("beta")], ["targets".to_owned(), "acme.x86-64.beta".to_owned()]);
        assert_eq!(config.compartment(&"stable".parse().unwrap()), None);
        assert_eq!(config.compartment(&"edge".parse().unwrap()), "edge".parse().ok());
        assert_eq!(
            config.team_paths(&config.teams["beta"])[..2],
            ["channels/acme/x86-64/beta.json", "releases/acme/x86-64/beta/*.json"]
        );
        assert_eq!((config.teams["beta"].threshold, config.teams["beta"].days), (1, 90));
    }

    #[test]
    fn teams_that_make_no_sense_are_refused() {
        for (teams, expected) in [
            ("[teams.root]\nchannels = [\"beta\"]\n", "`teams.root` is not a team's name"),
            ("[teams.\"a.b\"]\nchannels = [\"beta\"]\n", "is not a team's name; expected a-z, 0-9 and -"),
            ("[teams.qa]\nchannels = []\n", "`teams.qa.channels` is empty"),
            ("[teams.qa]\nchannels = [\"nightly\"]\n", "signs nightly, which is not in `channels`"),
            ("[teams.qa]\nchannels = [\"beta\"]\ndays = 0\n", ": `teams.qa.days` is 0; expected 1 or more"),
            ("[teams.a]\nchannels=[\"beta\"]\n[teams.b]\nchannels=[\"beta\"]\n", "beta has two teams"),
            ("[teams.qa]\nchannel = [\"beta\"]\n", "unknown field `channel`"),
        ] {
            let error = parse(&with(teams)).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
    }
}
