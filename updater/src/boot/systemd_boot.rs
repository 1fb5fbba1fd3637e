//! systemd-boot: a release's entry is its UKI in `EFI/Linux/`, and its trust is the counter in the UKI's name.
//!
//! systemd-boot (252, `config_entry_compare`) takes the newest version among the entries that have tries left, proven or
//! not, and only without any of those one whose tries ran out. It takes one try off the name before it starts an entry,
//! so a release that runs its last trial boot is `+0-<done>`, [`Trust::Bad`], while it runs. Neither `loader.conf` nor
//! EFI variables say what is booted: a `default` there would override the order and must not be set.
//!
//! An entry that must lose against an older one is therefore *demoted* to `+0`. An entry whose counter changes is sealed,
//! renamed and unsealed, so that the next boot changes in exactly one of the steps, which is one sector
//! ([`super::esp`]): the unsealing of what is to boot, or the sealing of what is not to.

use std::io::{self, Read};
use std::path::Path;

use upright_manifests::bls::{Counter, EntryName};
use upright_manifests::pe;

use super::esp::{EntryFile, EntryFolder, room_after};
use super::{BootLoader, Entry, Medium, Trust};

/// The tries that a staged entry's name carries; a switch with as many needs no rename.
pub const DEFAULT_TRIES: u32 = 3;

/// systemd-boot's entries on one ESP.
pub struct SystemdBoot {
    folder: EntryFolder,
}

impl SystemdBoot {
    /// The entries on the ESP (or XBOOTLDR partition) that is mounted at `esp`.
    pub fn new(esp: &Path) -> Self {
        Self::in_folder(EntryFolder::new(esp))
    }

    pub(super) fn in_folder(folder: EntryFolder) -> Self {
        Self { folder }
    }

    /// The entries in a folder of another kind than one that is mounted.
    pub fn on(medium: Box<dyn Medium>) -> Self {
        Self::in_folder(EntryFolder::on(medium))
    }

    /// The kernel command line of an entry: what it would boot (`roothash=`, `upright.version=`).
    pub fn command_line(&self, entry: &Entry) -> io::Result<Option<String>> {
        let release = name_of(entry);
        let mine = self.folder.list()?.into_iter().find(|file| is_of(file, &release));
        Ok(mine.and_then(|file| self.folder.command_line(&file.file)))
    }

    /// The files of a release. Several are what a torn rename leaves; they may share their clusters, so none is deleted.
    fn files_of(&self, release: &EntryName) -> io::Result<Vec<EntryFile>> {
        let mut files = self.folder.list()?;
        files.retain(|file| is_of(file, release) && file.size > 0);
        Ok(files)
    }

    /// The entries of all other releases of ours, those that a change was cut off at included.
    fn rivals(&self, release: &EntryName) -> io::Result<Vec<Rival>> {
        let mut files = self.folder.list()?;
        files.retain(|file| !is_of(file, release) && file.size > 0 && was_in_force(file));
        let rival = |file: EntryFile| Some(Rival { name: file.name?, visible: file.visible });
        Ok(files.into_iter().filter_map(rival).collect())
    }

    /// What [`BootLoader::remove_others`] deletes.
    fn removable(&self, keep: &EntryName) -> io::Result<Vec<EntryFile>> {
        let files = self.folder.list()?;
        let kept = |file: &EntryFile| file.visible && is_of(file, keep);
        if !files.iter().any(kept) {
            return Err(missing(keep, "nothing was removed"));
        }
        let goes = |file: &EntryFile| file.size == 0 || self.is_ours(file, keep);
        Ok(files.into_iter().filter(|file| !kept(file) && goes(file)).collect())
    }

    /// Whether an entry was made by an update here: another system's entries on the same ESP are not ours to delete.
    fn is_ours(&self, file: &EntryFile, keep: &EntryName) -> bool {
        let Some(name) = &file.name else { return false };
        let says_so = |line: String| pe::argument(&line, "upright.os").is_some();
        name.os == keep.os || self.folder.command_line(&file.file).is_some_and(says_so)
    }

    /// Gives all names of a release other tries, and leaves them visible. Sealed meanwhile, so that neither a torn
    /// rename nor the first of several names boots before all are done.
    fn recount(&self, release: &EntryName, change: Change) -> io::Result<()> {
        let files = self.files_of(release)?;
        let has_it = |file: &EntryFile| tries_in_name(file) == Some(change.left());
        if files.iter().all(|file| file.visible && has_it(file)) {
            return Ok(());
        }
        for file in files.iter().filter(|file| file.visible) {
            self.folder.seal(&file.file)?;
        }
        for file in files.iter().filter(|file| !has_it(file)) {
            self.rename_to_free(file, release, change)?;
        }
        self.files_of(release)?.iter().try_for_each(|file| self.folder.unseal(&file.file))
    }

