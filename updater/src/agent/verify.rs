//! Checks at any time that a slot holds what was signed for it.

use serde::Serialize;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;
use upright_manifests::verity::salt;
use upright_manifests::version::Version;

use super::entry::{EntryState, held, judge};
use super::opened::Opened;
use super::{Agent, AgentError, Reporter};
use crate::apply::{MOST_DAMAGED, Unreadable, audit, files_in, layout};
use crate::host::{Access, Host};
use crate::machine::{Record, Target};

/// What a slot was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotAudit {
    /// The slot.
    pub slot: Slot,
    /// Whether it runs.
    pub booted: bool,
    /// The release it should hold.
    pub version: Version,
    /// The release's dm-verity root hash: for the slot that runs what its UKI has on the command line, for the other
    /// what was signed when it was installed.
    pub root_hash: Digest,
    /// The root hash of what it holds.
    pub found: Digest,
    /// The image's size in bytes.
    pub size: u64,
    /// How many blocks of 4096 bytes the kernel refuses to read, since they are not what the hash tree says.
    pub damaged_blocks: u64,
    /// The numbers of the first of them.
    pub blocks: Vec<u64>,
    /// The files that they are part of, if that can be told.
    pub files: Vec<String>,
    /// The boot entry.
    pub entry: EntryState,
    /// A block of the hash tree that is damaged itself; 0 is its superblock.
    pub damaged_tree: Option<u64>,
}

impl SlotAudit {
    /// A slot of which neither superblock tells how large it is.
    fn unreadable(slot: Slot, booted: bool, target: Target, entry: EntryState) -> Self {
        let Target { version, root_hash, .. } = target;
        let found = Digest::from([0; 32]);
        let (blocks, files) = (Vec::new(), Vec::new());
        Self {
            slot,
            booted,
            version,
            root_hash,
            found,
            entry,
            size: 0,
            damaged_blocks: 0,
            blocks,
            files,
            damaged_tree: Some(0),
        }
    }

    /// Whether the slot holds its release, and all of it can be read.
    pub fn holds(&self) -> bool {
        self.is_whole() && self.entry.is_good()
    }

    /// What goes before the number of damaged blocks: with more than are remembered, those that cannot be read and should hold zeros
    /// are not among them.
    pub fn least(&self) -> &'static str {
        if self.blocks.len() < MOST_DAMAGED { "" } else { "at least " }
    }

    /// Whether the partitions hold it.
    pub fn is_whole(&self) -> bool {
        self.found == self.root_hash && self.damaged_blocks == 0 && self.damaged_tree.is_none()
    }
}

impl Agent<'_> {
    /// The release that `slot` should hold, and its boot entry; none if nothing is known to be in the slot. Of the slot itself nothing
    /// is read.
    pub fn look_at_entry(
        host: &dyn Host,
        record: &Record,
        slot: Slot,
    ) -> Result<Option<(Target, EntryState)>, AgentError> {
        let booted = host.machine().booted()?;
        let Some(target) = held(record, &booted, slot) else { return Ok(None) };
        let entry = judge(host.boot(), &booted.os, slot, &target)?;
        Ok(Some((target, entry)))
    }

    /// Reads all of `slot` past the page cache; none if nothing is known to be in it. Nothing is changed, and no lock is needed.
    pub fn audit(
        host: &dyn Host,
        record: &Record,
        slot: Slot,
        unreadable: Unreadable,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<SlotAudit>, AgentError> {
        let booted = host.machine().booted()?;
        let Some((target, entry)) = Self::look_at_entry(host, record, slot)? else { return Ok(None) };
        let Opened { root, verity, .. } = Opened::of(host, slot, Access::Read)?;
        let Some(params) = layout(root.as_ref(), verity.as_ref(), target.root_hash, salt(&booted.os)) else {
            return Ok(Some(SlotAudit::unreadable(slot, slot == booted.slot, target, entry)));
        };
        let size = params.data_blocks.saturating_mul(upright_manifests::BLOCK_SIZE);
        reporter.step(&format!("reading slot {slot}"));
        let observe = &mut |done| reporter.bytes(done, size);
        let seen = audit(root.as_ref(), verity.as_ref(), &params, unreadable, observe)?;
        // The names are a courtesy; where the damage is in the file system's own blocks there are none.
        let files = if seen.blocks.is_empty() { None } else { files_in(root.as_ref(), &seen.blocks).ok() };
        let name = |path: &Vec<u8>| format!("/{}", String::from_utf8_lossy(path).escape_debug());
        Ok(Some(SlotAudit {
            slot,
            booted: slot == booted.slot,
            version: target.version,
            root_hash: target.root_hash,
            entry,
            found: seen.found,
            size,
            damaged_blocks: seen.damaged,
            blocks: seen.blocks,
            files: files.iter().flatten().map(name).collect(),
            damaged_tree: seen.tree,
        }))
    }
}
