//! systemd-boot: a release's entry is its UKI in `EFI/Linux/`, and its trust is the counter in the UKI's name.
//!
//! systemd-boot (252, `config_entry_compare`) takes the newest version among the entries that have tries left, proven or
//! not, and only without any of those one whose tries ran out. It takes one try off the name before it starts an entry,
//! so a release that runs its last trial boot is `+0-<done>`, [`Trust::Bad`], while it runs. Neither `loader.conf` nor
//! EFI variables say what is booted: a `default` there would override the order and must not be set.
//!
//! An entry that must lose against an older one is therefore *demoted* to `+0`. The steps of each change are ordered
//! so that the next boot changes in exactly one of them; see [`super::esp`] for what a step is on FAT.

use std::io::{self, Read};
use std::path::Path;

use upright_manifests::bls::{Counter, EntryName};
use upright_manifests::pe;

use super::esp::{EntryFile, EntryFolder};
use super::{BootLoader, Entry, Trust};

/// The tries that a staged entry's name carries; a switch with as many needs no rename.
pub const DEFAULT_TRIES: u32 = 3;

/// systemd-boot's entries on one ESP.
#[derive(Debug)]
pub struct SystemdBoot {
    folder: EntryFolder,
}

impl SystemdBoot {
    /// The entries on the ESP (or XBOOTLDR partition) that is mounted at `esp`.
    pub fn new(esp: &Path) -> Self {
        Self { folder: EntryFolder::new(esp) }
    }

    /// The kernel command line of an entry: what it would boot (`roothash=`, `upright.version=`).
    pub fn command_line(&self, entry: &Entry) -> io::Result<Option<String>> {
        let release = name_of(entry);
        let mine = self.folder.list()?.into_iter().find(|file| is_of(file, &release));
        Ok(mine.and_then(|file| self.folder.command_line(&file.file)))
    }

    /// The visible entries of a release, the one that is booted first in front. Two names for one release are what a
    /// torn rename leaves.
    fn visible(&self, release: &EntryName) -> io::Result<Vec<EntryName>> {
        let files = self.folder.list()?;
        let visible = files.iter().filter(|file| file.visible && is_of(file, release));
        let mut names: Vec<EntryName> = visible.filter_map(|file| file.name.clone()).collect();
        names.sort_by_key(EntryName::is_exhausted);
        Ok(names)
    }

    /// The visible entries of all other releases of ours.
    fn rivals(&self, release: &EntryName) -> io::Result<Vec<EntryName>> {
        let files = self.folder.list()?;
        let visible = files.iter().filter(|file| file.visible && !is_of(file, release));
        Ok(visible.filter_map(|file| file.name.clone()).collect())
    }

    /// What [`BootLoader::remove_others`] deletes.
    fn removable(&self, keep: &EntryName) -> io::Result<Vec<EntryFile>> {
        let files = self.folder.list()?;
        let kept = |file: &EntryFile| file.visible && is_of(file, keep);
        if !files.iter().any(kept) {
            return Err(missing(keep, "nothing was removed"));
        }
        Ok(files.into_iter().filter(|file| !kept(file) && self.is_ours(file, keep)).collect())
    }

    /// Whether an entry was made by an update here: another system's entries on the same ESP are not ours to delete.
    /// The command line is asked, too, since a torn rename leaves a name that says nothing.
    fn is_ours(&self, file: &EntryFile, keep: &EntryName) -> bool {
        if file.name.as_ref().is_some_and(|name| name.os == keep.os) {
            return true;
        }
        let Some(line) = self.folder.command_line(&file.file) else { return false };
        let version = pe::argument(&line, "upright.version");
        let is_kept = pe::argument(&line, "upright.os") == Some(keep.os.as_str())
            && version == Some(keep.version.as_str());
        version.is_some() && !is_kept
    }

    /// Gives one of a release's names another counter, unless it has it.
    fn recount(&self, from: &EntryName, counter: Option<Counter>) -> io::Result<()> {
        let to = EntryName { counter, ..from.clone() };
        let (from, to) = (self.file_name(from)?, to.to_string());
        match from == to {
            true => Ok(()),
            false => self.folder.rename(&from, &to),
        }
    }

    /// The name as it stands in the folder, where `+3-0` may stand for `+3`.
    fn file_name(&self, name: &EntryName) -> io::Result<String> {
        let files = self.folder.list()?;
        let file = files.into_iter().find(|file| file.name.as_ref() == Some(name));
        file.map(|file| file.file).ok_or_else(|| missing(name, "it went away meanwhile"))
    }

    /// Takes all tries from a name. Both names of a torn rename may end here, so the boots used are
    /// counted on until the name is free.
    fn demote(&self, name: &EntryName) -> io::Result<()> {
        if name.is_exhausted() {
            return Ok(());
        }
        let files = self.folder.list()?;
        let used = name.counter.map_or(0, |counter| counter.done);
        let counters = (used..used.saturating_add(8)).map(|done| Counter { left: 0, done });
        let is_free = |counter: &Counter| {
            let to = EntryName { counter: Some(*counter), ..name.clone() }.to_string();
            files.iter().all(|file| file.file != to)
        };
        let free = counters.into_iter().find(is_free);
        let counter =
            free.ok_or_else(|| io::Error::other(format!("too many boot entries named like {name}")))?;
        self.recount(name, Some(counter))
    }

    /// Demotes every rival that would be booted before `name`; the last one is the switch.
    fn overtake(&self, name: &EntryName) -> io::Result<()> {
        let rivals = self.rivals(name)?;
        rivals.iter().filter(|rival| !name.precedes(rival)).try_for_each(|rival| self.demote(rival))
    }