    /// Renames to the first name with the changed tries that is free, counting on the boots used.
    fn rename_to_free(&self, file: &EntryFile, release: &EntryName, change: Change) -> io::Result<()> {
        let files = self.folder.list()?;
        let used = file.name.as_ref().and_then(|name| name.counter).map_or(0, |counter| counter.done);
        let (left, done) = (change.left(), change.done(used));
        let counters = (done..done.saturating_add(8)).map(|done| Counter { left, done });
        let mut names = counters.map(|c| EntryName { counter: Some(c), ..release.clone() }.to_string());
        match names.find(|name| files.iter().all(|file| file.file != *name)) {
            Some(free) => self.folder.rename(&file.file, &free),
            None => Err(io::Error::other(format!("too many boot entries named like {}", file.file))),
        }
    }

    /// Demotes every rival that would be booted before `name`; sealing the last one is the switch. A demotion that
    /// was cut off is completed, since a rival that is not seen is no way back.
    fn overtake(&self, name: &EntryName) -> io::Result<()> {
        let rivals = self.rivals(name)?;
        let is_ahead = |rival: &&Rival| !rival.visible || !name.precedes(&rival.name);
        rivals.iter().filter(is_ahead).try_for_each(|rival| self.recount(&rival.name, Change::Demote))
    }
}

/// How an entry's counter changes.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A trial with as many tries starts.
    Trial(u32),
    /// It loses its tries.
    Demote,
    /// It gets a try beside those it had.
    OneMore,
}

impl Change {
    fn left(self) -> u32 {
        match self {
            Self::Trial(tries) => tries,
            Self::Demote => 0,
            Self::OneMore => 1,
        }
    }

    /// Only the name of a trial that starts says that no boot was used: a staged entry's.
    fn done(self, used: u32) -> u32 {
        match self {
            Self::Trial(_) => 0,
            Self::Demote => used,
            Self::OneMore => used.max(1),
        }
    }
}

/// An entry of another release.
struct Rival {
    name: EntryName,
    visible: bool,
}

