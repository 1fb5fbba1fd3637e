//! Random lives of a machine: updates, verdicts, boots, and power cuts in the middle of any of them.

use std::cell::RefCell;

use proptest::prelude::*;
use upright_manifests::name::Slot;

use super::{Bench, Entry, Make, entry};

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A release, newer or older than all before it, is installed and switched to, with so many tries.
    Update(u32, Age),
    /// What runs is proven, unless it is about to be left.
    Good,
    /// What runs is left for the other release.
    Bad,
    /// The machine restarts.
    Boot,
}

/// How the versions of releases that follow each other compare.
#[derive(Debug, Clone, Copy)]
enum Age {
    Newer,
    Older,
}

fn event() -> impl Strategy<Value = Event> {
    let age = prop_oneof![2 => Just(Age::Newer), 1 => Just(Age::Older)];
    let update = (1u32..5, age).prop_map(|(tries, age)| Event::Update(tries, age));
    prop_oneof![update, Just(Event::Good), Just(Event::Bad), Just(Event::Boot)]
}

/// Each event, and after how many steps power goes in it.
fn life() -> impl Strategy<Value = Vec<(Event, Option<u32>)>> {
    prop::collection::vec((event(), prop::option::weighted(0.4, 0u32..8)), 1..14)
}

pub(super) fn check(make: Make) {
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(life in life())| live(make, &life));
}

/// What runs, and what is in the other slot as far as the machine's owner knows.
struct Machine {
    bench: Bench,
    running: Entry,
    proven: Vec<String>,
    built: u32,
    /// Whether it was decided since the last boot that the next one takes another release.
    leaving: bool,
    /// Whether the other slot holds something, which no update is about to take its place.
    way_back: bool,
}

fn live(make: Make, life: &[(Event, Option<u32>)]) {
    let bench = make();
    let running = entry(Slot::A, &bench.start());
    let machine = RefCell::new(Machine {
        bench,
        running,
        proven: vec!["1.0.0".to_owned()],
        built: 0,
        leaving: false,
        way_back: false,
    });
    for (event, cut) in life {
        let mut machine = machine.borrow_mut();
        machine.bench.fuse.set(*cut);
        let happened = machine.happen(*event);
        machine.bench.fuse.set(None);
        if !happened || matches!(event, Event::Boot) {
            machine.boot();
        }
    }
}

impl Machine {
    /// Whether it was not cut off.
    fn happen(&mut self, event: Event) -> bool {
        let (boot, running) = (&self.bench.boot, &self.running);
        match event {
            Event::Update(tries, age) => {
                self.built += 1;
                (self.leaving, self.way_back) = (true, false);
                let version = match age {
                    Age::Newer => format!("1.{}.0", self.built),
                    Age::Older => format!("0.{}.0", 100 - self.built),
                };
                let new = entry(running.slot.other(), &version);
                if boot.remove_others(running).is_err() {
                    return false;
                }
                // Whatever comes from here on, the next boot is what runs.
                assert_eq!(self.bench.next(), running.version.as_str());
                let done = self.bench.stage(&new).and_then(|()| boot.switch(&new, tries)).is_ok();
                self.way_back = done;
                // Wherever it was cut off: unproven, it leads back to what runs.
                assert_eq!(self.bench.after(&version), running.version.as_str());
                done
            }
            Event::Good if self.leaving => true,
            Event::Good => {
                let done = boot.mark_good(running).is_ok();
                if done {
                    self.proven.push(running.version.to_string());
                    assert_eq!(self.bench.next(), running.version.as_str());
                }
                done
            }
            // With nothing to go back to, it is refused and changes nothing.
            Event::Bad => {
                self.leaving = true;
                boot.mark_bad(running).is_ok()
            }
            Event::Boot => true,
        }
    }

    /// The model fails where nothing complete is found.
    fn boot(&mut self) {
        let version = self.bench.start();
        let slot = Slot::ALL.into_iter().find(|slot| self.bench.trust(&entry(*slot, &version)).is_some());
        self.running = entry(slot.unwrap(), &version);
        self.leaving = false;
        // As the agent does unless a trial is under way, which needs something to go back to.
        if self.proven.contains(&version) || !self.way_back {
            self.bench.boot.came_up(&self.running).unwrap();
        }
    }
}
