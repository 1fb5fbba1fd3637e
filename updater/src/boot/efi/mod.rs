//! Firmware without a boot loader: a boot option for each slot's UKI, `BootOrder` for what is proven, `BootNext` for a trial.
//!
//! Source: UEFI specification 2.10, section 3.1 and 3.3. The firmware removes `BootNext` before it starts what it names, so a trial
//! is one boot, whatever was asked for; afterwards the slot is in neither, [`Trust::Bad`], until it is proven or another
//! one is tried. An option in `BootOrder` that cannot be started, such as a sealed UKI, is passed over for the one after it.
//!
//! Options of others keep their places. Ours are told by the partition and the file that they name, and are made where they are
//! missing.

mod variables;

use std::io;

use upright_manifests::boot::load_option::{LoadOption, Partition, order_bytes, parse_order};
use upright_manifests::name::Slot;

use super::choice::Choice;
use super::fuse::Fuse;
use super::per_slot::{FOLDER, Register, file_name};
use super::{Concern, Trust};

pub(super) use variables::Efivarfs;
use variables::Variables;

const ORDER: &str = "BootOrder";
const NEXT: &str = "BootNext";

/// The firmware's choice among the UKIs on one ESP.
#[derive(Debug)]
pub(super) struct Efi<V> {
    variables: V,
    esp: Partition,
    fuse: Fuse,
}

/// What the firmware's variables say.
struct Seen {
    /// The number of each slot's option.
    options: [Option<u16>; 2],
    order: Vec<u16>,
    next: Option<u16>,
}

impl Seen {
    fn option(&self, slot: Slot) -> Option<u16> {
        self.options[usize::from(slot == Slot::B)]
    }

    fn slot(&self, number: u16) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| self.option(*slot) == Some(number))
    }
}

impl<V: Variables> Efi<V> {
    /// With the UKIs on the partition `esp`.
    pub(super) fn new(variables: V, esp: Partition, fuse: Fuse) -> Self {
        Self { variables, esp, fuse }
    }

    fn look(&self) -> io::Result<Seen> {
        let mut options = [None; 2];
        for number in self.variables.options()? {
            let Some(option) = self.variables.get(&name(number))? else { continue };
            let Some(slot) = LoadOption::parse(&option).and_then(|option| self.slot_of(&option)) else {
                continue;
            };
            let place = &mut options[usize::from(slot == Slot::B)];
            *place = place.or(Some(number));
        }
        let numbers = |name| Ok::<_, io::Error>(parse_order(&self.variables.get(name)?.unwrap_or_default()));
        Ok(Seen { options, order: numbers(ORDER)?, next: numbers(NEXT)?.first().copied() })
    }

    fn slot_of(&self, option: &LoadOption) -> Option<Slot> {
        let here = option.active && option.partition.uuid == self.esp.uuid;
        let is_it = |slot: &Slot| here && option.path.eq_ignore_ascii_case(&path(*slot));
        Slot::ALL.into_iter().find(is_it)
    }

    /// Makes the options that the choice needs.
    fn make_options(&self, choice: &Choice) -> io::Result<Seen> {
        let mut seen = self.look()?;
        for slot in Slot::ALL.into_iter().filter(|slot| choice.takes(*slot)) {
            if seen.option(slot).is_some() {
                continue;
            }
            let taken = self.variables.options()?;
            let free = (0..=u16::MAX).find(|number| !taken.contains(number));
            let free =
                free.ok_or_else(|| io::Error::other("the firmware has no number left for a boot option"))?;
            let option = LoadOption {
                active: true,
                description: format!("Upright {slot}"),
                partition: self.esp,
                path: path(slot),
            };
            let bytes = option.to_bytes().ok_or(io::ErrorKind::InvalidData)?;
            self.set(&name(free), &bytes)?;
            seen.options[usize::from(slot == Slot::B)] = Some(free);
        }
        Ok(seen)
    }

    fn set(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.fuse.step()?;
        self.variables.set(name, value)
    }

    fn set_order(&self, seen: &Seen, order: &[u16]) -> io::Result<()> {
        if seen.order == order { Ok(()) } else { self.set(ORDER, &order_bytes(order)) }
    }
}

impl<V: Variables> Register for Efi<V> {
    fn name(&self) -> &'static str {
        "efi"
    }

    fn load(&self) -> io::Result<Choice> {
        let seen = self.look()?;
        let trust = |slot| match seen.option(slot) {
            Some(number) if seen.next == Some(number) => Trust::Trial { left: 1, done: 0 },
            Some(number) if seen.order.contains(&number) => Trust::Good,
            _ => Trust::Bad,
        };
        let first =
            seen.next.into_iter().chain(seen.order.iter().copied()).find_map(|number| seen.slot(number));
        Ok(Choice { first: first.unwrap_or(Slot::A), a: trust(Slot::A), b: trust(Slot::B) })
    }

    fn store(&self, choice: &Choice) -> io::Result<()> {
        let seen = self.make_options(choice)?;
        let order = order(&seen, choice);
        let is_trial = matches!(choice.trust(choice.first), Trust::Trial { left: 1.., .. });
        match seen.option(choice.first).filter(|_| is_trial) {
            // Out of the order before it is tried, or it would be taken again after a trial that failed.
            Some(trial) => {
                self.set_order(&seen, &order)?;
                if seen.next == Some(trial) { Ok(()) } else { self.set(NEXT, &order_bytes(&[trial])) }
            }
            None => {
                if seen.next.is_some_and(|next| seen.slot(next).is_some()) {
                    self.fuse.step()?;
                    self.variables.delete(NEXT)?;
                }
                self.set_order(&seen, &order)
            }
        }
    }

    fn concerns(&self) -> io::Result<Vec<Concern>> {
        Ok(vec![Concern {
            says: "the firmware starts a release on trial once, so it has one boot to prove itself"
                .to_owned(),
            mend: "systemd-boot counts as many boots as `tries` in [health] says".to_owned(),
        }])
    }

    fn most_tries(&self) -> io::Result<u32> {
        Ok(1)
    }
}

/// `BootOrder` for a choice: what is proven, with the first slot ahead, where the first of ours was. With nothing proven the first
/// slot all the same.
fn order(seen: &Seen, choice: &Choice) -> Vec<u16> {
    let slots = [choice.first, choice.first.other()];
    let mut ours: Vec<u16> = slots
        .into_iter()
        .filter(|slot| choice.trust(*slot) == Trust::Good)
        .filter_map(|slot| seen.option(slot))
        .collect();
    if ours.is_empty() {
        ours.extend(seen.option(choice.first));
    }
    let at = seen.order.iter().position(|number| seen.slot(*number).is_some()).unwrap_or(0);
    let mut order = seen.order.clone();
    order.retain(|number| seen.slot(*number).is_none());
    order.splice(at..at, ours);
    order
}

fn name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// A slot's UKI as firmware names files.
fn path(slot: Slot) -> String {
    format!("\\{}\\{}", FOLDER.replace('/', "\\"), file_name(slot))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