    /// Brings a staged entry under the name it is switched to; the boot loader sees neither.
    fn rename_staged(&self, release: &EntryName, to: &EntryName) -> io::Result<String> {
        let to = to.to_string();
        let files = self.folder.list()?;
        let mut staged = files.iter().filter(|file| is_of(file, release) && !file.visible);
        if staged.clone().any(|file| file.file == to) {
            return Ok(to);
        }
        let staged = staged.next().ok_or_else(|| missing(release, "stage it first"))?;
        self.folder.rename(&staged.file, &to)?;
        Ok(to)
    }
}

impl BootLoader for SystemdBoot {
    fn name(&self) -> &'static str {
        "systemd-boot"
    }

    fn trust(&self, entry: &Entry) -> io::Result<Option<Trust>> {
        let first = self.visible(&name_of(entry))?.into_iter().next();
        Ok(first.map(|name| match name.counter {
            None => Trust::Good,
            Some(Counter { left: 0, .. }) => Trust::Bad,
            Some(Counter { left, done }) => Trust::Trial { left, done },
        }))
    }

    fn remove_others(&self, keep: &Entry) -> io::Result<()> {
        self.removable(&name_of(keep))?.iter().try_for_each(|file| self.folder.remove(file))
    }

    fn room(&self, keep: &Entry) -> io::Result<u64> {
        let (free, cluster) = self.folder.free()?;
        let removable = self.removable(&name_of(keep))?;
        Ok(room_after(free, cluster, &removable))
    }

    fn stage(&self, entry: &Entry, uki: &mut dyn Read) -> io::Result<()> {
        let release = name_of(entry);
        for file in self.folder.list()?.iter().filter(|file| is_of(file, &release)) {
            if file.visible {
                let message = format!("boot entry {} is there already, remove it first", file.file);
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            self.folder.remove(file)?;
        }
        let name = EntryName { counter: Some(Counter { left: DEFAULT_TRIES, done: 0 }), ..release };
        self.folder.create_sealed(&name.to_string(), uki)
    }

    fn staged(&self, entry: &Entry) -> io::Result<Box<dyn Read>> {
        let release = name_of(entry);
        let staged = self.folder.list()?.into_iter().find(|file| is_of(file, &release) && !file.visible);
        let staged = staged.ok_or_else(|| missing(&release, "stage it first"))?;
        Ok(Box::new(self.folder.open_unsealed(&staged.file)?))
    }

    fn switch(&self, entry: &Entry, tries: u32) -> io::Result<()> {
        if tries == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a switch needs at least one try"));
        }
        let release = name_of(entry);
        let target = EntryName { counter: Some(Counter { left: tries, done: 0 }), ..release.clone() };
        let names = self.visible(&release)?;
        // Against newer rivals this step changes nothing yet, and the switch is the demotion of the last of them.
        match names.first() {
            None => self.folder.unseal(&self.rename_staged(&release, &target)?)?,
            Some(_) if names.contains(&target) => {}
            Some(first) => self.recount(first, target.counter)?,
        }
        self.overtake(&target)
    }

    fn mark_good(&self, entry: &Entry) -> io::Result<()> {
        let release = name_of(entry);
        let names = self.visible(&release)?;
        if names.iter().any(|name| name.counter.is_none()) {
            return Ok(());
        }
        let first = names.first().ok_or_else(|| missing(&release, "it cannot be marked good"))?;
        self.recount(first, None)
    }

    fn mark_bad(&self, entry: &Entry) -> io::Result<()> {
        let release = name_of(entry);
        let names = self.visible(&release)?;
        if names.is_empty() {
            return Err(missing(&release, "it cannot be marked bad"));
        }
        let rivals = self.rivals(&release)?;
        let demoted = EntryName { counter: Some(Counter { left: 0, done: 0 }), ..release };
        if !rivals.iter().any(|rival| rival.precedes(&demoted)) {
            let rival = rivals.first().ok_or_else(|| {
                let message = format!("{} {} is the only boot entry, it stays", entry.os, entry.version);
                io::Error::new(io::ErrorKind::NotFound, message)
            })?;
            // Out of tries itself, it would lose against a newer one: it gets one more.
            let done = rival.counter.map_or(0, |counter| counter.done);
            self.recount(rival, Some(Counter { left: 1, done }))?;
        }
        names.iter().try_for_each(|name| self.demote(name))
    }
}

/// A file takes whole clusters; the folder may grow by one for the new name.
fn room_after(free: u64, cluster: u64, removable: &[EntryFile]) -> u64 {
    let clusters = |file: &EntryFile| file.size.div_ceil(cluster).saturating_mul(cluster);
    let freed = removable.iter().map(clusters).fold(0, u64::saturating_add);
    free.saturating_add(freed).saturating_sub(cluster)
}

fn name_of(entry: &Entry) -> EntryName {
    EntryName { os: entry.os.clone(), version: entry.version.clone(), counter: None }
}

fn is_of(file: &EntryFile, release: &EntryName) -> bool {
    file.name.as_ref().is_some_and(|name| name.is_same_release(release))
}

fn missing(release: &EntryName, then: &str) -> io::Error {
    let message = format!("no boot entry for {} {}: {then}", release.os, release.version);
    io::Error::new(io::ErrorKind::NotFound, message)
}

#[cfg(test)]
#[path = "systemd_boot_tests.rs"]
mod tests;
