//! `upright-keys`: makes keys, shows them, and signs with them.

use std::process::ExitCode;

fn main() -> ExitCode {
    upright_keys::cli::main()
}
