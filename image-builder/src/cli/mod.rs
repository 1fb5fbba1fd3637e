//! The publisher's commands, one a file.
//!
//! A command reads its flags, opens what it needs, calls `repo` and prints; it decides nothing itself.

mod bars;
mod build;
mod check;
mod diff;
mod disk;
mod exit;
mod export;
mod init;
mod list;
mod manual;
mod mirror;
mod output;
mod publish;
mod refresh;
mod rollout;
mod rotate;
mod serve;
mod staged;
mod window;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use jiff::Timestamp;
use upright_keys::{Passphrase, PassphraseSource};
use upright_manifests::tuf::schema::Root;
use upright_manifests::tuf::{Document, Problem};

pub use exit::Exit;

use crate::repo::ceremony;
use crate::repo::check::Source;
use crate::repo::error::{Error, chain};
use crate::repo::files::OnDisk;
use crate::repo::workspace::{Lock, Workspace};
use bars::Bars;

/// Build signed OS images and publish them as updates.
#[derive(Debug, Parser)]
#[command(name = "upright-build", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  failed: a disk, a network or a program; trying again may help
  2  wrong usage
  3  refused: what was given cannot be used, or a rule forbids it
  4  verification failed: something is not what was signed or recorded
  5  another command works in the same workspace";

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The workspace, a folder with an upright.toml
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", global = true)]
    workspace: PathBuf,
    /// Where the passphrase of encrypted key files is: fd:N, file:PATH or env:NAME
    #[arg(long, value_name = "SOURCE", global = true)]
    passphrase: Option<PassphraseSource>,
    /// Show errors only
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Build(build::Build),
    Disk(disk::Disk),
    Publish(publish::Publish),
    Promote(publish::Promote),
    Rollout(rollout::Rollout),
    List(list::List),
    Diff(diff::Diff),
    Check(check::Check),
    Serve(serve::Serve),
    Export(export::Export),
    Mirror(mirror::Mirror),
    Refresh(refresh::Refresh),
    Rotate(rotate::Rotate),
    #[command(hide = true)]
    Man(manual::Man),
    #[command(hide = true)]
    Completions(manual::Completions),
}

/// Runs the program: what `main` does.
pub fn main() -> ExitCode {
    let cli: Cli = upright_keys::arguments::parse();
    match run(&cli) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            let exit = Exit::of(&error);
            output::failure(cli.command.json(), &chain(error.as_ref()), exit);
            exit.into()
        }
    }
}

/// The whole command line, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let common = &cli.common;
    match &cli.command {
        Command::Init(command) => command.run(common),
        Command::Build(command) => command.run(common),
        Command::Disk(command) => command.run(common),
        Command::Publish(command) => command.run(common),
        Command::Promote(command) => command.run(common),
        Command::Rollout(command) => command.run(common),
        Command::List(command) => command.run(common),
        Command::Diff(command) => command.run(common),
        Command::Check(command) => command.run(common),
        Command::Serve(command) => command.run(common),
        Command::Export(command) => command.run(common),
        Command::Mirror(command) => command.run(common),
        Command::Refresh(command) => command.run(common),
        Command::Rotate(command) => command.run(common),
        Command::Man(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

impl Command {
    /// Whether JSON was asked for.
    fn json(&self) -> bool {
        match self {
            Self::Init(command) => command.json,
            Self::Build(command) => command.json,
            Self::Disk(command) => command.json,
            Self::Publish(command) => command.json(),
            Self::Promote(command) => command.json(),
            Self::Rollout(command) => command.json,
            Self::List(command) => command.json,
            Self::Diff(command) => command.json,
            Self::Check(command) => command.json,
            Self::Refresh(command) => command.json,
            Self::Export(command) => command.json,
            Self::Mirror(command) => command.json,
            Self::Rotate(command) => command.json,
            Self::Serve(_) | Self::Man(_) | Self::Completions(_) => false,
        }
    }
}

/// What is to be told where [`Common::trusted_root`] had nothing better.
const AT_ITS_WORD: &str = "the repository was taken at its word: name the root.json hosts ship with --root";

impl Common {
    fn open(&self) -> anyhow::Result<Workspace> {
        Ok(Workspace::open(&self.workspace)?)
    }

    /// The workspace, kept from other commands.
    fn lock(&self) -> anyhow::Result<(Workspace, Lock)> {
        let workspace = self.open()?;
        let lock = workspace.lock()?;
        ceremony::finish(&workspace, &OnDisk)?;
        Ok((workspace, lock))
    }

    fn passphrase(&self) -> anyhow::Result<Option<Passphrase>> {
        Ok(self.passphrase.as_ref().map(PassphraseSource::read).transpose()?)
    }

    /// The root of trust that is `named`, or the workspace's, or else the repository's own first one; and whether that is so, and the
    /// repository was taken at its word.
    fn trusted_root(&self, named: Option<&Path>, source: &Source) -> anyhow::Result<(Vec<u8>, bool)> {
        let path = match (named, Workspace::open(&self.workspace)) {
            (Some(path), _) => path.to_owned(),
            (None, Ok(workspace)) => workspace.trusted_root(),
            (None, Err(_)) => return Ok((source.first_root()?, true)),
        };
        Ok((read_root(&path)?, false))
    }

    fn bars(&self) -> Bars {
        Bars::new(self.quiet)
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A root of trust that somebody named.
fn read_root(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let path = path.display();
    let line = match Document::<Root>::sound_root(&bytes) {
        Ok(_) => return Ok(bytes),
        Err(Problem::Signatures { error, .. }) => format!(
            "{path} is damaged: {error}, by the keys that it appoints itself; name the root.json that the publisher gave you with --root"
        ),
        Err(problem) => {
            format!("{path} is no root.json: {problem}; name the one that the publisher gave you with --root")
        }
    };
    Err(Error::refused(line).into())
}