impl BootLoader for SystemdBoot {
    fn name(&self) -> &'static str {
        "systemd-boot"
    }

    fn trust(&self, entry: &Entry) -> io::Result<Option<Trust>> {
        let files = self.files_of(&name_of(entry))?;
        let names = files.iter().filter(|file| file.visible).filter_map(|file| file.name.as_ref());
        Ok(match names.min_by_key(|name| name.is_exhausted()) {
            Some(EntryName { counter: None, .. }) => Some(Trust::Good),
            Some(EntryName { counter: Some(Counter { left: 0, .. }), .. }) => Some(Trust::Bad),
            Some(EntryName { counter: Some(Counter { left, done }), .. }) => {
                Some(Trust::Trial { left: *left, done: *done })
            }
            // Sealed in the middle of a change: passed over, though whole.
            None => files.iter().any(was_in_force).then_some(Trust::Bad),
        })
    }

    fn command_lines(&self) -> io::Result<Vec<String>> {
        let files = self.folder.list()?;
        let was_in_force = files.iter().filter(|file| file.size > 0 && was_in_force(file));
        Ok(was_in_force.filter_map(|file| self.folder.command_line(&file.file)).collect())
    }

    fn remove_others(&self, keep: &Entry) -> io::Result<()> {
        self.removable(&name_of(keep))?.iter().try_for_each(|file| self.folder.remove(file))
    }

    fn room(&self, keep: &Entry) -> io::Result<u64> {
        let (free, cluster) = self.folder.free()?;
        let removable = self.removable(&name_of(keep))?;
        Ok(room_after(free, cluster, &removable))
    }

    fn size(&self, entry: &Entry) -> io::Result<Option<u64>> {
        Ok(self.files_of(&name_of(entry))?.first().map(|file| file.size))
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
        let staged = self.files_of(&release)?.into_iter().find(|file| !file.visible);
        let staged = staged.ok_or_else(|| missing(&release, "stage it first"))?;
        Ok(Box::new(self.folder.open_unsealed(&staged.file)?))
    }

    fn content(&self, entry: &Entry) -> io::Result<Option<Box<dyn Read>>> {
        let files = self.files_of(&name_of(entry))?;
        match files.iter().find(|file| was_in_force(file)) {
            Some(file) => Ok(Some(Box::new(self.folder.open_unsealed(&file.file)?))),
            None => Ok(None),
        }
    }

    fn restore(&self, entry: &Entry, keep: &Entry) -> io::Result<()> {
        let (release, kept) = (name_of(entry), self.files_of(&name_of(keep))?);
        if self.files_of(&release)?.is_empty() {
            return Err(missing(&release, "stage it first"));
        }
        if self.trust(entry)? == Some(Trust::Good) {
            return Ok(());
        }
        let wins = |file: &&EntryFile| {
            file.visible && file.name.as_ref().is_some_and(|name| name.precedes(&release))
        };
        // Without tries first: it is not seen before it has a name under which it is passed over.
        self.recount(&release, Change::Demote)?;
        // A newer release than what runs would be booted before it: it stays as it was left, passed over.
        if !kept.iter().any(|file| wins(&file)) {
            return Ok(());
        }
        let first = self.files_of(&release)?.into_iter().find(|file| file.visible);
        let first = first.ok_or_else(|| missing(&release, "stage it first"))?;
        self.folder.rename(&first.file, &release.to_string())
    }

    fn switch(&self, entry: &Entry, tries: u32) -> io::Result<()> {
        if tries == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a switch needs at least one try"));
        }
        let release = name_of(entry);
        let files = self.files_of(&release)?;
        let first = files.first().ok_or_else(|| missing(&release, "stage it first"))?;
        let rivals = self.rivals(&release)?;
        let wins = |name: &EntryName| rivals.iter().all(|rival| !rival.visible || name.precedes(&rival.name));
        let is_next = |file: &&EntryFile| file.visible && file.name.as_ref().is_some_and(wins);
        match files.iter().find(is_next) {
            // What the next boot takes anyway is not sealed for a moment: what it would take then is not known to be good.
            Some(file) if tries_in_name(file) != Some(tries) => {
                self.rename_to_free(file, &release, Change::Trial(tries))
            }
            Some(_) => Ok(()),
            None => self.recount(&release, Change::Trial(tries)),
        }
        .and_then(|()| self.overtake(&release))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot switch to {}: {error}", first.file)))
    }

    fn mark_good(&self, entry: &Entry) -> io::Result<()> {
        let release = name_of(entry);
        let mut files = self.files_of(&release)?;
        files.retain(|file| file.visible);
        if files.iter().any(|file| file.name.as_ref().is_some_and(|name| name.counter.is_none())) {
            return Ok(());
        }
        // Not sealed for a moment, since it is what runs; what a torn rename leaves of it has no counter, as is wanted.
        let first = files.first().ok_or_else(|| missing(&release, "it cannot be marked good"))?;
        self.folder.rename(&first.file, &release.to_string())
    }

    fn mark_bad(&self, entry: &Entry) -> io::Result<()> {
        let release = name_of(entry);
        let files = self.files_of(&release)?;
        if files.is_empty() {
            // What is not there is passed over, unless there is nothing else.
            let is_other = self.rivals(&release)?.iter().any(|rival| rival.visible);
            return if is_other { Ok(()) } else { Err(missing(&release, "it cannot be marked bad")) };
        }
        if !files.iter().any(was_in_force) {
            // Sealed with all its tries: staged, or a demotion that was cut off. Either way it is passed over.
            return Ok(());
        }
        let rivals = self.rivals(&release)?;
        let demoted = EntryName { counter: Some(Counter { left: 0, done: 0 }), ..release.clone() };
        if !rivals.iter().any(|rival| rival.visible && rival.name.precedes(&demoted)) {
            let rival = rivals.first().ok_or_else(|| {
                let message = format!("{} {} is the only boot entry, it stays", entry.os, entry.version);
                io::Error::new(io::ErrorKind::NotFound, message)
            })?;
            // Out of tries itself, it would lose against a newer one: it gets one more.
            self.recount(&rival.name, Change::OneMore)?;
        }
        match self.recount(&release, Change::Demote) {
            // Not whole, and so not unsealed: nothing boots it as it is.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(()),
            demoted => demoted,
        }
    }
}

fn name_of(entry: &Entry) -> EntryName {
    EntryName { os: entry.os.clone(), version: entry.version.clone(), counter: None }
}

fn is_of(file: &EntryFile, release: &EntryName) -> bool {
    file.name.as_ref().is_some_and(|name| name.is_same_release(release))
}

/// The tries that the file's own name gives it.
fn tries_in_name(file: &EntryFile) -> Option<u32> {
    file.file.parse::<EntryName>().ok()?.counter.map(|counter| counter.left)
}

/// Whether the entry was switched to at some time. A sealed one was unless it has the name of a staged one, which may not be
/// complete.
fn was_in_force(file: &EntryFile) -> bool {
    let counter = file.name.as_ref().and_then(|name| name.counter);
    file.visible || counter.is_none_or(|counter| counter.left == 0 || counter.done > 0)
}

fn missing(release: &EntryName, then: &str) -> io::Error {
    let message = format!("no boot entry for {} {}: {then}", release.os, release.version);
    io::Error::new(io::ErrorKind::NotFound, message)
}

#[cfg(test)]
#[path = "systemd_boot_tests.rs"]
mod tests;
