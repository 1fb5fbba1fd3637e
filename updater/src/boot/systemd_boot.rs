//! systemd-boot: a release's entry is its UKI in `EFI/Linux/`, and its trust is the counter in the UKI's name.
//!
//! systemd-boot (252, `config_entry_compare`) takes the newest version among the entries that have tries left, proven or
//! not, and only without any of those one whose tries ran out. It takes one try off the name before it starts an entry,
//! so a release that runs its last trial boot is `+0-<done>`, [`Trust::Bad`], while it runs. Neither `loader.conf` nor
//! EFI variables say what is booted: a `default` there would override the order and must not be set ([`super::overrides`] looks).
//!
//! An entry that must lose against an older one is therefore *demoted* to `+0`. Among entries that are all out of tries, the newest
//! is taken: one that was demoted is the way back from an older one, and none from a newer one. An entry that such a
//! newer one would win against is *freed* of its counter before it is needed.
//!
//! An entry that gets tries, or is left, is sealed, renamed and unsealed, so that the next boot changes in exactly one of the steps, which is
//! one sector ([`super::esp`]): the unsealing of what is to boot, or the sealing of what is not to. What is the way back is
//! renamed in the open: sealed by a change that is cut off, it would be missing when a trial ends. What a torn rename leaves of it has no
//! counter and is booted, as it was before.

use std::io::{self, Read};
use std::path::Path;

use upright_manifests::bls::{Counter, EntryName};
use upright_manifests::pe;

use super::esp::{EntryFile, EntryFolder, room_after};
use super::overrides::Overrides;
use super::{BootLoader, Concern, Entry, Medium, Trust};

/// The tries that a staged entry's name carries; a switch with as many needs no rename.
pub const DEFAULT_TRIES: u32 = 3;

/// systemd-boot's entries on one ESP.
pub struct SystemdBoot {
    folder: EntryFolder,
    overrides: Option<Overrides>,
}

impl SystemdBoot {
    /// The entries on the ESP (or XBOOTLDR partition) that is mounted at `esp`, and what overrides their order on the machine whose root
    /// is at `root`.
    pub fn of_machine(root: &Path, esp: &Path) -> Self {
        Self { folder: EntryFolder::new(esp), overrides: Some(Overrides::new(root, esp)) }
    }

