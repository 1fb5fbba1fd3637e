//! Whether a peer made what it should have made.

use anyhow::Result;

use super::super::kept::sha256;
use super::{Pair, Shell};

/// The new image, by its SHA-256.
pub(super) fn image(shell: &Shell, pair: Pair) -> Result<bool> {
    Ok(sha256(&shell.at("scratch/out"), None)? == sha256(&shell.at(&pair.fill("{new}.img")), None)?)
}

/// Kernel and initrd, by their SHA-256.
pub(super) fn kernel(shell: &Shell, _: Pair) -> Result<bool> {
    Ok(sha256(&shell.at("scratch/out"), None)? == sha256(&shell.at("scratch/new"), None)?)
}

/// The new commit, which names every object by its SHA-256, with all its objects.
pub(super) fn commit(shell: &Shell, pair: Pair) -> Result<bool> {
    let whole = "ostree --repo=scratch/host refs --create=applied $(ostree --repo=ostree rev-parse {new}) && \
                 ostree --repo=scratch/host fsck --quiet";
    Ok(shell.run(&pair.fill(whole)).is_ok())
}
