//! Boot options beside those of others.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// Variables in memory.
#[derive(Debug, Default)]
struct Memory(RefCell<BTreeMap<String, Vec<u8>>>);

impl Variables for Memory {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(name).cloned())
    }
    fn set(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(name.to_owned(), value.to_owned());
        Ok(())
    }
    fn delete(&self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name);
        Ok(())
    }
    fn options(&self) -> io::Result<Vec<u16>> {
        let numbers = |name: &String| u16::from_str_radix(name.strip_prefix("Boot")?, 16).ok();
        Ok(self.0.borrow().keys().filter_map(numbers).collect())
    }
}

fn partition(last: u8) -> Partition {
    Partition { number: 1, start: 2048, blocks: 4096, uuid: [last; 16].into() }
}

/// A firmware with a network boot, a Windows and a slot a of another disk.
fn firmware() -> Efi<Memory> {
    let variables = Memory::default();
    let elsewhere = LoadOption {
        active: true,
        description: "Upright a".to_owned(),
        partition: partition(9),
        path: path(Slot::A),
    };
    for (number, bytes) in [(0, vec![1, 2, 3]), (1, vec![0; 60]), (3, elsewhere.to_bytes().unwrap())] {
        variables.set(&name(number), &bytes).unwrap();
    }
    variables.set(ORDER, &order_bytes(&[0, 3, 1])).unwrap();
    Efi::new(variables, partition(1), Fuse::default())
}

fn order_of(efi: &Efi<Memory>) -> Vec<u16> {
    efi.look().unwrap().order
}

const GOOD_A: Choice = Choice { first: Slot::A, a: Trust::Good, b: Trust::Bad };

#[test]
fn options_of_others_and_of_other_disks_keep_their_places() {
    let efi = firmware();
    assert_eq!(efi.load().unwrap(), Choice { first: Slot::A, a: Trust::Bad, b: Trust::Bad });
    efi.store(&GOOD_A).unwrap();
    assert_eq!((efi.load().unwrap(), order_of(&efi)), (GOOD_A, vec![2, 0, 3, 1]));
    // An administrator wants the network first.
    efi.variables.set(ORDER, &order_bytes(&[0, 2, 3, 1])).unwrap();
    let both = GOOD_A.proven(Slot::B);
    efi.store(&both).unwrap();
    assert_eq!((efi.load().unwrap(), order_of(&efi)), (both, vec![0, 4, 2, 3, 1]));
    let options = efi.variables.options().unwrap();
    efi.store(&both.left(Slot::B)).unwrap();
    assert_eq!((order_of(&efi), efi.variables.options().unwrap()), (vec![0, 2, 3, 1], options));
}

#[test]
fn a_trial_is_next_and_in_no_order() {
    let efi = firmware();
    efi.store(&GOOD_A.proven(Slot::B)).unwrap();
    let trial = GOOD_A.proven(Slot::B).proven(Slot::A).tried(Slot::B, 1, true);
    efi.store(&trial).unwrap();
    assert_eq!((efi.load().unwrap(), order_of(&efi)), (trial, vec![2, 0, 3, 1]));
    assert_eq!(efi.variables.get(NEXT).unwrap(), Some(vec![4, 0]));
    efi.store(&trial.left(Slot::B)).unwrap();
    assert_eq!(efi.variables.get(NEXT).unwrap(), None);
}

/// What somebody else asked for, once, is not ours to undo.
#[test]
fn the_next_boot_of_another_option_is_left_alone() {
    let efi = firmware();
    efi.variables.set(NEXT, &[1, 0]).unwrap();
    efi.store(&GOOD_A).unwrap();
    assert_eq!(efi.variables.get(NEXT).unwrap(), Some(vec![1, 0]));
}

#[test]
fn an_option_that_was_switched_off_is_made_again() {
    let efi = firmware();
    efi.store(&GOOD_A).unwrap();
    let option = efi.variables.get(&name(2)).unwrap().unwrap();
    efi.variables.set(&name(2), &[&[0; 4], &option[4..]].concat()).unwrap();
    assert_eq!(efi.load().unwrap().a, Trust::Bad);
    efi.store(&GOOD_A).unwrap();
    assert_eq!(efi.load().unwrap(), GOOD_A);
}
