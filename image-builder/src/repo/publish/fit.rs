//! Whether a release fits the smallest partitions that hosts have.

use upright_manifests::channel::Channel;

use super::plan::Facts;
use crate::repo::build::Build;
use crate::repo::bytes::exact;
use crate::repo::error::{Error, Result};

/// What else is on an ESP: the boot loader, its settings, the file system's own tables.
const ESP_RESERVE: u64 = 8 << 20;

/// Refuses a release that some host has no room for.
pub(super) fn check(facts: Facts<'_>, build: &Build, current: Option<&Channel>) -> Result<()> {
    let disk = &facts.config.disk;
    let (version, os) = (&build.version, &build.os);
    let parts = [
        ("image", build.root.size, "slot", disk.slot.0),
        ("hash tree", build.root.verity.hash_size, "verity", disk.verity.0),
    ];
    for (what, size, partition, room) in parts {
        if size > room {
            return Err(Error::refused(format!(
                "{version} does not fit the smallest {partition} partition of {os}: its {what} has {} bytes, the partition \
                 {}, {} too few; make the tree smaller, or raise disk.{partition} in upright.toml if every host has the \
                 room",
                exact(size),
                exact(room),
                exact(size - room)
            )));
        }
    }
    // While a host updates, the UKI it runs lies beside the new one.
    let from = current.and_then(|current| {
        let versions = std::iter::once(&current.version).chain(&current.history);
        let listed = versions.filter_map(|v| facts.releases.iter().find(|r| r.release.version == *v));
        listed.map(|listed| listed.release.uki.size).max()
    });
    let beside = from.unwrap_or(build.uki.size);
    let needed = build.uki.size.saturating_add(beside).saturating_add(ESP_RESERVE);
    if needed > disk.esp.0 {
        return Err(Error::refused(format!(
            "{version} does not fit the smallest ESP of {os}: two UKIs ({} and {} bytes) and the boot loader need {} \
             bytes, the partition has {}, {} too few; make the initrd smaller, or raise disk.esp in upright.toml if every \
             host has the room",
            exact(build.uki.size),
            exact(beside),
            exact(needed),
            exact(disk.esp.0),
            exact(needed - disk.esp.0)
        )));
    }
    Ok(())
}