    pub(super) fn in_folder(folder: EntryFolder) -> Self {
        Self { folder, overrides: None }
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

    /// Of the files of a release that was switched to, the one that is booted.
    fn in_force(&self, entry: &Entry) -> io::Result<Option<EntryFile>> {
        let files = self.files_of(&name_of(entry))?.into_iter().filter(was_in_force);
        let is_exhausted = |file: &EntryFile| file.name.as_ref().is_some_and(EntryName::is_exhausted);
        Ok(files.min_by_key(|file| (!file.visible, is_exhausted(file))))
    }

    /// The entries of all other releases of ours, those that a change was cut off at included.
    fn rivals(&self, release: &EntryName) -> io::Result<Vec<Rival>> {
        let mut files = self.folder.list()?;
        files.retain(|file| !is_of(file, release) && file.size > 0 && was_in_force(file));
        let rival = |file: EntryFile| {
            let is_ours = self.is_ours(&file, release);
            Some(Rival { name: file.name?, visible: file.visible, is_ours, unreadable: file.unreadable })
        };
        Ok(files.into_iter().filter_map(rival).collect())
    }

    /// What [`BootLoader::remove_others`] deletes.
    fn removable(&self, keep: &EntryName) -> io::Result<Vec<EntryFile>> {
        let files = self.folder.list()?;
        let is_seen = files.iter().any(|file| file.visible && is_of(file, keep));
        let goes = |file: &EntryFile| file.size == 0 || self.is_ours(file, keep);
        if !is_seen && files.iter().any(|file| file.visible && goes(file)) {
            return Err(missing(keep, "nothing was removed"));
        }
        // What is left of one that is not seen is no worse than nothing.
        let kept = |file: &EntryFile| is_of(file, keep) && (file.visible || !is_seen && file.size > 0);
        Ok(files.into_iter().filter(|file| !kept(file) && goes(file)).collect())
    }

    /// Whether an entry was made by an update here: another system's entries on the same ESP are not ours to delete.
    fn is_ours(&self, file: &EntryFile, keep: &EntryName) -> bool {
        let Some(name) = &file.name else { return false };
        let says_so = |line: String| pe::argument(&line, "upright.os").is_some();
        name.os == keep.os || self.folder.command_line(&file.file).is_some_and(says_so)
    }

    /// The file of a release that the next boot takes, if it is one of its own.
    fn next_of(&self, release: &EntryName) -> io::Result<Option<EntryFile>> {
        let rivals = self.rivals(release)?;
        let wins = |name: &EntryName| rivals.iter().all(|rival| !rival.visible || name.precedes(&rival.name));
        let is_next = |file: &EntryFile| file.visible && file.name.as_ref().is_some_and(wins);
        Ok(self.files_of(release)?.into_iter().find(is_next))
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

    /// The files of a release that boot loaders see. Those that were taken out of their sight, by a change that was cut off or by the disk,
    /// are put back in it if all are, and they are whole.
    fn put_in_sight(&self, release: &EntryName) -> io::Result<Vec<EntryFile>> {
        let mut files = self.files_of(release)?;
        if !files.iter().any(|file| file.visible) && files.iter().any(was_in_force) {
            files
                .iter()
                .filter(|file| was_in_force(file))
                .try_for_each(|file| self.folder.unseal(&file.file))?;
            files = self.files_of(release)?;
        }
        files.retain(|file| file.visible);
        Ok(files)
    }

    /// Frees a release of its counter, in the open.
    fn free(&self, release: &EntryName) -> io::Result<()> {
        let files = self.put_in_sight(release)?;
        if files.iter().any(|file| file.name.as_ref().is_some_and(|name| name.counter.is_none())) {
            return Ok(());
        }
        let first = files.first().ok_or_else(|| missing(release, "its boots cannot be left uncounted"))?;
        self.folder.rename(&first.file, &EntryName { counter: None, ..release.clone() }.to_string())
    }

    /// Sees to it that `release` has something of ours beside it that is booted when its own tries are used up, unless it cannot be read.
    fn keep_way_back(&self, release: &EntryName) -> io::Result<()> {
        let is_way = |rival: &Rival| rival.is_ours && rival.unreadable.is_none();
        let ways = |rivals: Vec<Rival>| rivals.into_iter().filter(is_way).collect::<Vec<_>>();
        let is_one = |way: &Rival| way.visible && outlasts(&way.name, release);
        let known = ways(self.rivals(release)?);
        if known.iter().any(is_one) {
            return Ok(());
        }
        // A change that was cut off left it out of sight.
        for way in known.iter().filter(|way| !way.visible) {
            unless_not_whole(self.recount(&way.name, Change::Demote))?;
        }
        let known = ways(self.rivals(release)?);
        match known.iter().any(is_one) {
            true => Ok(()),
            false => known.iter().filter(|way| way.visible).try_for_each(|way| self.free(&way.name)),
        }
    }

    /// Demotes every rival that would be booted before `name`; the end of the last one's old name is the switch. A demotion that
    /// was cut off is completed, since a rival that is not seen is no way back.
    fn overtake(&self, name: &EntryName) -> io::Result<()> {
        let rivals = self.rivals(name)?;
        let is_ahead = |rival: &&Rival| !rival.visible || !name.precedes(&rival.name);
        rivals.iter().filter(is_ahead).try_for_each(|rival| unless_not_whole(self.demote(&rival.name)))
    }

    /// Takes the tries of a release that stays the way back, in the open.
    fn demote(&self, release: &EntryName) -> io::Result<()> {
        let files = self.files_of(release)?.into_iter().filter(was_in_force);
        for file in files.filter(|file| tries_in_name(file) != Some(0)) {
            self.rename_to_free(&file, release, Change::Demote)?;
        }
        let hidden = self.files_of(release)?.into_iter().filter(|file| !file.visible && was_in_force(file));
        hidden.into_iter().try_for_each(|file| self.folder.unseal(&file.file))
    }
}

/// How an entry's counter changes.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A trial with as many tries starts.
    Trial(u32),
    /// It loses its tries.
    Demote,
}

impl Change {
    fn left(self) -> u32 {
        match self {
            Self::Trial(tries) => tries,
            Self::Demote => 0,
        }
    }

    /// Only the name of a trial that starts says that no boot was used: a staged entry's.
    fn done(self, used: u32) -> u32 {
        match self {
            Self::Trial(_) => 0,
            Self::Demote => used,
        }
    }
}

/// An entry of another release.
struct Rival {
    name: EntryName,
    visible: bool,
    is_ours: bool,
    unreadable: Option<String>,
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

    fn is_seen(&self, entry: &Entry) -> io::Result<bool> {
        Ok(self.files_of(&name_of(entry))?.iter().any(|file| file.visible))
    }

    fn command_lines(&self) -> io::Result<Vec<String>> {
        let files = self.folder.list()?;
        let was_in_force = files.iter().filter(|file| file.size > 0 && was_in_force(file));
        Ok(was_in_force.filter_map(|file| self.folder.command_line(&file.file)).collect())
    }

