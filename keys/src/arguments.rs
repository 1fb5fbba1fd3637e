//! Command lines of programs that are told where a passphrase is.

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The command line of this process; clap ends it with 2 for wrong usage and 0 for help. What stands where a passphrase's
/// source belongs may be the passphrase, so it is not repeated to whoever reads the log.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument))
            if argument.starts_with("--passphrase") && error.kind() != ErrorKind::ArgumentConflict =>
        {
            P::command()
                .error(
                    ErrorKind::ValueValidation,
                    "the value of --passphrase is not a source of one: expected fd:N, file:PATH or env:NAME",
                )
                .exit()
        }
        _ => error.exit(),
    })
}
