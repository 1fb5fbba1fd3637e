//! `upright-build`: the publisher's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    upright_image_builder::cli::main()
}
