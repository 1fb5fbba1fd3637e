//! U-Boot: which slot is taken is in variables of its environment, under the names that deployed boards use.
//!
//! ```text
//! BOOT_ORDER=A B      the slots in the order in which they are looked at
//! BOOT_A_LEFT=3       boots that are left, in hexadecimal; 0: passed over
//! BOOT_A_TRIES=0      boots that a trial has; 0 where there is none, and so nothing is counted
//! ```
//!
//! `BOOT_A_TRIES` is ours. A script of another updater that knows the others alone counts every boot, and
//! [`Register::came_up`] gives a proven release its boots back.
//!
//! With two copies of the environment a change is written to the one that does not count, which counts as soon as it is whole.
//! With one, the change is in its first sector: U-Boot sorts the variables, and these come before names in small letters.
//!
//! Without an environment that it can read, the script in `dist/u-boot` goes by values of its own. So a file that is that script's alone,
//! is damaged and so holds nothing any more, is read as these values, and written anew with the next change.

mod place;

use std::io;

use upright_manifests::boot::uboot_env::{UbootEnv, UbootEnvError};
use upright_manifests::name::Slot;

use super::choice::Choice;
use super::fuse::Fuse;
use super::names::SlotNames;
use super::per_slot::Register;
use super::sectors;
use super::{Concern, Trust};

pub(crate) use place::{Place, Places};

/// The boots that a proven slot has with a script that counts every boot: what such scripts give it themselves.
const PROVEN_LEFT: u32 = 3;

/// The most tries that have the same digit in decimal and hexadecimal.
const MOST_TRIES: u32 = 9;

/// U-Boot's environment.
#[derive(Debug)]
pub(super) struct Uboot {
    places: Places,
    names: SlotNames,
    fuse: Fuse,
    ours: bool,
}

/// The copy of the environment that counts.
struct Current {
    /// Which of the places it is in.
    place: usize,
    bytes: Vec<u8>,
    env: UbootEnv,
    /// Why no copy can be used, if the script goes by its own values.
    damage: Option<io::Error>,
}

impl Uboot {
    /// The environment in `places`.
    pub(super) fn new(places: Places, names: SlotNames, fuse: Fuse) -> Self {
        Self { places, names, fuse, ours: false }
    }

    /// The same environment, which is the one file of the script in `dist/u-boot` if it is `ours`.
    pub(super) fn ours(self, ours: bool) -> Self {
        Self { ours, ..self }
    }

