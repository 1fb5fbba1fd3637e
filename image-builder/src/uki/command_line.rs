//! The kernel's command line.
//!
//! systemd's verity generator (systemd-veritysetup-generator(8)) makes `/dev/mapper/root` out of `roothash=` and the two
//! UUIDs; the initrd mounts what `root=` names. `upright.*` tell the agent what it runs on.

use super::{Plan, UkiError};

/// The longest command line that all kernels here take, in bytes: x86's `COMMAND_LINE_SIZE` with its NUL.
const MAX_BYTES: usize = 2047;

/// Arguments that only the builder sets.
const RESERVED: [&str; 4] = ["root", "roothash", "systemd.verity", "upright"];

/// The command line of a release.
pub(super) fn compose(plan: &Plan<'_>) -> Result<String, UkiError> {
    check_extra(plan.extra).map_err(UkiError::CommandLine)?;
    let verity = plan.verity;
    let mut line = format!(
        "roothash={} systemd.verity_root_data=UUID={} systemd.verity_root_hash=UUID={} root=/dev/mapper/root ro \
         upright.os={} upright.version={} panic=30",
        verity.root_hash, plan.image_uuid, verity.uuid, plan.os, plan.version
    );
    let extra = plan.extra.split_ascii_whitespace();
    extra.for_each(|word| line.extend([" ", word]));
    match line.len() {
        0..=MAX_BYTES => Ok(line),
        length => Err(UkiError::CommandLine(format!(
            "it has {length} bytes, more than the {MAX_BYTES} allowed; shorten `kernel.cmdline`"
        ))),
    }
}

fn check_extra(extra: &str) -> Result<(), String> {
    if let Some(bad) = extra.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        return Err(format!("`kernel.cmdline` holds {bad:?}; expected printable ASCII on one line"));
    }
    let is_reserved = |word: &&str| {
        let name = word.split_once('=').map_or(*word, |(name, _)| name);
        RESERVED.iter().any(|reserved| match name.strip_prefix(reserved) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '_']),
            None => false,
        })
    };
    match extra.split_ascii_whitespace().find(is_reserved) {
        Some(word) => Err(format!("`kernel.cmdline` sets {word}, which the release sets itself; remove it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_arguments_may_not_redirect_the_boot() {
        for good in ["", "console=ttyS0 quiet", "rootdelay=5 rootwait", "systemd.unit=x", "a.root=1"] {
            assert_eq!(check_extra(good), Ok(()), "{good}");
        }
        for bad in [
            "root=/dev/sda",
            "x roothash=0",
            "systemd.verity=0",
            "systemd.verity_root_data=x",
            "upright.os=y",
        ] {
            assert!(check_extra(bad).unwrap_err().contains("remove it"), "{bad}");
        }
        for bad in ["a\nb", "a\tb", "a\0b", "ä"] {
            assert!(check_extra(bad).unwrap_err().contains("printable ASCII"), "{bad:?}");
        }
    }
}
