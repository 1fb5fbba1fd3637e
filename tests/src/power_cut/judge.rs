//! Whether a host would come up from what a power cut left, and which class of outcomes that is.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use upright_manifests::digest::Digest;

use super::disk::{Content, Part, View};
use super::fat::{Fat, FatError, File};
use super::loader::{self, Choice};
use super::print::Print;
use super::var::{self, StateFound};
use crate::story::RELEASES;

/// A release as it was built.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) version: String,
    /// The SHA-256 of its UKI.
    pub(super) uki: Digest,
}

/// The areas of a disk that decide about a boot, in the order of their prints.
pub(super) const AREAS: [&str; 6] = ["esp", "root-a", "root-a-verity", "root-b", "root-b-verity", "var"];

/// What the firmware and the boot loader read beside entries.
const BOOT_FILES: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "loader/loader.conf"];

/// What an EROFS has at byte 1024, and a hash tree at its start.
const EROFS: [u8; 4] = [0xe2, 0xe1, 0xf5, 0xe0];
const VERITY: &[u8] = b"verity\0\0";

/// What a state comes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    /// The version that runs next.
    pub(super) version: String,
    /// The entry that is started, and what the others are.
    entries: String,
    /// The slot it runs from.
    slot: &'static str,
    /// Whether an initrd would find something in the other slot.
    other_is_visible: bool,
    /// What fsck.fat does to the ESP.
    mended: Mended,
    /// What the agent remembers.
    state: StateFound,
}

impl Outcome {
    /// The version that a host which was cut off must end on, if that is decided: `asked` says whether an operator had typed a
    /// rollback from the newer release.
    pub(super) fn goal(&self, asked: bool) -> Option<&'static str> {
        match asked {
            false => Some(RELEASES[1]),
            // The record has it, or the boot loader.
            true if self.state.is_leaving() || self.version == RELEASES[0] => Some(RELEASES[0]),
            true => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, entries, slot, other_is_visible, mended, state } = self;
        let other = if *other_is_visible { "visible" } else { "hidden" };
        write!(f, "{version} from slot {slot}, the other {other}, agent {state}; {entries}{mended}")
    }
}

/// What fsck.fat does beside taking the mark of a mounted file system away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mended {
    /// A file becomes shorter.
    cut: bool,
    /// Clusters that belonged to nobody are free.
    reclaimed: bool,
}

impl Mended {
    /// From what it says (dosfstools 4.2, `src/check.c`, `src/fat.c`).
    fn of(said: &str) -> Self {
        Self {
            cut: said.contains("runcating") || said.contains("Assuming EOF"),
            reclaimed: said.contains("Reclaimed"),
        }
    }
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cut { "; a file is cut by fsck" } else { "" })?;
        f.write_str(if self.reclaimed { "; clusters are reclaimed" } else { "" })
    }
}

/// A state that a host comes up from.
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    /// How many lines a program of the user's has written and synced.
    pub(super) lines: u64,
}

/// What is on an ESP.
#[derive(Debug, Clone)]
struct Esp {
    chosen: Choice,
    version: String,
    listing: String,
    /// What is started once the host has checked the file system.
    after: Option<Choice>,
    mended: Mended,
}

/// Judges states of one disk; what was judged before is not read again.
pub(super) struct Judge {
    areas: Vec<Range<u64>>,
    releases: Vec<Built>,
    folder: PathBuf,
    esps: HashMap<Print, Result<Esp, String>>,
    slots: HashMap<(Print, Print, String), bool>,
    states: HashMap<Print, Result<(StateFound, u64), String>>,
    boot_files: HashMap<&'static str, Vec<u8>>,
}

