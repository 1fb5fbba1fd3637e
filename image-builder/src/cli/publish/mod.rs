//! `upright-build publish` and `upright-build promote`.

pub(super) mod report;

use clap::builder::NonEmptyStringValueParser;
use upright_manifests::name::ChannelName;
use upright_manifests::version::Version;

use super::bars::Bars;
use super::rollout::WaveFlag;
use super::{Common, output};
use crate::repo::Error;
use crate::repo::files::OnDisk;
use crate::repo::publish::{self, Bench, Request};
use crate::repo::signers::Signers;
use crate::repo::workspace::{Lock, Workspace};

/// Publish a build as a release, with deltas from what the channel's hosts run
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// The version that was built
    version: Version,
    /// The channel that is to point at it [default: the first in upright.toml]
    #[arg(long)]
    channel: Option<ChannelName>,
    /// Hosts on an older version than this must pass through a release in between first
    #[arg(long, value_name = "VERSION")]
    floor: Option<Version>,
    #[command(flatten)]
    pointer: PointerFlags,
}

/// Point a channel at a release that another channel points at
#[derive(Debug, clap::Args)]
pub(super) struct Promote {
    /// The release
    version: Version,
    /// The channel that has it
    #[arg(long)]
    from: ChannelName,
    /// The channel that is to have it too
    #[arg(long)]
    to: ChannelName,
    #[command(flatten)]
    pointer: PointerFlags,
}

#[derive(Debug, clap::Args)]
struct PointerFlags {
    /// A share of the fleet and when it may start, such as 5%@now or 100%@+2d; repeatable, growing [default: everyone, now; or as it is, for the release that the channel points at]
    #[arg(long = "wave", value_name = "SHARE@TIME")]
    waves: Vec<WaveFlag>,
    /// Let no host start yet, and say why; `rollout CHANNEL --resume` lifts it
    #[arg(long, value_name = "REASON", value_parser = NonEmptyStringValueParser::new())]
    hold: Option<String>,
    /// Point the channel at a release that is not newer than its last
    #[arg(long)]
    allow_downgrade: bool,
    /// How many of the channel's former releases get a delta [default: `edges` in upright.toml]
    #[arg(long, value_name = "N")]
    edges: Option<usize>,
    /// Print what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the plan or the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) fn json(&self) -> bool {
        self.pointer.json
    }

    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let signing = Signing::open(common, self.channel.as_ref())?;
        let mut request = self.pointer.request(common, &self.version, signing.channel.clone());
        request.floor.clone_from(&self.floor);
        self.pointer.run(common, &signing, &request)
    }
}

impl Promote {
    pub(super) fn json(&self) -> bool {
        self.pointer.json
    }

    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let signing = Signing::open(common, Some(&self.to))?;
        let mut request = self.pointer.request(common, &self.version, self.to.clone());
        request.from = Some(self.from.clone());
        self.pointer.run(common, &signing, &request)
    }
}

impl PointerFlags {
    fn request(&self, common: &Common, version: &Version, channel: ChannelName) -> Request {
        let now = common.now();
        let waves = self.waves.iter().map(|wave| wave.at(now)).collect();
        Request {
            version: version.clone(),
            channel,
            from: None,
            waves: (!self.waves.is_empty()).then_some(waves),
            hold: self.hold.clone(),
            floor: None,
            allow_downgrade: self.allow_downgrade,
            edges: self.edges,
        }
    }

    fn run(&self, common: &Common, signing: &Signing, request: &Request) -> anyhow::Result<()> {
        let bench = signing.bench(common.now());
        if self.dry_run {
            let (_, plan) = publish::prepare(&bench, request)?;
            return match self.json {
                true => output::json(&plan),
                false => output::print(&report::plan(&plan)),
            };
        }
        let outcome = publish::publish(&bench, request)?;
        match self.json {
            true => output::json(&outcome),
            false => output::print(&report::outcome(&outcome)),
        }
    }
}

/// A workspace, locked, with the keys that sign what is published in a channel.
pub(super) struct Signing {
    workspace: Workspace,
    channel: ChannelName,
    signers: Signers,
    bars: Bars,
    _lock: Lock,
}

impl Signing {
    /// For `channel`, or the first one.
    pub(super) fn open(common: &Common, channel: Option<&ChannelName>) -> anyhow::Result<Self> {
        let (workspace, lock) = common.lock()?;
        let config = &workspace.config;
        let channel = channel.or(config.channels.first()).cloned();
        let channel = channel.ok_or_else(|| Error::refused("upright.toml lists no channel"))?;
        let roles = publish::signing(config, &channel);
        let signers = Signers::open(&workspace, &roles, common.passphrase()?.as_ref())?;
        Ok(Self { workspace, channel, signers, bars: common.bars(), _lock: lock })
    }

    pub(super) fn bench(&self, now: jiff::Timestamp) -> Bench<'_> {
        let Self { workspace, signers, bars, .. } = self;
        Bench { workspace, signers, files: &OnDisk, progress: bars, now }
    }
}
