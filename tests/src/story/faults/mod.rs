//! What goes wrong in real machines, on a real Debian: releases that hang, crash or cannot be read, and disks that fail while one is
//! written. Each case begins from the same frozen machine, and ends with the old release running and the cause named.

mod base;
mod disk;
mod hang;
mod os;
mod table;

use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};

use super::{Place, Teller};
use base::Base;
use disk::Disk;
use hang::Hang;

pub use table::{Ended, Table};

/// How many machines run at a time: one mostly waits for something to be given up.
const MACHINES: usize = 2;

#[derive(Clone, Copy)]
enum Case {
    Hang(&'static Hang),
    Disk(&'static Disk),
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Hang(hang) => hang.name,
            Self::Disk(disk) => disk.name,
        }
    }

    fn happen(self, base: &Base) -> Result<Ended> {
        match self {
            Self::Hang(hang) => hang.happen(base),
            Self::Disk(disk) => disk.happen(base),
        }
    }
}

/// Runs the cases whose names are given, all of them if none is.
pub fn faults(place: &Place, names: &[String], teller: Teller) -> Result<Table> {
    let all = hang::ALL.iter().map(Case::Hang).chain(disk::ALL.iter().map(Case::Disk));
    let known: Vec<&str> = all.clone().map(Case::name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no case {name}; there are {}", known.join(", "));
    }
    let is_wanted = |case: &Case| names.is_empty() || names.iter().any(|wanted| wanted == case.name());
    let base = Base::of(place, teller)?;
    let left = Mutex::new(all.filter(is_wanted).enumerate());
    let table = Mutex::new(Table::default());
    let work = || {
        // What is taken out under the lock must not be run under it.
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((number, case)) = next() {
            teller.say(&format!("{}: begins", case.name()));
            let ended = case.happen(&base);
            table.lock().unwrap_or_else(PoisonError::into_inner).note(number, case.name(), teller, ended);
        }
    };
    thread::scope(|scope| (0..MACHINES).for_each(|_| drop(scope.spawn(work))));
    Ok(table.into_inner().unwrap_or_else(PoisonError::into_inner))
}
