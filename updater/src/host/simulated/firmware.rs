//! A simulated boot: what firmware, systemd-boot, the initrd and dm-verity would do.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use upright_manifests::bls::{Counter, EntryName, MAX_COUNT};
use upright_manifests::digest::Digest;
use upright_manifests::erofs::Reader;
use upright_manifests::name::Slot;
use upright_manifests::pe::{Headers, MAGIC, MAX_HEADERS, MAX_TEXT, argument};
use upright_manifests::verity::{BLOCK, Geometry, Superblock, VerityParams};

use crate::apply::root_hash_of;
use crate::host::linux::label;
use crate::host::{Access, BlockDevice, Part};
use crate::slot::{Image, Partition};
use crate::state::{Hands, Layout, carry_out_reset, prepare};

/// How many times a machine is restarted that does not come up.
const RESETS: u32 = 100;

/// "Boots" the host below `root` until a system comes up.
pub(super) fn boot(root: &Path) -> io::Result<()> {
    let entries = root.join("esp/EFI/Linux");
    if !entries.is_dir() {
        return Err(io::Error::other(format!("{} is not there", entries.display())));
    }
    let run = root.join("run");
    fs::create_dir_all(&run)?;
    for _ in 0..RESETS {
        let (slot, command_line) = match start(root)? {
            Some(up) => up,
            None => continue,
        };
        let ready = make_state_ready(root, slot)?;
        if ready == Ready::No {
            continue;
        }
        let last = fs::read_to_string(run.join("boot_id")).unwrap_or_default();
        fs::write(run.join("boot_id"), super::next_boot_id(&last))?;
        fs::write(run.join("slot"), slot.as_str())?;
        match fs::remove_dir_all(run.join("upright")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_file(run.join("volatile")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if ready == Ready::OutOfReach => fs::write(run.join("volatile"), "")?,
            _ => {}
        }
        return fs::write(run.join("cmdline"), command_line);
    }
    Err(io::Error::other("no boot entry comes up"))
}

/// One start: the slot and the command line, or nothing if the root file system is not found or does not verify.
fn start(root: &Path) -> io::Result<Option<(Slot, String)>> {
    let folder = root.join("esp/EFI/Linux");
    let file = take_entry(&folder)?;
    let command_line = command_line(&folder.join(file))?;
    let word = |key: &str| argument(&command_line, key).unwrap_or_default();
    let Ok(root_hash) = word("roothash").parse::<Digest>() else { return Ok(None) };
    let uuid = word("systemd.verity_root_hash").trim_start_matches("UUID=");
    for slot in Slot::ALL {
        if holds(root, slot, uuid, &root_hash).unwrap_or(false) {
            return Ok(Some((slot, command_line)));
        }
    }
    Ok(None)
}

/// Whether a system is started, and has its state.
#[derive(PartialEq, Eq)]
enum Ready {
    Yes,
    OutOfReach,
    No,
}

/// What the initrd does before it starts the system. Nothing is mounted here: what a slot has as its own is looked at where it is.
fn make_state_ready(root: &Path, slot: Slot) -> io::Result<Ready> {
    let layout = Layout::of_var(&root.join("var"));
    fs::create_dir_all(layout.own())?;
    let device = Partition::open(&root.join("dev").join(label(slot, Part::Root)), Access::Read)?;
    let image = Reader::open(Image(&device)).map_err(io::Error::other)?;
    let hands = Hands::default();
    let mut complaints = match carry_out_reset(&layout, &hands, &image, slot) {
        Ok(complaints) => complaints,
        Err(error) => vec![format!("cannot reset this host: {error}")],
    };
    let ready = prepare(&layout, &hands, &image, slot);
    let up = match ready {
        Ok(prepared) => {
            complaints.extend(prepared.complaints);
            Ready::Yes
        }
        Err(stopped) => {
            complaints.push(format!("slot {slot} is not booted: {}", stopped.reason));
            if stopped.again { Ready::No } else { Ready::OutOfReach }
        }
    };
    for line in complaints {
        tracing::warn!("{line}");
    }
    Ok(up)
}

/// The entry that systemd-boot would take, with its counter taken on: a name without tries left counts the boots all the same.
pub(crate) fn take_entry(folder: &Path) -> io::Result<String> {
    let mut best: Option<(EntryName, String)> = None;
    for entry in fs::read_dir(folder)? {
        let Ok(file) = entry?.file_name().into_string() else { continue };
        let Ok(name) = file.parse::<EntryName>() else { continue };
        // What is no EFI program, such as an entry that is sealed, or cannot be read is passed over.
        let mut magic = Vec::new();
        let entry = File::open(folder.join(&file));
        let read = entry.and_then(|entry| entry.take(MAGIC.len() as u64).read_to_end(&mut magic));
        if read.is_err() || magic != MAGIC {
            continue;
        }
        if best.as_ref().is_none_or(|(other, _)| name.precedes(other)) {
            best = Some((name, file));
        }
    }
    let Some((name, file)) = best else { return Err(io::Error::other("there is no boot entry")) };
    let Some(Counter { left, done }) = name.counter else { return Ok(file) };
    let counter = Counter { left: left.saturating_sub(1), done: done.saturating_add(1).min(MAX_COUNT) };
    let counted = EntryName { counter: Some(counter), ..name }.to_string();
    fs::rename(folder.join(&file), folder.join(&counted))?;
    Ok(counted)
}

fn command_line(uki: &Path) -> io::Result<String> {
    let mut file = File::open(uki)?;
    let mut start = Vec::new();
    (&file).take(MAX_HEADERS as u64).read_to_end(&mut start)?;
    let headers = Headers::parse(&start).map_err(io::Error::other)?;
    let section = headers.section(".cmdline").ok_or_else(|| io::Error::other("the UKI has no .cmdline"))?;
    let (offset, length) = section.content();
    file.seek(SeekFrom::Start(offset))?;
    let mut text = String::new();
    file.take(length.min(MAX_TEXT)).read_to_string(&mut text)?;
    Ok(text.trim_end_matches('\0').trim().to_owned())
}

/// Whether the slot has the hash tree with that UUID, and an image that it belongs to.
fn holds(root: &Path, slot: Slot, uuid: &str, root_hash: &Digest) -> io::Result<bool> {
    let open = |part| Partition::open(&root.join("dev").join(label(slot, part)), Access::Read);
    let mut block = [0; BLOCK];
    open(Part::Verity)?.read_at(&mut block, 0)?;
    let Ok(superblock) = Superblock::parse_block(&block) else { return Ok(false) };
    if superblock.uuid.to_string() != uuid {
        return Ok(false);
    }
    let geometry = Geometry::new(superblock.data_blocks).map_err(io::Error::other)?;
    let params = VerityParams::new(*root_hash, superblock.salt, &geometry);
    let found = root_hash_of(&open(Part::Root)?, &params, &mut |_| ()).map_err(io::Error::other)?;
    Ok(found == *root_hash)
}
