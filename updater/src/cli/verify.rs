//! `upright verify`.

use clap::Args;
use serde::Serialize;
use upright_manifests::bytes::human;
use upright_manifests::name::Slot;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::{Agent, EntryState, SlotAudit};
use crate::apply::Unreadable;

/// How many files and blocks a line names.
const NAMED: usize = 3;

/// Read the slots from their partitions and compare them with what was signed
///
/// The kernel does so for each block that is read, with dm-verity; this reads all of them. Exits with 4 if a slot does not hold
/// what it should.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// This slot alone: a or b
    slot: Option<Slot>,
}

/// What became of the look at a slot.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Look {
    /// It was read.
    Read(Box<SlotAudit>),
    /// It could not be.
    Failed {
        slot: Slot,
        /// Why, in one line.
        error: String,
    },
}

impl Verify {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let record = context.record()?;
        let (mut looks, mut failed) = (Vec::new(), None);
        for slot in Slot::ALL.into_iter().filter(|slot| self.slot.is_none_or(|asked| asked == *slot)) {
            let mut progress = output::Progress::new(context.json);
            // A slot that cannot be read does not keep the other from being looked at.
            match Agent::audit(context.host.as_ref(), &record, slot, Unreadable::Damaged, &mut progress) {
                Ok(audit) => looks.extend(audit.map(|audit| Look::Read(Box::new(audit)))),
                Err(error) => {
                    looks.push(Look::Failed { slot, error: error.to_string() });
                    failed.get_or_insert((slot, Failure::from(error)));
                }
            }
        }
        if let (Some(slot), true) = (self.slot, looks.is_empty()) {
            return Err(Failure::new(
                Exit::Refused,
                format!("slot {slot} holds no release, so there is nothing to verify"),
            ));
        }
        output::print(context.json, &looks, || looks.iter().map(describe_look).collect())?;
        let audits = looks.iter().filter_map(|look| match look {
            Look::Read(audit) => Some(audit.as_ref()),
            Look::Failed { .. } => None,
        });
        let damaged: Vec<&SlotAudit> = audits.filter(|audit| !audit.holds()).collect();
        match (damaged.iter().find(|audit| audit.booted).or(damaged.first()), failed) {
            // What was found says it in JSON already.
            (_, Some((_, failure))) if context.json => Ok(failure.exit()),
            (_, Some((slot, failure))) => Err(Failure::new(
                failure.exit(),
                format!(
                    "slot {slot} cannot be verified: {}; `upright doctor` says what this host lacks, and `dmesg` what its disks say",
                    failure.line()
                ),
            )),
            (None, None) => Ok(Exit::Done),
            (Some(_), None) if context.json => Ok(Exit::NotTrusted),
            (Some(audit), None) => Err(Failure::new(Exit::NotTrusted, advice(audit))),
        }
    }
}

fn describe_look(look: &Look) -> String {
    match look {
        Look::Read(audit) => describe(audit),
        Look::Failed { slot, error } => format!("  slot {slot}  {:12}  CANNOT BE READ: {error}\n", "-"),
    }
}

fn describe(audit: &SlotAudit) -> String {
    let SlotAudit { slot, version, .. } = audit;
    let mark = if audit.booted { "*" } else { " " };
    let verdict = match audit.holds() {
        true => format!("as it was signed ({})", human(audit.size)),
        false if audit.is_whole() => "DAMAGED: the boot entry".to_owned(),
        false => damage(audit),
    };
    let verdict = match audit.entry {
        EntryState::Missing if audit.is_whole() => format!("{verdict}, which is gone"),
        EntryState::Missing => format!("{verdict}, and the boot entry is gone"),
        EntryState::Damaged if !audit.is_whole() => format!("{verdict}, and the boot entry"),
        _ => verdict,
    };
    format!("{mark} slot {slot}  {version:12}  {verdict}\n")
}

fn damage(audit: &SlotAudit) -> String {
    let blocks: Vec<String> = audit.blocks.iter().take(NAMED).map(u64::to_string).collect();
    let files: Vec<&str> = audit.files.iter().take(NAMED).map(String::as_str).collect();
    let more = |all: usize| if all > NAMED { ", ..." } else { "" };
    let place = match files.is_empty() {
        true => "the file system's own data".to_owned(),
        false => format!("{}{}", files.join(", "), more(audit.files.len())),
    };
    match (audit.damaged_blocks, audit.damaged_tree) {
        (0, Some(0)) if audit.size == 0 => "DAMAGED: the superblocks of image and hash tree".to_owned(),
        (0, Some(0)) if audit.found == audit.root_hash => {
            "DAMAGED: the superblock of the hash tree".to_owned()
        }
        (0, Some(block)) => format!("DAMAGED: block {block} of the hash tree"),
        (0, None) => format!("OTHER CONTENT: its root hash is {}", audit.found),
        (_, _) if audit.found == audit.root_hash => "DAMAGED: the lowest level of the hash tree".to_owned(),
        (count, _) => {
            let blocks = format!("{}{}", blocks.join(", "), more(audit.blocks.len()));
            format!("DAMAGED: {}{count} of {} blocks ({blocks}) in {place}", audit.least(), audit.size / 4096)
        }
    }
}

fn advice(audit: &SlotAudit) -> String {
    let SlotAudit { slot, version, .. } = audit;
    let next = match (audit.booted, audit.is_whole(), audit.entry) {
        (true, true, EntryState::Missing) => {
            "the next boot does not find it; `upright repair` brings its boot entry back"
        }
        // dm-verity has no say in what the boot loader reads.
        (true, true, _) => {
            "the next boot may not come up with that boot entry; `upright repair` mends it, `upright rollback` leaves it"
        }
        (true, false, _) => {
            "the kernel refuses to read what is damaged; `upright repair` mends the slot, `upright rollback` leaves it"
        }
        (false, ..) => {
            "it is no way back until `upright repair` has mended it or the next update has written it anew"
        }
    };
    format!("slot {slot} does not hold {version} as it was signed: {next}; look at the disk's health")
}

#[cfg(test)]
mod tests {
    use upright_manifests::digest::Digest;

    use super::*;

    fn damaged(blocks: u64) -> SlotAudit {
        SlotAudit {
            slot: Slot::A,
            booted: true,
            version: "1.0.0".parse().unwrap(),
            root_hash: Digest::of(b"signed"),
            found: Digest::of(b"found"),
            size: 40_960_000,
            damaged_blocks: blocks,
            blocks: (0..blocks.min(1000)).collect(),
            files: Vec::new(),
            entry: EntryState::Whole,
            damaged_tree: None,
        }
    }

    #[test]
    fn a_count_that_may_be_too_low_says_so() {
        assert!(describe(&damaged(999)).contains("DAMAGED: 999 of 10000 blocks (0, 1, 2, ...)"));
        for blocks in [1000, 5000] {
            assert!(describe(&damaged(blocks)).contains(&format!("DAMAGED: at least {blocks} of 10000")));
        }
    }

    #[test]
    fn what_the_kernel_has_no_say_in_is_not_told_of_it() {
        let whole = |entry| SlotAudit { root_hash: Digest::of(b"found"), entry, ..damaged(0) };
        assert!(advice(&damaged(1)).contains("the kernel refuses") && advice(&damaged(1)).contains("repair"));
        for (entry, says) in
            [(EntryState::Damaged, "may not come up"), (EntryState::Missing, "`upright repair` brings")]
        {
            let said = advice(&whole(entry));
            assert!(said.contains(says) && !said.contains("kernel"), "{said}");
        }
    }
}
