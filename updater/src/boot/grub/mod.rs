//! GRUB: which slot is taken is in variables of its environment block, under the names that deployed boards use.
//!
//! ```text
//! ORDER=A B        the slots in the order in which they are looked at
//! A_OK=1           1: may be taken
//! A_TRY=0          boots of the trial that were begun
//! A_TRIES=0        boots that a trial has; 0 where there is none, and so nothing is counted
//! MAX_TRIES=9      the most that the script counts; a script that does not know A_TRIES has no such line
//! ```
//!
//! `A_TRIES` is ours. A script of another updater that knows the first three alone takes a slot whose `A_OK` is 1 and `A_TRY` 0, and
//! sets `A_TRY` to 1 at *each* boot. With it a trial is one boot, and [`Register::came_up`] takes the mark away after a boot of
//! a proven release.
//!
//! All values keep their lengths and the variables are the first in the block, so a change is one of its first sector.
//! GRUB writes the same sectors in place.
//!
//! Without a block that it can read, the script in `dist/grub` goes by values of its own. So a block that is that script's alone, is
//! damaged and so holds nothing any more, is read as these values, and written anew with the next change.

mod ranges;

use std::io;
use std::path::{Path, PathBuf};

use upright_manifests::boot::grub_env::{GrubEnv, MAX_SIZE};
use upright_manifests::name::Slot;

use super::choice::Choice;
use super::esp::{EntryFolder, in_path};
use super::fuse::Fuse;
use super::names::SlotNames;
use super::per_slot::Register;
use super::{Concern, Trust, sectors};

/// The most tries that have a digit of their own in the script.
const MOST_TRIES: u32 = 9;

/// GRUB's environment block.
#[derive(Debug)]
pub(super) struct Grub {
    block: PathBuf,
    names: SlotNames,
    fuse: Fuse,
    ours: bool,
    bios: bool,
}

/// What the script goes by.
struct Block {
    bytes: Vec<u8>,
    env: GrubEnv,
    /// Why the block cannot be used, if the script goes by its own values.
    damage: Option<io::Error>,
}

impl Grub {
    /// The block in the file at `block`.
    pub(super) fn new(block: &Path, names: SlotNames, fuse: Fuse) -> Self {
        Self { block: block.to_owned(), names, fuse, ours: false, bios: false }
    }

    /// The same block, which is that of the script in `dist/grub` alone if it is `ours`.
    pub(super) fn ours(self, ours: bool) -> Self {
        Self { ours, ..self }
    }

    /// The same block, of a GRUB that BIOS firmware has started if `bios` says so: it needs the lines beside a UKI.
    pub(super) fn bios(self, bios: bool) -> Self {
        Self { bios, ..self }
    }

    fn read(&self) -> io::Result<Block> {
        // One that is missing is no other case: the script goes by its own values then as well.
        let bytes = match sectors::read(&self.block, MAX_SIZE + 1) {
            Err(damage) if self.ours => return Ok(Block::of_the_script(damage)),
            bytes => bytes?,
        };
        match (GrubEnv::parse(&bytes), sectors::variable_of_others(&bytes)) {
            (Ok(env), _) => Ok(Block { bytes, env, damage: None }),
            (Err(error), None) if self.ours => Ok(Block::of_the_script(self.invalid(error))),
            (Err(error), Some(name)) if self.ours => {
                let message = format!(
                    "{error}, and it is not replaced since it has {name}: make it anew with grub-editenv"
                );
                Err(self.invalid(message))
            }
            (Err(error), _) => Err(self.invalid(error)),
        }
    }

    fn write(&self, old: &Block, env: &GrubEnv) -> io::Result<()> {
        let new = env.to_bytes().map_err(|error| self.invalid(error))?;
        match old.damage {
            Some(_) => sectors::write_whole(&self.block, &new, &self.fuse),
            None => sectors::change(&self.block, 0, &old.bytes, &new, &self.fuse),
        }
    }