impl Judge {
    /// Of a disk with these partitions, on which only these releases were ever installed. `folder` is for files of its own.
    /// The boot loader's own files on `base` are to stay what they are.
    pub(super) fn new(
        base: &dyn Content,
        areas: Vec<Range<u64>>,
        releases: Vec<Built>,
        folder: PathBuf,
    ) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let (esps, slots, states) = (HashMap::new(), HashMap::new(), HashMap::new());
        let part = Part::new(base, areas[0].start);
        let fat = Fat::open(&part).map_err(|error| anyhow::anyhow!("the ESP cannot be read: {error}"))?;
        let read = |path| read_boot_file(&fat, path).map(|bytes| (path, bytes)).map_err(anyhow::Error::msg);
        let boot_files = BOOT_FILES.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Self { areas, releases, folder, esps, slots, states, boot_files })
    }

    /// What the state comes to, or in one line why it is none that a host comes up from. An error is the judge's own.
    pub(super) fn judge(&mut self, view: View<'_>, prints: &[Print]) -> Result<Result<Judged, String>> {
        let &[esp_print, a, a_verity, b, b_verity, var_print] = prints else {
            bail!("six areas have prints")
        };
        let esp = match self.esps.get(&esp_print) {
            Some(known) => known.clone(),
            None => self.look_at_esps(view)?,
        };
        self.esps.insert(esp_print, esp.clone());
        let esp = match esp {
            Ok(esp) => esp,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut slot = None;
        for chosen in esp.after.iter().chain([&esp.chosen]) {
            slot = None;
            for (name, root, prints) in [("a", 1, (a, a_verity)), ("b", 3, (b, b_verity))] {
                let key = (prints.0, prints.1, format!("{name} {}", chosen.command_line));
                let holds = match self.slots.get(&key) {
                    Some(known) => *known,
                    None => self.look_at_slot(view, root, chosen)?,
                };
                self.slots.insert(key, holds);
                if holds {
                    slot = Some((name, if root == 1 { 3 } else { 1 }));
                }
            }
            if slot.is_none() {
                return Ok(Err(format!("no slot holds what {} starts", chosen.file.name)));
            }
        }
        let Some((slot, other)) = slot else { bail!("something is started") };
        let other_is_visible = self.is_visible(view, other)?;
        let state = match self.states.get(&var_print) {
            Some(known) => known.clone(),
            None => var::look(&Part::new(&view, self.areas[5].start), &self.areas[5], &self.folder)?,
        };
        self.states.insert(var_print, state.clone());
        let Esp { version, listing: entries, mended, .. } = esp;
        Ok(state.map(|(state, lines)| Judged {
            outcome: Outcome { version, entries, slot, other_is_visible, mended, state },
            lines,
        }))
    }

    /// Whether a slot can be found by its UUIDs.
    fn is_visible(&self, view: View<'_>, root: usize) -> Result<bool> {
        let mut start = [0; 4096];
        Part::new(&view, self.areas[root].start).read_at(&mut start, 0)?;
        let is_image = start[1024..1028] == EROFS;
        Part::new(&view, self.areas[root + 1].start).read_at(&mut start, 0)?;
        Ok(is_image && start.starts_with(VERITY))
    }

    /// What is started from the ESP as it is, which must still be something complete when the host has checked the file system.
    fn look_at_esps(&self, view: View<'_>) -> Result<Result<Esp, String>> {
        let area = &self.areas[0];
        let found = self.look_at_esp(&Part::new(&view, area.start));
        if found.is_err() {
            return Ok(found);
        }
        let image = self.folder.join("esp");
        extract(&Part::new(&view, area.start), area.end - area.start, &image)?;
        let checked =
            Command::new("fsck.fat").arg("-a").arg(&image).output().context("cannot run fsck.fat")?;
        if !matches!(checked.status.code(), Some(0 | 1)) {
            let said = String::from_utf8_lossy(&checked.stdout).trim().replace('\n', "; ");
            return Ok(Err(format!("fsck.fat cannot mend the ESP by itself: {said}")));
        }
        let mended = Mended::of(&String::from_utf8_lossy(&checked.stdout));
        let file = fs::File::open(&image).with_context(|| format!("opening {}", image.display()))?;
        Ok(match self.look_at_esp(&file) {
            Ok(after) => found.map(|found| Esp { after: Some(after.chosen), mended, ..found }),
            Err(reason) => Err(format!("once fsck.fat has mended the ESP, {reason}")),
        })
    }

    fn look_at_esp(&self, part: &dyn Content) -> Result<Esp, String> {
        let damaged = |error: FatError| format!("the ESP cannot be read: {error}");
        let fat = Fat::open(part).map_err(damaged)?;
        let entries = loader::entries(&fat).map_err(damaged)?;
        let chosen = entries.first().ok_or("nothing is there to be started")?;
        let content = fat.read(&chosen.file, usize::MAX);
        let content = content.map_err(|error| format!("{} cannot be read: {error}", chosen.file.name))?;
        let found = Digest::of(&content);
        let release = self.releases.iter().find(|release| release.uki == found);
        let release =
            release.ok_or_else(|| format!("{} is started and is not complete", chosen.file.name))?;
        for (path, expected) in &self.boot_files {
            if read_boot_file(&fat, path)? != *expected {
                return Err(format!("{path} is not what it was"));
            }
        }
        let mut listing = chosen.file.name.clone();
        let mut places = false;
        for file in fat.folder("EFI/Linux").map_err(damaged)?.unwrap_or_default() {
            if file.name.starts_with("PLACE") {
                places = true;
            } else if file != chosen.file {
                let seen = entries.iter().any(|entry| entry.file == file);
                let sign = if seen { "+" } else { "-" };
                listing += &format!(" {sign} {} ({})", file.name, self.what_is_in(&fat, &file));
            }
        }
        listing += if places { " - places" } else { "" };
        let (version, chosen) = (release.version.clone(), chosen.clone());
        Ok(Esp { version, chosen, listing, after: None, mended: Mended::default() })
    }

    /// How far an entry was written that is not the one that is started.
    fn what_is_in(&self, fat: &Fat<'_>, file: &File) -> &'static str {
        let Ok(mut content) = fat.read(file, usize::MAX) else { return "chain broken" };
        let is_sealed = content.starts_with(&[0, 0]);
        if is_sealed {
            content[..2].copy_from_slice(b"MZ");
        }
        let found = Digest::of(&content);
        match (is_sealed, self.releases.iter().any(|release| release.uki == found)) {
            _ if content.is_empty() => "empty",
            (false, true) => "whole",
            (true, true) => "whole, sealed",
            (true, false) => "sealed",
            (false, false) => "partial",
        }
    }

    /// Whether an initrd that looks for the entry's UUIDs finds them in this slot, with all that its root hash stands for.
    fn look_at_slot(&self, view: View<'_>, root: usize, chosen: &Choice) -> Result<bool> {
        let word = |key: &str| {
            let words = chosen.command_line.split_whitespace();
            let value = words.filter_map(|word| word.strip_prefix(key)).next_back();
            value.with_context(|| format!("{} has no {key} on its command line", chosen.file.name))
        };
        let (image, tree) = (&self.areas[root], &self.areas[root + 1]);
        let mut start = [0; 4096];
        Part::new(&view, image.start).read_at(&mut start, 0)?;
        let is_image =
            start[1024..1028] == EROFS && uuid(&start[1072..1088]) == word("systemd.verity_root_data=UUID=")?;
        Part::new(&view, tree.start).read_at(&mut start, 0)?;
        let is_tree =
            start.starts_with(VERITY) && uuid(&start[16..32]) == word("systemd.verity_root_hash=UUID=")?;
        if !is_image || !is_tree {
            return Ok(false);
        }
        let blocks = u64::from_le_bytes(*start[72..].first_chunk().context("a superblock")?);
        ensure!(blocks * 4096 <= image.end - image.start, "the hash tree is for more than the partition");
        let files = ["image", "tree"].map(|name| self.folder.join(name));
        extract(&Part::new(&view, image.start), blocks * 4096, &files[0])?;
        extract(&Part::new(&view, tree.start), tree.end - tree.start, &files[1])?;
        let verified =
            Command::new("veritysetup").arg("verify").args(&files).arg(word("roothash=")?).output();
        Ok(verified.context("cannot run veritysetup")?.status.success())
    }
}

fn read_boot_file(fat: &Fat<'_>, path: &str) -> Result<Vec<u8>, String> {
    let failed = |error: FatError| format!("{path} cannot be read: {error}");
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let files = fat.folder(folder).map_err(failed)?.unwrap_or_default();
    let file = files.iter().find(|file| file.name.eq_ignore_ascii_case(name));
    fat.read(file.ok_or(format!("{path} is gone"))?, usize::MAX).map_err(failed)
}

/// Writes the first `length` bytes of something to a file, with holes where there are zeros.
pub(super) fn extract(from: &dyn Content, length: u64, to: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(to).with_context(|| format!("creating {}", to.display()))?;
    file.set_len(length)?;
    let mut buffer = vec![0; 64 << 10];
    for offset in (0..length).step_by(buffer.len()) {
        let part = (length - offset).min(buffer.len() as u64) as usize;
        if !from.holds(offset..offset + part as u64)? {
            continue;
        }
        from.read_at(&mut buffer[..part], offset)?;
        if buffer[..part].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..part], offset)?;
        }
    }
    Ok(())
}

fn uuid(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
