//! Taking what someone brought along instead of what the server sends.
//!
//! All rules are those of the server's but for one: if the configuration says so, metadata may have expired a while ago, since
//! whoever carries it takes time. Versions never go back, late or not.

use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::channel::Channel;
use upright_manifests::name::Arch;
use upright_manifests::release::Release;
use upright_manifests::tuf::{Problem, TufError};

use super::Agent;
use crate::fetch::{FetchError, Fetcher, Medium, Patience, Session};
use crate::host::{Remote, RemoteError};
use crate::machine::Brought;

/// How many releases of a medium are looked at to be named.
const NAMED: usize = 8;

/// What fetching from a medium is reckoned with, in bytes a second: a slow stick.
pub(super) const RATE: u64 = 20_000_000;

impl<'h> Agent<'h> {
    /// Takes everything from `medium` from now on.
    pub fn take_from(&mut self, medium: &'h Medium) {
        self.medium = Some(medium);
    }

    /// Where releases come from.
    pub(super) fn remote(&self) -> &'h dyn Remote {
        match self.medium {
            Some(medium) => medium,
            None => self.host.remote(),
        }
    }

    /// A reader of what releases name, as fast as the configuration allows the line to be used.
    pub(super) fn fetcher(&self, patience: Patience) -> Fetcher<'h> {
        let rate = self.config.limits.fetch_rate.filter(|_| self.medium.is_none());
        Fetcher::new(self.remote(), self.host.clock(), patience).at_most(rate)
    }

    /// How long ago what is taken may have expired.
    fn grace(&self) -> Duration {
        self.medium.map_or(Duration::ZERO, |_| self.config.update.offline_expiry.grace())
    }

    /// The time that expiry is judged by.
    pub(super) fn now_of_expiry(&self) -> Timestamp {
        let now = self.now();
        now.checked_sub(self.grace()).unwrap_or(now)
    }

    /// An error of expiry in terms of the policy for media, and what is missing by where it should be.
    pub(super) fn told(&self, error: FetchError) -> FetchError {
        let Some(medium) = self.medium else { return error };
        match error {
            FetchError::Tuf(TufError { document, problem: Problem::Expired { expired, .. } }) => {
                FetchError::TooOld { document, expired, now: self.now(), within: self.grace() }
            }
            FetchError::Tuf(TufError { document, problem: Problem::NotFound }) => {
                let url = format!("{}/metadata/{document}", medium.address());
                FetchError::Remote(RemoteError::NotFound { url, status: 0 })
            }
            error => error,
        }
    }

    /// What there is to remember about the medium, if that is where the metadata came from, which is good until `until`.
    pub(super) fn brought(&self, until: Option<Timestamp>) -> Option<Brought> {
        let time = self.now();
        let expired = until.filter(|until| *until <= time);
        self.medium.map(|medium| Brought { from: medium.address(), time, expired })
    }

    /// The release with the deltas that are there: who exports may leave out some.
    pub(super) fn at_hand(&self, mut release: Release) -> Release {
        if let Some(medium) = self.medium {
            release.deltas.retain(|edge| medium.has(edge.delta.path.as_str()));
        }
        release
    }

    /// The channel that this host follows, which whoever exported may not have taken along.
    pub(super) fn followed(&self, session: &mut Session<'_>) -> Result<Channel, FetchError> {
        session.channel(self.os(), Arch::HERE, self.channel()).map_err(|error| {
            let has = self.medium.and_then(Medium::part).map(|part| [part.channels, part.pointers].concat());
            match (self.medium, has.filter(|has| !has.is_empty() && !has.contains(self.channel()))) {
                (Some(medium), Some(has))
                    if matches!(error, FetchError::Remote(RemoteError::NotFound { .. })) =>
                {
                    FetchError::OtherChannel { place: medium.address(), channel: self.channel().clone(), has }
                }
                _ => error,
            }
        })
    }

    /// Fails where a release that is taken is not on the medium, as whoever exported may have taken others along. `release` is what
    /// [`Self::at_hand`] left of it.
    pub(super) fn require_at_hand(
        &self,
        session: &mut Session<'_>,
        channel: &Channel,
        release: &Release,
    ) -> Result<(), FetchError> {
        let Some(medium) = self.medium else { return Ok(()) };
        let is_there = |release: &Release| medium.has(release.root.full.path.as_str());
        let beside = self.record.slots.get(&self.booted.slot.other());
        let is_written = beside.is_some_and(|installed| installed.root_hash == release.root.verity.root_hash);
        let by_delta = release.deltas.iter().any(|edge| edge.from_root_hash == self.booted.root_hash);
        if is_written || is_there(release) || by_delta {
            return Ok(());
        }
        let mut others = medium.part().map_or(Vec::new(), |part| part.versions);
        others.retain(|version| version.is_newer_than(&self.booted.version));
        others.sort_by(|a, b| b.age(a));
        others.truncate(NAMED);
        others.retain(|version| session.release(channel, version).is_ok_and(|(other, _)| is_there(&other)));
        Err(FetchError::NotOnMedium { place: medium.address(), version: release.version.clone(), others })
    }
}