    fn invalid(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        in_path("cannot use", &self.block, &io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn variables(&self, slot: Slot) -> Variables {
        let name = self.names.of(slot);
        Variables { ok: format!("{name}_OK"), tried: format!("{name}_TRY"), tries: format!("{name}_TRIES") }
    }
}

impl Block {
    /// The values at the beginning of `dist/grub/grub.cfg`.
    fn of_the_script(damage: io::Error) -> Self {
        let mut env = GrubEnv::default();
        let most = MOST_TRIES.to_string();
        let values = [
            ("ORDER", "A B"),
            ("A_OK", "1"),
            ("A_TRY", "0"),
            ("A_TRIES", "0"),
            ("B_OK", "1"),
            ("B_TRY", "0"),
            ("B_TRIES", "0"),
            ("MAX_TRIES", &most),
        ];
        values.into_iter().rev().for_each(|(name, value)| env.set(name, value));
        Self { bytes: Vec::new(), env, damage: Some(damage) }
    }
}

impl Register for Grub {
    fn name(&self) -> &'static str {
        "grub"
    }

    fn load(&self) -> io::Result<Choice> {
        let env = self.read()?.env;
        let trust = |slot| self.variables(slot).trust(&env);
        Ok(Choice {
            first: self.names.first(env.get("ORDER").unwrap_or_default()),
            a: trust(Slot::A),
            b: trust(Slot::B),
        })
    }

    fn store(&self, choice: &Choice) -> io::Result<()> {
        let block = self.read()?;
        let mut env = block.env.clone();
        for slot in Slot::ALL {
            self.variables(slot).set(&mut env, choice.trust(slot));
        }
        env.set("ORDER", &self.names.order(choice.first));
        self.write(&block, &env)
    }

    fn most_tries(&self) -> io::Result<u32> {
        let env = self.read()?.env;
        Ok(number(&env, "MAX_TRIES").clamp(1, MOST_TRIES))
    }

    fn concerns(&self) -> io::Result<Vec<Concern>> {
        let Block { bytes, env, damage } = self.read()?;
        let mut concerns: Vec<Concern> = damage.iter().map(super::damaged_register).collect();
        if env.get("MAX_TRIES").is_none() {
            concerns.push(Concern {
                says: "its script does not count the boots of a trial, so a release has one boot to prove itself".to_owned(),
                mend: "use the grub.cfg and grubenv in /usr/share/upright/grub".to_owned(),
            });
        }
        let Some(sector) = bytes.first_chunk::<{ sectors::SECTOR }>() else { return Ok(concerns) };
        let in_it = |name: &str| {
            let line = format!("\n{name}=");
            sector.windows(line.len()).any(|window| window == line.as_bytes())
        };
        let names = Slot::ALL.into_iter().flat_map(|slot| {
            let Variables { ok, tried, tries } = self.variables(slot);
            [ok, tried, tries]
        });
        let missing: Vec<String> = names.chain(["ORDER".to_owned()]).filter(|name| !in_it(name)).collect();
        if !missing.is_empty() {
            concerns.push(Concern {
                says: format!(
                    "{} are not in the first {} bytes of {}, so a change is not one sector's",
                    missing.join(", "),
                    sectors::SECTOR,
                    self.block.display()
                ),
                mend: "`upright update` puts them there; remove other variables with `grub-editenv unset` if it stays so"
                    .to_owned(),
            });
        }
        Ok(concerns)
    }

    fn prepare(&self, slot: Slot, ukis: &EntryFolder, file: &str) -> io::Result<()> {
        ranges::write(slot, ukis, file, &self.fuse)
    }

    fn is_ready(&self, slot: Slot, ukis: &EntryFolder, file: &str) -> io::Result<bool> {
        // Another script may do without them.
        Ok(!(self.ours && self.bios) || ranges::are_written(slot, ukis, file))
    }

    fn withdraw(&self, slot: Slot, ukis: &EntryFolder) -> io::Result<()> {
        ranges::remove(slot, ukis, &self.fuse)
    }

    fn came_up(&self, slot: Slot) -> io::Result<()> {
        let block = self.read()?;
        let mut env = block.env.clone();
        if block.damage.is_some() {
            // The script's own values start slot a, whichever was chosen.
            env.set("ORDER", &self.names.order(slot));
            return self.write(&block, &env);
        }
        let variables = self.variables(slot);
        let counted = env.get(&variables.ok) == Some("1")
            && number(&env, &variables.tries) == 0
            && number(&env, &variables.tried) > 0;
        if !counted {
            return Ok(());
        }
        env.set(&variables.tried, "0");
        self.write(&block, &env)
    }
}

/// The names of a slot's variables.
struct Variables {
    ok: String,
    tried: String,
    tries: String,
}

impl Variables {
    fn trust(&self, env: &GrubEnv) -> Trust {
        let (done, tries) = (number(env, &self.tried), number(env, &self.tries));
        match env.get(&self.ok) == Some("1") {
            true if tries == 0 && done == 0 => Trust::Good,
            true if tries > done => Trust::Trial { left: tries - done, done },
            _ => Trust::Bad,
        }
    }

    fn set(&self, env: &mut GrubEnv, trust: Trust) {
        let (ok, tried, tries) = match trust {
            Trust::Good => ("1", 0, 0),
            Trust::Trial { left, done } => ("1", done, left.saturating_add(done)),
            Trust::Bad => ("0", 0, 0),
        };
        env.set(&self.tries, &tries.to_string());
        env.set(&self.tried, &tried.to_string());
        env.set(&self.ok, ok);
    }
}

/// A variable's value; what is none counts as 0, as it does in GRUB's comparisons.
fn number(env: &GrubEnv, name: &str) -> u32 {
    env.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concerns(variables: &[(&str, &str)]) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("grubenv");
        let mut env = GrubEnv::default();
        variables.iter().for_each(|(name, value)| env.set(name, value));
        std::fs::write(&block, env.to_bytes().unwrap()).unwrap();
        let grub = Grub::new(&block, SlotNames::default(), Fuse::default());
        let choice = grub.load().unwrap();
        let before = grub.concerns().unwrap();
        grub.store(&choice).unwrap();
        assert_eq!(grub.load().unwrap(), choice);
        assert_eq!(before.len() - grub.concerns().unwrap().len(), 1);
        before.len()
    }

    #[test]
    fn a_block_without_our_variables_is_a_concern_until_the_first_change() {
        assert_eq!(concerns(&[("MAX_TRIES", "9")]), 1);
        assert_eq!(concerns(&[("saved_entry", "0"), ("ORDER", "A B"), ("A_OK", "1")]), 2);
    }

    #[test]
    fn what_is_no_block_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("grubenv");
        let grub = Grub::new(&block, SlotNames::default(), Fuse::default());
        assert_eq!(grub.load().unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&block, "ORDER=A B\n").unwrap();
        let error = grub.load().unwrap_err().to_string();
        assert!(error.contains("grubenv: it is not a GRUB environment block"), "{error}");
    }
}
