//! Boot loaders that know slots, not releases: one UKI a slot, and a small register that says which slot is taken.
//!
//! ```text
//! EFI/upright/a.efi  b.efi     on the ESP; in no folder that a boot loader searches by itself
//! ```
//!
//! The names never change, so neither a boot loader's script nor a boot option of the firmware has to. What differs from one
//! boot loader to the next is the [`Register`] alone; a verb is a change of the [`Choice`], which each writes in its own way.
//!
//! An entry is sealed ([`super::esp`]) until everything about it is in place, and again before it goes. A boot loader that has
//! lost its register, and tries slots as they come, therefore finds a complete release or none.

use std::io::{self, Read};
use std::path::Path;

use upright_manifests::bls::EntryName;
use upright_manifests::name::Slot;

use super::choice::Choice;
use super::esp::{EntryFile, EntryFolder, room_after};
use super::fuse::Fuse;
use super::{BootLoader, Concern, Entry, Trust};

/// The folder on the ESP.
pub(super) const FOLDER: &str = "EFI/upright";

/// Where a boot loader keeps which slot it takes.
pub(super) trait Register {
    /// The back end's name.
    fn name(&self) -> &'static str;

    /// What is recorded.
    fn load(&self) -> io::Result<Choice>;

    /// Records another choice, durably. The slot that the next boot takes changes in one atomic step, whatever else has to be
    /// written before and after it.
    fn store(&self, choice: &Choice) -> io::Result<()>;

    /// The most boots that the boot loader counts.
    fn most_tries(&self) -> io::Result<u32>;

    /// A slot's UKI is about to be put in force: writes what the boot loader needs beside it.
    fn prepare(&self, _slot: Slot, _ukis: &EntryFolder, _file: &str) -> io::Result<()> {
        Ok(())
    }

    /// Whether that is there and as it should be.
    fn is_ready(&self, _slot: Slot, _ukis: &EntryFolder, _file: &str) -> io::Result<bool> {
        Ok(true)
    }

    /// A slot's UKI is about to be removed, and is sealed already: removes what was written beside it.
    fn withdraw(&self, _slot: Slot, _ukis: &EntryFolder) -> io::Result<()> {
        Ok(())
    }

    /// See [`BootLoader::concerns`].
    fn concerns(&self) -> io::Result<Vec<Concern>> {
        Ok(Vec::new())
    }

    /// See [`BootLoader::started`].
    fn started(&self) -> io::Result<Option<Slot>> {
        Ok(None)
    }

    /// See [`BootLoader::came_up`].
    fn came_up(&self, _slot: Slot) -> io::Result<()> {
        Ok(())
    }
}

/// A boot loader with one UKI a slot.
pub(super) struct PerSlot<R> {
    ukis: EntryFolder,
    register: R,
}

impl<R: Register> PerSlot<R> {
    /// With its UKIs on the ESP that is mounted at `esp`.
    pub(super) fn new(esp: &Path, register: R, fuse: Fuse) -> Self {
        Self { ukis: EntryFolder::at(esp.join(FOLDER), fuse), register }
    }

    /// The UKI in a slot's place.
    fn file(&self, slot: Slot) -> io::Result<Option<EntryFile>> {
        let name = file_name(slot);
        Ok(self.ukis.list()?.into_iter().find(|file| file.file.eq_ignore_ascii_case(&name)))
    }

    /// The UKI of a release, if it is what is in its slot's place. One that cannot be read may be any release's.
    fn uki(&self, entry: &Entry) -> io::Result<Option<EntryFile>> {
        let is_it = |name: &EntryName| name.os == entry.os && name.version == entry.version;
        let may_be = |file: &EntryFile| file.unreadable.is_some() || file.name.as_ref().is_some_and(is_it);
        Ok(self.file(entry.slot)?.filter(may_be))
    }

    /// The UKI of a release that is in force.
    fn in_force(&self, entry: &Entry, then: &str) -> io::Result<EntryFile> {
        self.uki(entry)?.filter(|file| file.visible).ok_or_else(|| missing(entry, then))
    }

    /// A release that runs is not sealed by anybody: what the disk did to its first bytes is mended if it is whole.
    fn put_in_sight(&self, entry: &Entry) -> io::Result<()> {
        match self.uki(entry)?.filter(|file| !file.visible) {
            Some(file) => self.ukis.unseal(&file.file),
            None => Ok(()),
        }
    }