    fn remove_others(&self, keep: &Entry) -> io::Result<()> {
        let keep = name_of(keep);
        let (seen, unseen): (Vec<_>, Vec<_>) =
            self.removable(&keep)?.into_iter().partition(|file| file.visible);
        unseen.iter().try_for_each(|file| self.folder.remove(file))?;
        // To count the boots of what is alone would lead nowhere, and it is the way back from what comes next. Before the other one
        // goes, which is booted should a power cut take the name that is changed.
        if self.files_of(&keep)?.iter().any(|file| file.visible) {
            self.free(&keep)?;
        }
        seen.iter().try_for_each(|file| self.folder.remove(file))
    }

    fn room(&self, keep: &Entry) -> io::Result<u64> {
        let (free, cluster) = self.folder.free()?;
        let removable = self.removable(&name_of(keep))?;
        Ok(room_after(free, cluster, &removable))
    }

    fn room_beside(&self, entry: &Entry) -> io::Result<u64> {
        let (free, cluster) = self.folder.free()?;
        let mut unseen = self.files_of(&name_of(entry))?;
        unseen.retain(|file| !file.visible);
        Ok(room_after(free, cluster, &unseen))
    }

    fn size(&self, entry: &Entry) -> io::Result<Option<u64>> {
        Ok(self.in_force(entry)?.or(self.files_of(&name_of(entry))?.pop()).map(|file| file.size))
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

    fn taken(&self, entry: &Entry) -> io::Result<Option<u64>> {
        Ok(self.in_force(entry)?.filter(|file| file.visible).map(|file| file.size))
    }

    fn stage_copy(&self, uki: &mut dyn Read) -> io::Result<()> {
        self.folder.create_copy(uki)
    }

    fn staged_copy(&self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(self.folder.open_copy()?))
    }

    fn mend(&self, entry: &Entry) -> io::Result<()> {
        let files = self.files_of(&name_of(entry))?;
        files.iter().filter(|file| file.visible).try_for_each(|file| self.folder.mend(&file.file))?;
        self.folder.remove_copy()
    }

    fn content(&self, entry: &Entry) -> io::Result<Option<Box<dyn Read>>> {
        match self.in_force(entry)? {
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
        self.keep_way_back(&release)
            .and_then(|()| match self.next_of(&release)? {
                // What the next boot takes anyway is not sealed for a moment: what it would take then is not known to be good.
                Some(file) if tries_in_name(&file) != Some(tries) => {
                    self.rename_to_free(&file, &release, Change::Trial(tries))
                }
                Some(_) => Ok(()),
                None => self.recount(&release, Change::Trial(tries)),
            })
            .and_then(|()| self.overtake(&release))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot switch to {}: {error}", first.file))
            })
    }

    fn mark_good(&self, entry: &Entry) -> io::Result<()> {
        // Not sealed for a moment, since it is what runs.
        self.free(&name_of(entry))
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
        if rivals.iter().all(|rival| rival.unreadable.is_some()) {
            let only = format!("{} {} is the only boot entry", entry.os, entry.version);
            let unreadable = rivals.first().and_then(|rival| Some((&rival.name, rival.unreadable.as_ref()?)));
            let but = unreadable.map_or_else(String::new, |(name, reason)| {
                format!(" that can be read (that of {} {} cannot: {reason})", name.os, name.version)
            });
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{only}{but}, it stays")));
        }
        // Before it is left, or it could win against what is to boot.
        self.keep_way_back(&release)?;
        unless_not_whole(self.recount(&release, Change::Demote))
    }

    fn concerns(&self) -> io::Result<Vec<Concern>> {
        self.overrides.as_ref().map_or_else(|| Ok(Vec::new()), Overrides::concerns)
    }

    fn came_up(&self, entry: &Entry) -> io::Result<()> {
        let release = name_of(entry);
        self.put_in_sight(&release)?;
        // As the way back from a trial that failed, or as all there is: each boot would rename it, and change nothing else.
        let is_demoted =
            self.next_of(&release)?.and_then(|file| file.name).is_some_and(|name| name.is_exhausted());
        if is_demoted { self.free(&release) } else { Ok(()) }
    }
}

/// Whether an entry is booted, for as often as it takes, when those of `release` are used up.
fn outlasts(way: &EntryName, release: &EntryName) -> bool {
    let spent = |name: &EntryName| EntryName { counter: Some(Counter { left: 0, done: 0 }), ..name.clone() };
    way.counter.is_none() || spent(way).precedes(&spent(release))
}

/// An entry that is not whole is not unsealed, and nothing boots it as it is: it is as good as passed over.
fn unless_not_whole(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(()),
        done => done,
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
