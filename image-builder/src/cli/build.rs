//! `upright-build build`.

use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use upright_manifests::version::Version;

use super::{Common, output};
use crate::input::Source;
use crate::repo::Error;
use crate::repo::build::{Base, Build as Record, Made, Order, build};
use crate::repo::error::chain;
use crate::repo::signers::{Signers, public};
use upright_manifests::bytes::human;

/// Build an image from a root file system
#[derive(Debug, clap::Args)]
pub(super) struct Build {
    /// A folder, a tar (plain, gzip, zstd), an OCI image layout or archive, or ostree:REPOSITORY:REF
    source: OsString,
    /// The release's version
    #[arg(long)]
    version: Version,
    /// The release's time, RFC 3339 or seconds since 1970 [default: SOURCE_DATE_EPOCH, or the newest time in the input]
    #[arg(long, value_parser = time)]
    time: Option<Timestamp>,
    /// Follow the layout of this version [default: the newest build before it]
    #[arg(long, value_name = "VERSION", conflicts_with = "fresh")]
    base: Option<Version>,
    /// Lay the image out anew
    #[arg(long)]
    fresh: bool,
    /// Takes an OSTree ref only if this ed25519 public key has signed its commit; with several, one of them
    #[arg(long, value_name = "FILE")]
    verify_key: Vec<PathBuf>,
    /// The version of the kernel to boot [default: the newest in the input]
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What `--json` prints: the record, whether it is new, and whose layout was given up.
#[derive(Serialize)]
struct Report<'a> {
    unchanged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_followed: Option<&'a Version>,
    #[serde(flatten)]
    build: &'a Record,
}

impl Build {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let (workspace, _lock) = common.lock()?;
        let order = Order {
            source: self.source()?,
            version: self.version.clone(),
            time: self.time.map_or_else(source_date_epoch, |time| Ok(Some(time)))?,
            now: common.now(),
            base: match (&self.base, self.fresh) {
                (Some(version), _) => Base::Version(version.clone()),
                (None, true) => Base::Fresh,
                (None, false) => Base::Previous,
            },
            kernel: self.kernel.clone(),
        };
        let signers = Signers::of_trees(&workspace, common.passphrase()?.as_ref())?;
        let made = build(&workspace, &order, &signers, &common.bars())?;
        match self.json {
            true => output::json(&Report {
                unchanged: made.unchanged,
                not_followed: made.not_followed.as_ref(),
                build: &made.build,
            }),
            false => output::print(&text(&made)),
        }
    }

    fn source(&self) -> anyhow::Result<Source> {
        let mut source = Source::detect(&self.source).map_err(|error| Error::refused(chain(&error)))?;
        let keys = self.verify_key.iter().map(|path| public::read(path));
        let given = keys.collect::<Result<Vec<_>, _>>().map_err(Error::refused)?;
        match &mut source {
            Source::Ostree { keys, .. } => *keys = given,
            _ if given.is_empty() => {}
            _ => {
                let expected = "--verify-key is for trees from OSTree, ostree:REPOSITORY:REF: nothing else has a commit that is signed";
                return Err(Error::refused(expected).into());
            }
        }
        Ok(source)
    }
}

fn text(made: &Made) -> String {
    let build = &made.build;
    let verb = if made.unchanged { "was built before, byte for byte" } else { "is built" };
    let base = match (&build.base, &made.not_followed) {
        (Some(base), _) => format!(", laid out after {base}"),
        (None, Some(base)) => {
            format!(", laid out anew, since more than a tenth of it would be unused after {base}")
        }
        (None, None) => String::new(),
    };
    format!(
        "{} {} {verb}\n  time {}, commit {}\n  image {}{base}, root hash {}\n  UKI {}, kernel {}",
        build.os,
        build.version,
        build.time,
        build.commit.short(),
        human(build.root.size),
        build.root.verity.root_hash.short(),
        human(build.uki.size),
        build.uki.kernel
    )
}

fn time(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("{text:?} is not a time; expected RFC 3339 or seconds since 1970"))
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn source_date_epoch() -> anyhow::Result<Option<Timestamp>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = value.to_string_lossy();
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    match seconds {
        Some(time) => Ok(Some(time)),
        None => Err(Error::refused(format!(
            "SOURCE_DATE_EPOCH is {text:?}; expected seconds since 1970, or unset it"
        ))
        .into()),
    }
}
