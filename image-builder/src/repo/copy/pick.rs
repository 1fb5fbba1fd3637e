//! Which channels, releases and deltas are wanted: pure.

use upright_manifests::name::ChannelName;
use upright_manifests::partial::Partial;
use upright_manifests::release::{DeltaEdge, Release};
use upright_manifests::version::Version;

use crate::repo::error::{Error, Result};

/// What is wanted of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pick {
    /// These channels, and what their hosts need to get to what they point at. No channel and no version means everything.
    pub channels: Vec<ChannelName>,
    /// These releases.
    pub versions: Vec<Version>,
    /// The versions that hosts come from; none means that this is not known.
    pub from: Vec<Version>,
    /// Leave out all deltas.
    pub without_deltas: bool,
}

impl Pick {
    /// All that a copy is to have which is a part of its repository.
    pub(super) fn of(part: &Partial) -> Self {
        let Partial { channels, versions, from, deltas, .. } = part.clone();
        Self { channels, versions, from, without_deltas: !deltas }
    }

    /// The same of a copy at `place` that holds a part of its repository. Which releases its channels point at is found out later.
    pub(super) fn within(&self, part: &Partial, place: &str) -> Result<Self> {
        let whole = Self::of(part);
        if self.is_all() {
            return Ok(whole);
        }
        let refused =
            |what: String| Err(Error::refused(format!("{place} holds {part} of its repository, and {what}")));
        if let Some(other) = self.channels.iter().find(|channel| !whole.channels.contains(channel)) {
            return refused(format!("not channel {other}; name one that it has, or a copy that has it"));
        }
        let from = match (whole.from.is_empty(), self.from.is_empty()) {
            (true, _) => self.from.clone(),
            (false, true) => whole.from,
            (false, false) => match self.from.iter().find(|version| !whole.from.contains(version)) {
                None => self.from.clone(),
                Some(other) => {
                    return refused(format!("nothing for hosts that run {other}; take a copy that has it"));
                }
            },
        };
        Ok(Self { from, without_deltas: self.without_deltas || whole.without_deltas, ..self.clone() })
    }

    /// Whether all that is listed is wanted.
    pub fn is_all(&self) -> bool {
        self.channels.is_empty() && self.versions.is_empty()
    }

    /// Whether a channel is wanted by its name.
    pub(super) fn takes_channel(&self, channel: &str) -> bool {
        self.is_all() || self.channels.iter().any(|wanted| wanted.as_str() == channel)
    }

    /// Whether a release is wanted by its version.
    pub(super) fn takes_version(&self, version: &str) -> bool {
        self.is_all() || self.versions.iter().any(|wanted| wanted.as_str() == version)
    }

    /// Whether a delta is wanted.
    pub(super) fn takes_delta(&self, edge: &DeltaEdge) -> bool {
        !self.without_deltas && (self.from.is_empty() || self.from.contains(&edge.from))
    }

    /// The release that hosts must pass through before this one, if some of them may have to.
    pub(super) fn floor<'r>(&self, release: &'r Release) -> Option<&'r Version> {
        let floor = release.floor.as_ref()?;
        let below = |from: &Version| floor.is_newer_than(from);
        (self.from.is_empty() || self.from.iter().any(below)).then_some(floor)
    }
}
