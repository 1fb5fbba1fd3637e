//! The operator's commands, one a file.

mod boot_state;
mod channel;
mod check;
mod doctor;
mod exit;
mod health;
mod history;
#[cfg(feature = "manual")]
mod manual;
mod output;
mod plan;
mod repair;
mod reset;
mod rollback;
mod run;
mod state;
mod status;
mod update;
mod verify;
mod why;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use crate::agent::{Agent, Busy, Lock};
use crate::config::Config;
use crate::fetch::Medium;
use crate::host::{Host, LinuxHost, SimulatedHost};
use crate::machine::Record;

pub use exit::{Exit, Failure};

/// Atomic, image-based OS updates that always land on their feet.
#[derive(Debug, Parser)]
#[command(name = "upright", version, about, long_about = None, max_term_width = 100, after_help = exit::HELP)]
pub struct Cli {
    /// Work on the simulated host in this folder instead of this machine
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Read this configuration instead of /etc/upright/upright.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,

    /// Say more about what is done; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Update(update::Update),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Plan(plan::PlanCommand),
    Rollback(rollback::Rollback),
    Channel(channel::Channel),
    History(history::History),
    Why(why::Why),
    Run(run::Run),
    Health(health::Health),
    Reset(reset::Reset),
    ResetState(state::ResetState),
    ResetTrust(state::ResetTrust),
    #[command(hide = true)]
    BootState(boot_state::BootState),
    #[cfg(feature = "manual")]
    #[command(hide = true)]
    Man(manual::Man),
    #[cfg(feature = "manual")]
    #[command(hide = true)]
    Completions(manual::Completions),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose, matches!(cli.command, Command::Run(_) | Command::Health(_)));
    let json = cli.json;
    if matches!(cli.command, Command::Run(_) | Command::Update(_) | Command::Repair(_)) {
        crate::memory::give_back();
    }
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json).into(),
    }
}

impl Cli {
    fn run(self) -> Result<Exit, Failure> {
        #[cfg(feature = "manual")]
        match &self.command {
            Command::Man(command) => return command.run(),
            Command::Completions(command) => return command.run(),
            _ => {}
        }
        match &self.command {
            Command::Doctor(command) => {
                return command.run(self.root.as_deref(), self.config.as_deref(), self.json);
            }
            Command::BootState(command) => return command.run(),
            _ => {}
        }
        let context = Context::new(self.root.as_deref(), self.config.as_deref(), self.json)?;
        match self.command {
            Command::Status(command) => command.run(&context),
            Command::Check(command) => command.run(&context),
            Command::Update(command) => command.run(&context),
            Command::Verify(command) => command.run(&context),
            Command::Repair(command) => command.run(&context),
            Command::Plan(command) => command.run(&context),
            Command::Rollback(command) => command.run(&context),
            Command::Channel(command) => command.run(&context),
            Command::History(command) => command.run(&context),
            Command::Why(command) => command.run(&context),
            Command::Run(command) => command.run(&context),
            Command::Health(command) => command.run(&context),
            Command::Reset(command) => command.run(&context),
            Command::ResetState(command) => command.run(&context),
            Command::ResetTrust(command) => command.run(&context),
            Command::Doctor(_) | Command::BootState(_) => Ok(Exit::Done),
            #[cfg(feature = "manual")]
            Command::Man(_) | Command::Completions(_) => Ok(Exit::Done),
        }
    }
}

/// What every command works with.
struct Context {
    host: Box<dyn Host>,
    config: Config,
    /// Where the agent keeps its state.
    folder: PathBuf,
    json: bool,
}

impl Context {
    /// The right to change this host's state. The agent has it for a moment each time it looks for work.
    fn lock(&self) -> Result<Lock, Busy> {
        Lock::wait(&self.folder, self.host.clock(), Duration::from_secs(5))
    }

    /// What is brought along at `path`.
    fn medium(path: Option<&Path>) -> Result<Option<Medium>, Failure> {
        Ok(path.map(Medium::open).transpose()?)
    }

    /// The agent, whose lock the caller holds, which takes what is on `medium` if there is one.
    fn agent<'a>(&'a self, medium: Option<&'a Medium>) -> Result<Agent<'a>, Failure> {
        let mut agent = Agent::open(self.host.as_ref(), &self.config, &self.folder)?;
        if let Some(medium) = medium {
            agent.take_from(medium);
        }
        Ok(agent)
    }

    /// Where the configuration is.
    fn configuration(root: Option<&Path>, config: Option<&Path>) -> PathBuf {
        let below = root.unwrap_or(Path::new("/"));
        config.map_or_else(|| below.join("etc/upright/upright.toml"), Path::to_owned)
    }

    fn new(root: Option<&Path>, config: Option<&Path>, json: bool) -> Result<Self, Failure> {
        let below = root.unwrap_or(Path::new("/"));
        let mut config = Config::load(&Self::configuration(root, config))?;
        let folder = below.join("var/lib/upright");
        let host: Box<dyn Host> = match root {
            None => Box::new(LinuxHost::new(&config, &folder)?),
            Some(root) => {
                config.repository.root =
                    root.join(config.repository.root.strip_prefix("/").unwrap_or(&config.repository.root));
                Box::new(SimulatedHost::open(root, &config)?)
            }
        };
        Ok(Self { host, config, folder, json })
    }

    /// The time, never earlier than the image that runs was made.
    fn now(&self) -> Timestamp {
        let clock = self.host.clock().now();
        self.host.machine().image_time().map_or(clock, |image| image.max(clock))
    }

    /// What the agent remembers, in line with what runs; nothing is written.
    fn record(&self) -> Result<Record, Failure> {
        Ok(Agent::peek(self.host.as_ref(), &self.config, &self.folder)?)
    }
}

/// The agent's log goes to standard error; systemd adds the time. A line that cannot be written there is lost: the
/// subscriber would complain of it in the same place, and panic since that fails as well.
fn start_log(verbose: u8, service: bool) {
    let level = match (verbose, service) {
        (0, false) => tracing::Level::WARN,
        (0, true) => tracing::Level::INFO,
        (1, _) => tracing::Level::DEBUG,
        (_, _) => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .log_internal_errors(false)
        .init();
}