    fn read(&self) -> io::Result<Current> {
        let places = self.places.all();
        let redundant = places.len() > 1;
        let (mut best, mut failed) = (None::<Current>, None);
        for (place, at) in places.iter().enumerate() {
            match read_copy(at, redundant) {
                Ok((bytes, env)) => {
                    // Of equals, U-Boot takes the first.
                    if best.as_ref().is_none_or(|best| env.compare(&best.env).is_gt()) {
                        best = Some(Current { place, bytes, env, damage: None });
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let none = || io::Error::other("no place for U-Boot's environment");
        match (best, failed) {
            (Some(best), _) => Ok(best),
            // One that is missing is no other case: the script goes by its own values unless the board's have these variables.
            (None, Some(damage)) if self.ours => match variable_of_others(&places[0]) {
                None => Ok(Current::of_the_script(places[0].size, redundant, damage)),
                Some(name) => {
                    let message = format!(
                        "{damage}, and it is not replaced since it has {name}: make it anew with mkenvimage"
                    );
                    Err(io::Error::new(io::ErrorKind::InvalidData, message))
                }
            },
            (None, failed) => Err(failed.unwrap_or_else(none)),
        }
    }

    /// Writes the environment that follows on `current`.
    fn write(&self, current: &Current, mut env: UbootEnv) -> io::Result<()> {
        let places = self.places.all();
        let full = |error: UbootEnvError| io::Error::new(io::ErrorKind::InvalidData, error);
        if current.damage.is_some() {
            let (path, new) = (&places[current.place].path, env.to_bytes().map_err(full)?);
            return sectors::write_whole(path, &new, &self.fuse);
        }
        match places.iter().enumerate().find(|(index, _)| *index != current.place) {
            None => {
                let at = &places[current.place];
                let new = env.to_bytes().map_err(full)?;
                sectors::change(&at.path, at.offset, &current.bytes, &new, &self.fuse)
            }
            Some((_, other)) => {
                env.follow();
                sectors::write_at(&other.path, other.offset, &env.to_bytes().map_err(full)?, &self.fuse)
            }
        }
    }

    fn variables(&self, slot: Slot) -> Variables {
        let name = self.names.of(slot);
        Variables { left: format!("BOOT_{name}_LEFT"), tries: format!("BOOT_{name}_TRIES") }
    }
}

impl Current {
    /// The values in `dist/u-boot/boot.cmd`.
    fn of_the_script(size: usize, redundant: bool, damage: io::Error) -> Self {
        let mut env = UbootEnv::empty(size, redundant);
        let left = PROVEN_LEFT.to_string();
        let values = [
            ("BOOT_A_LEFT", left.as_str()),
            ("BOOT_A_TRIES", "0"),
            ("BOOT_B_LEFT", &left),
            ("BOOT_B_TRIES", "0"),
            ("BOOT_ORDER", "A B"),
        ];
        values.into_iter().rev().for_each(|(name, value)| env.set(name, value));
        Self { place: 0, bytes: Vec::new(), env, damage: Some(damage) }
    }
}

impl Register for Uboot {
    fn name(&self) -> &'static str {
        "u-boot"
    }

    fn load(&self) -> io::Result<Choice> {
        let env = self.read()?.env;
        let trust = |slot| self.variables(slot).trust(&env);
        Ok(Choice {
            first: self.names.first(env.get("BOOT_ORDER").unwrap_or_default()),
            a: trust(Slot::A),
            b: trust(Slot::B),
        })
    }

    fn store(&self, choice: &Choice) -> io::Result<()> {
        let current = self.read()?;
        let mut env = current.env.clone();
        env.set("BOOT_ORDER", &self.names.order(choice.first));
        for slot in Slot::ALL {
            self.variables(slot).set(&mut env, choice.trust(slot));
        }
        self.write(&current, env)
    }

    fn most_tries(&self) -> io::Result<u32> {
        Ok(MOST_TRIES)
    }

    fn concerns(&self) -> io::Result<Vec<Concern>> {
        let Current { env, damage, .. } = self.read()?;
        let mut concerns: Vec<Concern> = damage.iter().map(super::damaged_register).collect();
        if self.places.all().len() == 1 {
            concerns.push(Concern {
                says: "there is one copy of U-Boot's environment, so a power cut while it is written may lose it".to_owned(),
                mend: "build U-Boot with CONFIG_SYS_REDUNDAND_ENVIRONMENT, and name both copies in fw_env.config".to_owned(),
            });
        }
        let names = Slot::ALL.into_iter().flat_map(|slot| {
            let Variables { left, tries } = self.variables(slot);
            [left, tries]
        });
        let missing: Vec<String> =
            names.chain(["BOOT_ORDER".to_owned()]).filter(|name| env.get(name).is_none()).collect();
        if !missing.is_empty() {
            concerns.push(Concern {
                says: format!(
                    "{} are not set, so the first change moves all other variables",
                    missing.join(", ")
                ),
                mend: "set them once with fw_setenv, as docs/bootloaders.md says".to_owned(),
            });
        }
        Ok(concerns)
    }

    fn came_up(&self, slot: Slot) -> io::Result<()> {
        let current = self.read()?;
        if current.damage.is_some() {
            // The script's own values start slot a, whichever was chosen.
            let mut env = current.env.clone();
            env.set("BOOT_ORDER", &self.names.order(slot));
            return self.write(&current, env);
        }
        let variables = self.variables(slot);
        let (left, tries) = (variables.left(&current.env), number(&current.env, &variables.tries));
        if tries.unwrap_or(0) > 0 || left == 0 || left >= PROVEN_LEFT {
            return Ok(());
        }
        let mut env = current.env.clone();
        env.set(&variables.left, &PROVEN_LEFT.to_string());
        self.write(&current, env)
    }
}

/// The names of a slot's variables.
struct Variables {
    left: String,
    tries: String,
}

impl Variables {
    /// A board that was never updated has none of the variables; its script takes both slots then.
    fn left(&self, env: &UbootEnv) -> u32 {
        number(env, &self.left).unwrap_or(PROVEN_LEFT)
    }

    fn trust(&self, env: &UbootEnv) -> Trust {
        let (left, tries) = (self.left(env), number(env, &self.tries).unwrap_or(0));
        match left {
            0 => Trust::Bad,
            _ if tries == 0 => Trust::Good,
            _ => Trust::Trial { left, done: tries.saturating_sub(left) },
        }
    }

    fn set(&self, env: &mut UbootEnv, trust: Trust) {
        let (left, tries) = match trust {
            Trust::Good => (PROVEN_LEFT, 0),
            Trust::Trial { left, done } => (left, left.saturating_add(done)),
            Trust::Bad => (0, 0),
        };
        env.set(&self.tries, &format!("{tries:x}"));
        env.set(&self.left, &format!("{left:x}"));
    }
}

/// A number as U-Boot's `setexpr` writes it.
fn number(env: &UbootEnv, name: &str) -> Option<u32> {
    let value = env.get(name)?;
    u32::from_str_radix(value.trim_start_matches("0x"), 16).ok()
}

fn variable_of_others(at: &Place) -> Option<String> {
    sectors::variable_of_others(&sectors::read(&at.path, at.size).unwrap_or_default())
}

fn read_copy(at: &Place, redundant: bool) -> io::Result<(Vec<u8>, UbootEnv)> {
    let bytes = sectors::read_at(&at.path, at.offset, at.size)?;
    let env = UbootEnv::parse(&bytes, redundant).map_err(|error| {
        let message = format!("{} has no U-Boot environment at {:#x}: {error}", at.path.display(), at.offset);
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok((bytes, env))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
