//! `upright`: the agent on each host, and the operator's commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    upright_updater::cli::main()
}
