//! Asking the repository what there is, and deciding about it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use upright_manifests::channel::Channel;
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, ChannelName, OsName};
use upright_manifests::release::Release;
use upright_manifests::tuf::Problem;
use upright_manifests::version::Version;

use super::{Agent, AgentError};
use crate::fetch::{FetchError, Session};
use crate::machine::Target;
use crate::policy::{Decision, HostFacts, Overrides, choose, take_first};

/// What the repository offers this host.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What to do about it.
    pub decision: Decision,
    /// The release to take, if the decision is to take one; otherwise the one decided about.
    pub release: Release,
    /// The SHA-256 of its manifest.
    pub manifest: Digest,
    /// The channel file.
    pub channel: Channel,
}

impl Offer {
    /// Whether there is something to take.
    pub fn is_taken(&self) -> bool {
        matches!(self.decision, Decision::Take { .. } | Decision::TakeFirst { .. })
    }

    /// The release as a target.
    pub fn target(&self) -> Target {
        Target {
            version: self.release.version.clone(),
            root_hash: self.release.root.verity.root_hash,
            manifest: Some(self.manifest),
            uki: Some(self.release.uki.sha256),
        }
    }
}

impl Agent<'_> {
    /// Gets fresh metadata and decides about the channel's release, or about `wanted`. The decision is remembered, and so is a
    /// failure to get there.
    pub fn check(&mut self, wanted: Option<&Version>, overrides: Overrides) -> Result<Offer, AgentError> {
        let result = self.ask(wanted, overrides).map_err(|error| match error {
            AgentError::Fetch(error) => self.told(error).into(),
            error => error,
        });
        let now = self.now();
        let until = result.as_ref().ok().and_then(|(_, good_until)| good_until.values().min().copied());
        let brought = self.brought(until);
        // A clock that was ahead then must not leave its mark.
        let contact = until.is_none_or(|until| now < until).then_some(now);
        self.amend(|record| match &result {
            Ok((offer, good_until)) => {
                record.good_until = Some(good_until.clone());
                record.medium = brought;
                record.decided = Some((now, offer.decision.clone()));
                record.last_contact = record.last_contact.max(contact);
                record.failure = record.failure.take().filter(|_| record.state.target().is_some());
            }
            Err(error) => record.failure = Some((now, error.to_string())),
        })?;
        result.map(|(offer, _)| offer)
    }

    /// The offer, and until when the metadata that vouches for it is good.
    fn ask(
        &mut self,
        wanted: Option<&Version>,
        overrides: Overrides,
    ) -> Result<(Offer, BTreeMap<String, Timestamp>), AgentError> {
        let mut session = self.refresh()?;
        let os = self.os().clone();
        let channel = self.followed(&mut session)?;
        let version = wanted.unwrap_or(&channel.version);
        let offered = &channel.version;
        let (release, manifest) = session.release(&channel, version).map_err(|error| match error {
            FetchError::Tuf(error) if error.problem == Problem::UnknownTarget && version != offered => {
                let (arch, channel) = (Arch::HERE, &channel.channel);
                let release = format!("release {version} of {os} for {arch} in what {channel} offers");
                FetchError::NoRelease { release, offered: offered.clone() }
            }
            error => error,
        })?;
        let machine_id = self.host.machine().id();
        let facts = HostFacts {
            os: &os,
            arch: Arch::HERE,
            machine_id: &machine_id,
            version: &self.booted.version,
            root_hash: &self.booted.root_hash,
            bad: &self.record.bad,
            hold: self.config.update.hold.as_deref(),
            good_until: session.good_until(),
        };
        let decision = choose(&facts, &channel, &release, self.now(), overrides);
        let (decision, release, manifest) = match decision {
            Decision::TakeFirst { floor, version } => {
                let (release, manifest) = session.release(&channel, &floor)?;
                (take_first(&release, version, facts.good_until), release, manifest)
            }
            decision => (decision, release, manifest),
        };
        let offer = Offer { decision, release: self.at_hand(release), manifest, channel };
        if offer.is_taken() {
            self.require_at_hand(&mut session, &offer.channel, &offer.release)?;
        }
        Ok((offer, good_until(&session)))
    }

    /// The OS that this host follows.
    pub fn os(&self) -> &OsName {
        self.config.repository.os.as_ref().unwrap_or(&self.booted.os)
    }

    /// The channel that this host follows.
    pub fn channel(&self) -> &ChannelName {
        self.record.channel.as_ref().unwrap_or(&self.config.update.channel)
    }

    /// Follows another channel from now on; none means the config's. The channel must exist.
    pub fn follow(&mut self, channel: Option<ChannelName>) -> Result<(), AgentError> {
        if let Some(channel) = &channel {
            self.refresh()?.channel(self.os(), Arch::HERE, channel)?;
        }
        self.amend(|record| record.channel = channel)
    }
}

/// Until when each role is good that the offer relies on.
fn good_until(session: &Session<'_>) -> BTreeMap<String, Timestamp> {
    session.status().into_iter().map(|role| (role.role, role.expires)).collect()
}
