//! Power goes between any two steps of a change.

use std::cell::Cell;
use std::io;

use super::{Bench, Entry, Make, Slot, entry, new, old, without_way_back};

/// A machine to begin with, a change, and what may be booted while it is under way; the last of them afterwards.
type Case = (fn(Make) -> Bench, fn(&Bench) -> io::Result<()>, &'static [&'static str]);

pub(super) fn a_change_that_is_cut_off_anywhere_leaves_something_to_boot(make: Make) {
    let updated: fn(Make) -> Bench = Bench::updated;
    let on_trial = |make: Make| {
        let bench = Bench::updated(make);
        assert_eq!(bench.start(), "1.1.0");
        bench
    };
    let rolled_back = |make: Make| {
        let bench = Bench::proven(make);
        bench.boot.mark_bad(&new()).unwrap();
        bench
    };
    let fresh = |make: Make| make();
    let cases: [Case; 10] = [
        (without_way_back, |bench| bench.boot.restore(&old(), &new()), &["1.1.0"]),
        (fresh, |bench| bench.prepare(&old(), &new()), &["1.0.0"]),
        (fresh, update, &["1.0.0", "1.1.0"]),
        (updated, |bench| bench.boot.mark_bad(&new()), &["1.1.0", "1.0.0"]),
        (updated, |bench| bench.prepare(&old(), &entry(Slot::B, "1.2.0")), &["1.1.0", "1.0.0"]),
        (on_trial, |bench| bench.boot.mark_good(&new()), &["1.1.0", "1.0.0", "1.1.0"]),
        (on_trial, |bench| bench.boot.mark_bad(&new()), &["1.1.0", "1.0.0"]),
        (Bench::proven, |bench| bench.boot.mark_bad(&new()), &["1.1.0", "1.0.0"]),
        (Bench::proven, |bench| bench.prepare(&new(), &entry(Slot::A, "1.2.0")), &["1.1.0"]),
        (rolled_back, |bench| bench.boot.switch(&new(), 3), &["1.0.0", "1.1.0"]),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        cut_everywhere(make, case, number);
    }
}

/// As an agent that starts again would: what is staged is not staged again.
fn update(bench: &Bench) -> io::Result<()> {
    if bench.boot.trust(&new())?.is_none() {
        bench.prepare(&old(), &new())?;
    }
    bench.boot.switch(&new(), 3)
}

fn cut_everywhere(make: Make, (before, change, allowed): Case, number: usize) {
    for steps in 0..64 {
        let bench = before(make);
        bench.fuse.set(Some(steps));
        let done = change(&bench).is_ok();
        bench.fuse.set(None);
        let next = bench.next();
        assert!(allowed.contains(&next.as_str()), "change {number} after {steps} steps: {next} boots");
        change(&bench).unwrap();
        assert_eq!(Some(&bench.next().as_str()), allowed.last(), "change {number} again after {steps} steps");
        if done {
            return;
        }
    }
    panic!("change {number} never ended");
}

/// Whether what runs is older or newer than what is tried, and however it came to run.
pub(super) fn a_switch_that_is_cut_off_anywhere_keeps_its_way_back(make: Make) {
    let after_a_failed_trial_of = |make: Make, version: &str| {
        let bench = make();
        let failed = entry(Slot::B, version);
        bench.prepare(&old(), &failed).unwrap();
        bench.boot.switch(&failed, 1).unwrap();
        assert_eq!(bench.start(), version);
        assert_eq!(bench.start(), "1.0.0");
        bench
    };
    let alone = |make: Make| {
        let bench = Bench::updated(make);
        assert_eq!(bench.start(), "1.1.0");
        bench.boot.remove_others(&new()).unwrap();
        bench
    };
    type Begin<'a> = &'a dyn Fn(Make) -> Bench;
    let fresh = |make: Make| make();
    let newer_failed = |make: Make| after_a_failed_trial_of(make, "1.0.5");
    let older_failed = |make: Make| after_a_failed_trial_of(make, "0.5.0");
    let cases: [(Begin<'_>, Entry); 5] = [
        (&fresh, old()),
        (&newer_failed, old()),
        (&older_failed, old()),
        (&Bench::proven, new()),
        // It never was proven, and has nothing to go back to.
        (&alone, new()),
    ];
    for (before, running) in &cases {
        for version in ["1.2.0", "0.9.0"] {
            let next = entry(running.slot.other(), version);
            for steps in 0.. {
                let bench = before(make);
                bench.fuse.set(Some(steps));
                let update = bench.prepare(running, &next).and_then(|()| bench.boot.switch(&next, 2));
                bench.fuse.set(None);
                let back = bench.after(version);
                assert_eq!(back, running.version.as_str(), "{version} after {steps} steps");
                if update.is_ok() {
                    assert_eq!(bench.next(), version);
                    break;
                }
                assert!(steps < 64, "the switch never ended");
            }
        }
    }
}

pub(super) fn the_switch_is_one_step(make: Make) {
    let changes = Cell::new(0);
    let mut last = "1.0.0".to_owned();
    for steps in 0..64 {
        let bench = make();
        bench.prepare(&old(), &new()).unwrap();
        bench.fuse.set(Some(steps));
        let done = bench.boot.switch(&new(), 3).is_ok();
        bench.fuse.set(None);
        let next = bench.next();
        changes.set(changes.get() + u32::from(next != last));
        last = next;
        if done {
            break;
        }
    }
    assert_eq!((last.as_str(), changes.get()), ("1.1.0", 1));
}