    /// An error if it is the other slot's UKI that boots, since there is none of `keep`.
    fn require_kept(&self, keep: &Entry, then: &str) -> io::Result<()> {
        match self.is_seen(keep)? || !self.has_entry(keep.slot.other())? {
            true => Ok(()),
            false => Err(missing(keep, then)),
        }
    }

    fn has_entry(&self, slot: Slot) -> io::Result<bool> {
        Ok(self.file(slot)?.is_some_and(|file| file.visible))
    }

    fn record(&self, old: &Choice, new: &Choice) -> io::Result<()> {
        if old == new { Ok(()) } else { self.register.store(new) }
    }
}

impl<R: Register> BootLoader for PerSlot<R> {
    fn name(&self) -> &'static str {
        self.register.name()
    }

    fn trust(&self, entry: &Entry) -> io::Result<Option<Trust>> {
        match self.uki(entry)?.filter(is_or_may_be_seen) {
            Some(_) => Ok(Some(self.register.load()?.trust(entry.slot))),
            None => Ok(None),
        }
    }

    fn is_seen(&self, entry: &Entry) -> io::Result<bool> {
        Ok(self.uki(entry)?.is_some_and(|file| file.visible))
    }

    fn command_lines(&self) -> io::Result<Vec<String>> {
        let files = self.ukis.list()?.into_iter().filter(|file| file.visible);
        Ok(files.filter_map(|file| self.ukis.command_line(&file.file)).collect())
    }

    fn remove_others(&self, keep: &Entry) -> io::Result<()> {
        self.require_kept(keep, "nothing was removed")?;
        let choice = self.register.load()?;
        self.record(&choice, &choice.alone(keep.slot))?;
        let other = keep.slot.other();
        let file = self.file(other)?;
        // What is not sealed has all that the boot loader needs beside it.
        if let Some(file) = file.as_ref().filter(|file| file.visible) {
            self.ukis.seal(&file.file)?;
        }
        self.register.withdraw(other, &self.ukis)?;
        file.map_or(Ok(()), |file| self.ukis.remove(&EntryFile { visible: false, ..file }))
    }

    fn room(&self, keep: &Entry) -> io::Result<u64> {
        self.require_kept(keep, "it is not known what may be removed")?;
        let (free, cluster) = self.ukis.free()?;
        let removable = self.file(keep.slot.other())?;
        // What the boot loader needs beside the UKI takes another cluster.
        Ok(room_after(free, cluster, removable.as_slice()).saturating_sub(cluster))
    }

    fn room_beside(&self, entry: &Entry) -> io::Result<u64> {
        let (free, cluster) = self.ukis.free()?;
        let unseen = self.file(entry.slot)?.filter(|file| !file.visible);
        Ok(room_after(free, cluster, unseen.as_slice()).saturating_sub(cluster))
    }

    fn size(&self, entry: &Entry) -> io::Result<Option<u64>> {
        Ok(self.uki(entry)?.map(|file| file.size))
    }

    fn concerns(&self) -> io::Result<Vec<Concern>> {
        self.register.concerns()
    }

    fn stage(&self, entry: &Entry, uki: &mut dyn Read) -> io::Result<()> {
        if let Some(file) = self.file(entry.slot)? {
            if file.visible {
                let message = format!("slot {} has a boot entry already, remove it first", entry.slot);
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            self.ukis.remove(&file)?;
        }
        self.ukis.create_sealed(&file_name(entry.slot), uki)
    }

    fn staged(&self, entry: &Entry) -> io::Result<Box<dyn Read>> {
        let staged = self.uki(entry)?.filter(|file| !file.visible);
        let staged = staged.ok_or_else(|| missing(entry, "stage it first"))?;
        Ok(Box::new(self.ukis.open_unsealed(&staged.file)?))
    }

    fn taken(&self, entry: &Entry) -> io::Result<Option<u64>> {
        Ok(self.file(entry.slot)?.filter(|file| file.visible).map(|file| file.size))
    }

    fn stage_copy(&self, uki: &mut dyn Read) -> io::Result<()> {
        self.ukis.create_copy(uki)
    }

    fn staged_copy(&self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(self.ukis.open_copy()?))
    }

    fn mend(&self, entry: &Entry) -> io::Result<()> {
        if let Some(file) = self.file(entry.slot)?.filter(|file| file.visible) {
            self.ukis.mend(&file.file)?;
            self.register.prepare(entry.slot, &self.ukis, &file.file)?;
        }
        self.ukis.remove_copy()
    }

    fn make_ready(&self, entry: &Entry) -> io::Result<()> {
        self.uki(entry)?.map_or(Ok(()), |file| self.register.prepare(entry.slot, &self.ukis, &file.file))
    }

    fn is_ready(&self, entry: &Entry) -> io::Result<bool> {
        self.uki(entry)?.map_or(Ok(true), |file| self.register.is_ready(entry.slot, &self.ukis, &file.file))
    }

    fn content(&self, entry: &Entry) -> io::Result<Option<Box<dyn Read>>> {
        match self.uki(entry)?.filter(is_or_may_be_seen) {
            Some(file) => Ok(Some(Box::new(self.ukis.open_unsealed(&file.file)?))),
            None => Ok(None),
        }
    }

    fn restore(&self, entry: &Entry, keep: &Entry) -> io::Result<()> {
        self.in_force(keep, "it is not known what the next boot is to take")?;
        let slot = entry.slot;
        let file = self.uki(entry)?.ok_or_else(|| missing(entry, "stage it first"))?;
        let choice = self.register.load()?;
        let passed_over = Choice { first: keep.slot, ..choice }.with(slot, Trust::Bad);
        if !file.visible {
            self.record(&choice, &passed_over)?;
            self.register.prepare(slot, &self.ukis, &file.file)?;
            self.ukis.unseal(&file.file)?;
        }
        let now = self.register.load()?;
        self.record(&now, &passed_over.with(slot, Trust::Good))
    }

    fn switch(&self, entry: &Entry, tries: u32) -> io::Result<()> {
        if tries == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a switch needs at least one try"));
        }
        let slot = entry.slot;
        let file = self.uki(entry)?.ok_or_else(|| missing(entry, "stage it first"))?;
        let mut choice = self.register.load()?;
        if !file.visible {
            // Not before the switch itself, whatever was recorded about an empty slot.
            let passed_over = Choice { first: slot.other(), ..choice }.with(slot, Trust::Bad);
            self.record(&choice, &passed_over)?;
            choice = passed_over;
        }
        self.register.prepare(slot, &self.ukis, &file.file)?;
        if !file.visible {
            self.ukis.unseal(&file.file)?;
        }
        let tries = tries.min(self.register.most_tries()?);
        self.record(&choice, &choice.tried(slot, tries, self.has_entry(slot.other())?))
    }

    fn mark_good(&self, entry: &Entry) -> io::Result<()> {
        self.put_in_sight(entry)?;
        self.in_force(entry, "it cannot be marked good")?;
        let choice = self.register.load()?;
        self.record(&choice, &choice.proven(entry.slot))
    }

    fn mark_bad(&self, entry: &Entry) -> io::Result<()> {
        // One that is not there, or names nothing, is left as well: the register may say that it is first.
        if !self.has_entry(entry.slot.other())? {
            self.in_force(entry, "it cannot be marked bad")?;
            let message = format!("{} {} is the only boot entry, it stays", entry.os, entry.version);
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let choice = self.register.load()?;
        self.record(&choice, &choice.left(entry.slot))
    }

    fn started(&self) -> io::Result<Option<Slot>> {
        self.register.started()
    }

    fn came_up(&self, entry: &Entry) -> io::Result<()> {
        self.register.came_up(entry.slot)?;
        self.put_in_sight(entry)
    }
}

/// Whether the boot loader sees a UKI, or may see it where it cannot be read here.
fn is_or_may_be_seen(file: &EntryFile) -> bool {
    file.visible || file.unreadable.is_some()
}

/// The name of a slot's UKI.
pub(super) fn file_name(slot: Slot) -> String {
    format!("{slot}.efi")
}

fn missing(entry: &Entry, then: &str) -> io::Error {
    let message = format!("no boot entry for {} {} in slot {}: {then}", entry.os, entry.version, entry.slot);
    io::Error::new(io::ErrorKind::NotFound, message)
}
