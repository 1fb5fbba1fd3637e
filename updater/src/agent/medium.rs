//! Taking what someone brought along instead of what the server sends.
//!
//! All rules are those of the server's but for one: if the configuration says so, metadata may have expired a while ago, since
//! whoever carries it takes time. Versions never go back, late or not.

use std::time::Duration;

use jiff::Timestamp;
use upright_manifests::release::Release;
use upright_manifests::tuf::{Problem, TufError};

use super::{Agent, AgentError, trust_folder};
use crate::fetch::{FetchError, Fetcher, Medium, Patience, Session};
use crate::host::Remote;
use crate::machine::Brought;

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

    /// Trusted metadata, as fresh as the server's or the medium's.
    pub(super) fn refresh(&self) -> Result<Session<'h>, AgentError> {
        let root = &self.config.repository.root;
        let session =
            Session::refresh(self.remote(), &trust_folder(&self.folder), root, self.now_of_expiry());
        Ok(session.map_err(|error| self.told(error))?)
    }

    /// How long ago what is taken may have expired.
    fn grace(&self) -> Duration {
        self.medium.map_or(Duration::ZERO, |_| self.config.update.offline_expiry.grace())
    }

    /// The time that expiry is judged by.
    fn now_of_expiry(&self) -> Timestamp {
        let now = self.now();
        now.checked_sub(self.grace()).unwrap_or(now)
    }

    /// An error of expiry in terms of the policy for media.
    pub(super) fn told(&self, error: FetchError) -> FetchError {
        match error {
            FetchError::Tuf(TufError { document, problem: Problem::Expired { expired, .. } })
                if self.medium.is_some() =>
            {
                FetchError::TooOld { document, expired, now: self.now(), within: self.grace() }
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
}
