//! `upright-build publish` and `upright-build promote`.

pub(super) mod report;

use upright_manifests::name::ChannelName;
use upright_manifests::version::Version;

use super::bars::Bars;
use super::rollout::WaveFlag;
use super::{Common, output};
use crate::repo::Error;
use crate::repo::files::OnDisk;
use crate::repo::publish::{self, Bench, Request, SIGNING};
use crate::repo::published::Published;
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
    /// A share of the fleet and when it may start, such as 5%@now or 100%@+2d; repeatable, growing [default: everyone, now]
    #[arg(long = "wave", value_name = "SHARE@TIME")]
    waves: Vec<WaveFlag>,
    /// Let no host start yet, and say why
    #[arg(long, value_name = "REASON")]
    hold: Option<String>,
    /// Point the channel at a release that is not newer than its last
    #[arg(long)]
    allow_downgrade: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the plan or the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let signing = Signing::open(common)?;
        let channel = self.channel.clone().or_else(|| signing.workspace.config.channels.first().cloned());
        let channel = channel.ok_or_else(|| Error::refused("upright.toml lists no channel"))?;
        let request = self.pointer.request(common, &self.version, channel, self.floor.clone());
        self.pointer.run(common, &signing, &request)
    }
}

impl Promote {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let signing = Signing::open(common)?;
        let published = Published::read(&signing.workspace)?;
        let at = published.channel(&self.from).map(|channel| channel.version.clone());
        if at.as_ref() != Some(&self.version) {
            let at = at.map_or("nothing".to_owned(), |version| version.to_string());
            return Err(Error::refused(format!(
                "{} points at {at}, not at {}; promote what it points at, or publish {} to {} directly",
                self.from, self.version, self.version, self.to
            ))
            .into());
        }
        let request = self.pointer.request(common, &self.version, self.to.clone(), None);
        self.pointer.run(common, &signing, &request)
    }
}

impl PointerFlags {
    fn request(
        &self,
        common: &Common,
        version: &Version,
        channel: ChannelName,
        floor: Option<Version>,
    ) -> Request {
        let now = common.now();
        let waves = self.waves.iter().map(|wave| wave.at(now)).collect();
        Request {
            version: version.clone(),
            channel,
            waves: (!self.waves.is_empty()).then_some(waves),
            hold: self.hold.clone(),
            floor,
            allow_downgrade: self.allow_downgrade,
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

/// A workspace, locked, with the keys that sign releases.
pub(super) struct Signing {
    workspace: Workspace,
    signers: Signers,
    bars: Bars,
    _lock: Lock,
}

impl Signing {
    pub(super) fn open(common: &Common) -> anyhow::Result<Self> {
        let (workspace, lock) = common.lock()?;
        let signers = Signers::open(&workspace, &SIGNING, common.passphrase()?.as_ref())?;
        Ok(Self { workspace, signers, bars: common.bars(), _lock: lock })
    }

    pub(super) fn bench(&self, now: jiff::Timestamp) -> Bench<'_> {
        let Self { workspace, signers, bars, .. } = self;
        Bench { workspace, signers, files: &OnDisk, progress: bars, now }
    }
}
