//! Changes how a channel's release reaches hosts, without a new release.

use upright_manifests::channel::{Channel, Wave, Window};
use upright_manifests::name::ChannelName;

use super::{Bench, check_expiry, check_roles, execute, signing};
use crate::repo::clock;
use crate::repo::error::{Error, Result};
use crate::repo::files::STAGING;
use crate::repo::published::Published;

/// What to change; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The waves; none in it means everyone, now.
    pub waves: Option<Vec<Wave>>,
    /// The maintenance windows; none in it means any time.
    pub windows: Option<Vec<Window>>,
    /// The hold, or its end.
    pub hold: Option<Option<String>>,
}

/// Changes what `name` says; what it says after.
pub fn rollout(bench: &Bench<'_>, name: &ChannelName, change: &Rollout) -> Result<Channel> {
    let config = &bench.workspace.config;
    config.require_channel(name)?;
    let mut published = Published::read(bench.workspace)?;
    check_roles(config, &published, name)?;
    let roles = signing(config, name);
    check_expiry(bench, &published.metadata, &roles)?;
    clock::check(bench, &published.metadata)?;
    bench.signers.require(config, &published.metadata, &roles)?;
    let channel = published.channel(name).ok_or_else(|| {
        Error::refused(format!("{name} points at nothing yet; publish a release in it with --channel {name}"))
    })?;
    let mut channel = channel.clone();
    if let Some(waves) = &change.waves {
        channel.waves = waves.clone();
    }
    if let Some(windows) = &change.windows {
        channel.windows = windows.clone();
    }
    if let Some(hold) = &change.hold {
        channel.hold = hold.clone();
    }
    let bytes = channel.to_bytes().map_err(|error| Error::refused(error.to_string()))?;
    let path = Channel::target_path(&config.os, config.arch, name);
    execute::set(bench, &mut published.metadata, &config.signing_role(name), &path, &bytes)?;
    let staging = bench.workspace.repository().join(STAGING);
    execute::sign(bench, &mut published)?;
    bench.files.remove(&staging).map_err(Error::file("remove", &staging))?;
    Ok(channel)
}
