//! Exit codes and the one line that goes with each.

use std::io::{self, Write as _};
use std::process::ExitCode;

use upright_manifests::tuf::Problem;

use super::output;
use crate::agent::{AgentError, Busy, TrialError};
use crate::apply::ApplyError;
use crate::config::ConfigError;
use crate::fetch::{FetchError, Medium, MediumError};
use crate::host::HostError;
use crate::store::StoreError;

/// The exit codes, for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0   done, or nothing to do
  1   failed
  2   wrong usage
  3   refused: policy or an operator's earlier word speaks against it
  4   not trusted: a signature, hash, length or expiry does not hold
  5   the update server cannot be reached or does not have it; try again later
  6   this host cannot be worked on: configuration, state or boot loader
  7   another upright is at work
  10  an update is available (`check --exit-code`)";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed in a way that none of the others names.
    Failed = 1,
    /// Policy or an operator's earlier word speaks against it.
    Refused = 3,
    /// A signature, hash, length or expiry does not hold.
    NotTrusted = 4,
    /// The server cannot be reached or does not have it.
    Unreachable = 5,
    /// The host cannot be worked on.
    Host = 6,
    /// Another agent is at work.
    Busy = 7,
    /// An update is available.
    Available = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that failed: the code and the line.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    line: String,
    /// What was done all the same, by its name in JSON.
    done: Option<(&'static str, serde_json::Value)>,
}

impl Failure {
    /// A failure with a code of its own.
    pub(super) fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self { exit, line: line.into(), done: None }
    }

    /// The same, with what was done all the same, for who reads JSON.
    pub(super) fn with(self, name: &'static str, done: serde_json::Value) -> Self {
        Self { done: Some((name, done)), ..self }
    }

    /// The code.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// The line.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Prints the line and gives the code.
    pub(super) fn report(&self, json: bool) -> Exit {
        let mut told = serde_json::json!({ "error": self.line, "exit": self.exit as u8 });
        if let Some((name, done)) = &self.done {
            told[*name] = done.clone();
        }
        // Who asked for JSON and cannot be given it is told in words.
        if !json || writeln!(io::stdout(), "{told}").is_err() {
            output::note(&format!("upright: {}", self.line));
        }
        self.exit
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Host, error.to_string())
    }
}

impl From<MediumError> for Failure {
    fn from(error: MediumError) -> Self {
        let exit = if error.is_temporary() { Exit::Unreachable } else { Exit::NotTrusted };
        Self::new(exit, error.to_string())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::new(Exit::Host, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Host, error.to_string())
    }
}

impl From<Busy> for Failure {
    fn from(error: Busy) -> Self {
        let exit = match error {
            Busy::Held { .. } => Exit::Busy,
            Busy::Store(_) => Exit::Host,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<TrialError> for Failure {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Busy(error) => error.into(),
            TrialError::Agent(error) => error.into(),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::of(&error, None)
    }
}

impl Failure {
    /// A failure of an agent that takes what it needs from `medium`, or from its server if there is none.
    pub(super) fn of(error: &AgentError, medium: Option<&Medium>) -> Self {
        let exit = match error {
            AgentError::Booted(_) | AgentError::Store(_) | AgentError::System { .. } => Exit::Host,
            AgentError::Step(_) => Exit::Refused,
            AgentError::Unmended { source, .. } => Self::of(source, medium).exit,
            AgentError::Fetch(error) if error.is_local() => Exit::Host,
            AgentError::Fetch(error) if error.is_temporary() => Exit::Unreachable,
            AgentError::Fetch(_) => Exit::NotTrusted,
            AgentError::Apply(
                ApplyError::NoRoom { .. } | ApplyError::NoRoomForEntry { .. } | ApplyError::Unsigned { .. },
            ) => Exit::Refused,
            AgentError::Apply(error) if error.is_local() => Exit::Host,
            AgentError::Apply(ApplyError::State { .. }) => Exit::Refused,
            AgentError::Apply(error) if error.is_temporary() => Exit::Unreachable,
            AgentError::Apply(_) | AgentError::Damaged { .. } | AgentError::Entry { .. } => Exit::NotTrusted,
        };
        let advice = match medium {
            Some(_) => advice_on_medium(error, exit),
            None => advice(error, exit),
        };
        Self::new(exit, format!("{error}{advice}"))
    }
}

/// What to do about a medium of which a part is missing.
const PARTIAL: &str =
    "; it was copied in part: copy the export anew, and unmount the medium before it is taken out";

/// What to do about a medium that cannot be read.
const MEDIUM: &str = "; if the medium was taken out, insert it again and run the same command, else it is damaged: copy the export anew, to \
                      another medium";

/// What to do where everything is taken from a medium, which has neither network nor server behind it.
fn advice_on_medium(error: &AgentError, exit: Exit) -> &'static str {
    match error {
        AgentError::Fetch(FetchError::Remote(error)) if error.is_gone() => "",
        AgentError::Apply(error) if error.is_gone() => "",
        AgentError::Apply(error) if error.is_partial() => PARTIAL,
        AgentError::Fetch(FetchError::Remote(_) | FetchError::Length { .. } | FetchError::Hash { .. }) => {
            MEDIUM
        }
        AgentError::Fetch(FetchError::Tuf(error)) if is_damage(&error.problem) => MEDIUM,
        AgentError::Apply(
            ApplyError::NoWay { .. } | ApplyError::Compose { .. } | ApplyError::Mend { .. },
        ) if exit != Exit::Host => MEDIUM,
        _ => advice(error, exit),
    }
}

/// Whether a document of the metadata is not what was written to the medium.
fn is_damage(problem: &Problem) -> bool {
    use Problem::{Hash, Length, Malformed, TooLong};
    matches!(problem, Malformed(_) | Length { .. } | Hash(_) | TooLong { .. })
}

/// What to do, where the error itself cannot know it.
fn advice(error: &AgentError, exit: Exit) -> &'static str {
    match (error, exit) {
        (AgentError::Fetch(FetchError::Remote(error)), _) if error.is_gone() => "",
        (AgentError::Apply(error), _) if error.is_gone() => "",
        (AgentError::Apply(error), _) if error.is_partial() => "; it was copied in part: copy it anew",
        (AgentError::Fetch(FetchError::Remote(_)), _) | (AgentError::Apply(_), Exit::Unreachable) => {
            "; check the network, the server, and `url` in the configuration, or try again later"
        }
        (AgentError::Apply(ApplyError::NoWay { .. } | ApplyError::Device { .. }), Exit::Host) => {
            "; what runs is untouched; look for errors of the disk with `dmesg`"
        }
        (AgentError::Apply(ApplyError::Beyond { .. }), _) => {
            "; the next update writes the slot anew, unless it is the one that runs, which `upright rollback` leaves; look at the disk's \
             health"
        }
        (
            AgentError::Apply(ApplyError::ReadBack { .. } | ApplyError::Tree { .. } | ApplyError::Uki { .. }),
            _,
        ) => {
            "; what runs is untouched; try again, and if it stays so, look for errors of the disk with `dmesg`, and let the \
             publisher run `upright-build check`"
        }
        (AgentError::Apply(ApplyError::NoWay { .. } | ApplyError::Compose { .. }), Exit::NotTrusted) => {
            "; what runs is untouched; try again later, and if it stays so, let the publisher run `upright-build check`"
        }
        _ => "",
    }
}
