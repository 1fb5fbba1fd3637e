//! The commands of `upright-keys`, one a file.

mod change;
mod combine;
mod files;
mod identity;
mod manual;
mod new;
mod show;
mod sign;
mod sign_request;
mod standing;
mod summary;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not done; standard error says why
  2  the command line is wrong

An offline ceremony moves small files between machines:
  upright-keys sign-request staged/2.root.json --output request.json
  upright-keys sign request.json --root root.json --key root-1.pem --passphrase file:pass --output one.json
  upright-keys sign request.json --root root.json --key root-2.pem --passphrase fd:0 --output two.json
  upright-keys combine one.json two.json --root root.json --output 2.root.json";

/// Makes, shows and uses the keys that sign releases.
#[derive(Parser)]
#[command(name = "upright-keys", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Show(show::Show),
    Sign(sign::Sign),
    SignRequest(sign_request::SignRequest),
    Combine(combine::Combine),
    #[command(hide = true)]
    Man(manual::Man),
    #[command(hide = true)]
    Completions(manual::Completions),
}

/// An error and what caused it in one line, each cause once: some messages hold that of their source already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.replace('\n', "; ")
}

/// The command line's definition, for help, man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let outcome = match crate::arguments::parse::<Arguments>().command {
        Command::New(new) => new.run(),
        Command::Show(show) => show.run(),
        Command::Sign(sign) => sign.run(),
        Command::SignRequest(request) => request.run(),
        Command::Combine(combine) => combine.run(),
        Command::Man(man) => man.run(),
        Command::Completions(completions) => completions.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            files::note(&format!("upright-keys: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}
