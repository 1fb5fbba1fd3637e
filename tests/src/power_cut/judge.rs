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
use super::fat::{Fat, FatError};
use super::loader::{self, Choice};
use super::print::Print;
use super::var::{self, StateFound};

/// A release as it was built.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) version: String,
    /// The SHA-256 of its UKI.
    pub(super) uki: Digest,
}

/// The areas of a disk that decide about a boot, in the order of their prints.
pub(super) const AREAS: [&str; 6] = ["esp", "root-a", "root-a-verity", "root-b", "root-b-verity", "var"];

/// What a state comes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    /// The version that runs next.
    pub(super) version: String,
    /// The entry that is started, and the others that are seen or not.
    entries: String,
    /// The slot it runs from.
    slot: &'static str,
    /// What the agent remembers.
    pub(super) state: StateFound,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, entries, slot, state } = self;
        write!(f, "{version} from slot {slot}, agent {state}; {entries}")
    }
}

/// What is on an ESP.
#[derive(Debug, Clone)]
struct Esp {
    chosen: Choice,
    version: String,
    listing: String,
}

/// Judges states of one disk; what was judged before is not read again.
pub(super) struct Judge {
    areas: Vec<Range<u64>>,
    releases: Vec<Built>,
    folder: PathBuf,
    esps: HashMap<Print, Result<Esp, String>>,
    slots: HashMap<(Print, Print, String), bool>,
    states: HashMap<Print, Result<StateFound, String>>,
}

impl Judge {
    /// Of a disk with these partitions, on which only these releases were ever installed. `folder` is for files of its own.
    pub(super) fn new(areas: Vec<Range<u64>>, releases: Vec<Built>, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let (esps, slots, states) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { areas, releases, folder, esps, slots, states })
    }

    /// What the state comes to, or in one line why it is none that a host comes up from. An error is the judge's own.
    pub(super) fn judge(&mut self, view: View<'_>, prints: &[Print]) -> Result<Result<Outcome, String>> {
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
        let mut verified = None;
        for (slot, root, prints) in [("a", 1, (a, a_verity)), ("b", 3, (b, b_verity))] {
            let key = (prints.0, prints.1, format!("{slot} {}", esp.chosen.command_line));
            let holds = match self.slots.get(&key) {
                Some(known) => *known,
                None => self.look_at_slot(view, root, &esp.chosen)?,
            };
            self.slots.insert(key, holds);
            if holds {
                verified = Some(slot);
            }
        }
        let Some(slot) = verified else {
            return Ok(Err(format!("no slot holds {}, which {} starts", esp.version, esp.chosen.file.name)));
        };
        let state = match self.states.get(&var_print) {
            Some(known) => known.clone(),
            None => var::look(&Part::new(&view, self.areas[5].start), &self.areas[5], &self.folder)?,
        };
        self.states.insert(var_print, state.clone());
        Ok(state.map(|state| Outcome { version: esp.version, entries: esp.listing, slot, state }))
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
        let file = fs::File::open(&image).with_context(|| format!("opening {}", image.display()))?;
        Ok(match self.look_at_esp(&file) {
            Ok(_) => found,
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
        let mut listing = chosen.file.name.clone();
        for file in fat.folder("EFI/Linux").map_err(damaged)?.unwrap_or_default() {
            if file != chosen.file {
                let seen = entries.iter().any(|entry| entry.file == file);
                listing += &format!("{}{}", if seen { " + " } else { " - " }, file.name);
            }
        }
        Ok(Esp { version: release.version.clone(), chosen: chosen.clone(), listing })
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
        let is_image = start[1024..1028] == [0xe2, 0xe1, 0xf5, 0xe0]
            && uuid(&start[1072..1088]) == word("systemd.verity_root_data=UUID=")?;
        Part::new(&view, tree.start).read_at(&mut start, 0)?;
        let is_tree = start.starts_with(b"verity\0\0")
            && uuid(&start[16..32]) == word("systemd.verity_root_hash=UUID=")?;
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
