//! Random lives of a host, by the pure step and a boot loader of a few lines: whatever is chosen, booted by hand, cut off or failing, nothing
//! is erased that is needed, no release starts on old data, and the host comes to rest on something that runs.

use std::collections::BTreeSet;

use proptest::prelude::*;
use upright_manifests::name::Slot;

use super::tests::{NOW, report, target};
use super::*;

/// The boots of a trial.
const TRIES: u32 = 2;

/// More boots than any host needs to come to rest.
const MOST_BOOTS: u32 = 40;

/// What the boot loader records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Good,
    Trial(u32),
    Bad,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// The channel offers this release from now on.
    Offer(u8),
    /// A round of the service, which restarts the machine when a release stands ready.
    Round,
    /// The health checks.
    Health,
    /// An operator's rollback, with the restart.
    Rollback,
    /// A restart for another reason.
    Restart,
    /// Somebody takes the other entry from the boot loader's menu.
    ByHand,
    /// The other slot's boot entry is lost.
    LoseEntry,
}

/// What is the matter with a release, by its number.
struct Kind {
    healthy: bool,
    comes_up: bool,
    commits: bool,
}

fn kind(number: u8) -> Kind {
    Kind { healthy: number % 5 != 1, comes_up: number % 5 != 2, commits: number % 5 != 3 }
}

/// Power went.
struct Cut;

struct World {
    record: Record,
    /// By slot: release and trust of the boot entry, if there is one.
    entries: [Option<(u8, Trust)>; 2],
    first: Slot,
    runs: Slot,
    boot: u32,
    offer: u8,
    /// By slot: the release that it holds, and what was written last of the data it has.
    holds: [u8; 2],
    data: [u32; 2],
    /// Slots that begin with the data of what ran last.
    fresh: BTreeSet<Slot>,
    written: u32,
    /// Whether an agent has looked at this boot.
    looked: bool,
    /// Whether an operator has asked for the other slot, which is then as it was left.
    as_it_was: bool,
    /// Whether somebody has started a release from the boot loader's menu, which may be one that was left: it is never taken for one that
    /// has to prove itself.
    by_hand: bool,
    /// How many durable steps are left until power goes.
    steps: Option<u32>,
}

fn version(number: u8) -> String {
    format!("1.{number}")
}

fn number(target: &Target) -> u8 {
    target.version.as_str()[2..].parse().unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            record: Record::default(),
            entries: [Some((0, Trust::Good)), None],
            first: Slot::A,
            runs: Slot::A,
            boot: 1,
            offer: 0,
            holds: [0, 0],
            data: [0, 0],
            fresh: BTreeSet::new(),
            written: 0,
            looked: false,
            as_it_was: false,
            by_hand: false,
            steps: None,
        };
        let _ = world.open();
        world
    }

    /// Something durable is about to change.
    fn step(&mut self) -> Result<(), Cut> {
        match &mut self.steps {
            Some(0) => Err(Cut),
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take(&mut self, event: Event) -> Result<Result<(), StepError>, Cut> {
        let next = match step(self.record.clone(), event, NOW) {
            Ok(next) => next,
            Err(error) => return Ok(Err(error)),
        };
        if next != self.record {
            self.step()?;
            self.record = next;
        }
        Ok(Ok(()))
    }

    fn must(&mut self, event: Event) -> Result<(), Cut> {
        let taken = self.take(event)?;
        taken.unwrap_or_else(|error| panic!("{error}"));
        Ok(())
    }

    fn trust(&self, slot: Slot, target: &Target) -> Option<Trust> {
        let (holds, trust) = self.entries[slot as usize]?;
        (holds == number(target)).then_some(trust)
    }

    fn seen(&self) -> Observation {
        let (runs, other) = (self.runs, self.runs.other());
        let running = target(&version(self.holds[runs as usize]));
        let trust = self.trust(runs, &running);
        let tried = |target: &Target| matches!(self.trust(other, target), Some(Trust::Trial(1..)));
        let state_target = self.record.state.target().filter(|target| target.root_hash != running.root_hash);
        let other_gone = self.record.slots.get(&other).map(Installed::target);
        Observation {
            slot: runs,
            version: running.version.clone(),
            root_hash: running.root_hash,
            boot_id: self.boot.to_string(),
            on_trial: !matches!(trust, Some(Trust::Good) | None),
            passed_over: trust == Some(Trust::Bad),
            unseen: false,
            still_tried: state_target.is_some_and(tried),
            other_gone: other_gone.is_some_and(|target| self.trust(other, &target).is_none()),
            stopped: None,
            beside: None,
            evidence: Evidence::default(),
        }
    }

    fn set(&mut self, slot: Slot, trust: Trust) -> Result<bool, Cut> {
        self.step()?;
        Ok(self.entries[slot as usize].as_mut().map(|entry| entry.1 = trust).is_some())
    }

    fn leave(&mut self, slot: Slot) -> Result<(), Cut> {
        if self.entries[slot.other() as usize].is_some() {
            self.set(slot, Trust::Bad)?;
            self.first = slot.other();
            if let Some((_, trust @ (Trust::Bad | Trust::Trial(0)))) =
                &mut self.entries[slot.other() as usize]
            {
                *trust = Trust::Good;
            }
        }
        Ok(())
    }

    /// As `Agent::open` does.
    fn open(&mut self) -> Result<(), Cut> {
        let seen = self.seen();
        self.must(Event::Started(seen))?;
        self.commit()?;
        if let State::Applied { target, slot } = self.record.state.clone()
            && slot != self.runs
            && matches!(self.trust(slot, &target), Some(Trust::Trial(1..)))
        {
            self.leave(slot)?;
        }
        self.looked = true;
        Ok(())
    }

    /// Whether there is nothing more to tell the boot loader.
    fn commit(&mut self) -> Result<bool, Cut> {
        let State::Committing { target, slot, .. } = self.record.state.clone() else { return Ok(true) };
        if !kind(number(&target)).commits {
            return Ok(false);
        }
        if self.set(slot, Trust::Good)? {
            self.first = slot;
        }
        self.must(Event::Committed).map(|()| true)
    }

    /// Whether the boot loader cannot be told, and there is a way back.
    fn waits_for_commit(&self) -> bool {
        matches!(self.record.state, State::Committing { .. }) && self.record.is_proven(self.runs.other())
    }

    /// Whether a restart is due.
    fn end_trial(&mut self) -> Result<bool, Cut> {
        self.commit()?;
        let State::RollingBack { slot, .. } = self.record.state else { return Ok(false) };
        self.leave(slot)?;
        if slot != self.runs {
            let seen = self.seen();
            self.must(Event::Started(seen))?;
        }
        Ok(slot == self.runs)
    }

    fn round(&mut self) -> Result<bool, Cut> {
        self.open()?;
        if matches!(self.record.state, State::Trial { .. }) || self.waits_for_commit() {
            return Ok(false);
        }
        if self.end_trial()? {
            return Ok(true);
        }
        let wanted = target(&version(self.offer));
        let is_bad = self.record.bad.iter().any(|bad| bad.root_hash == wanted.root_hash);
        if self.offer == self.holds[self.runs as usize] || is_bad {
            return Ok(false);
        }
        if matches!(&self.record.state, State::Switched { target, .. } if *target != wanted) {
            self.must(Event::TakenBack)?;
            self.leave(self.runs.other())?;
        }
        if self.take(Event::Chosen { target: wanted, retry: false })?.is_err() {
            return Ok(false);
        }
        loop {
            match self.record.state.effect() {
                Effect::Prepare(_) => self.must(Event::Accepted { slot: self.runs.other() })?,
                Effect::Install(target, slot) => self.install(&target, slot)?,
                Effect::Switch(target, slot) => self.switch(&target, slot)?,
                Effect::Reboot(_) => return Ok(true),
                _ => return Ok(false),
            }
        }
    }

    fn install(&mut self, target: &Target, slot: Slot) -> Result<(), Cut> {
        assert_ne!(slot, self.runs, "what runs is written");
        let is_proven = |slot| self.record.slots.get(&slot).is_some_and(|installed| installed.proven);
        assert!(
            self.by_hand || is_proven(self.runs) || !is_proven(slot),
            "the way back of what is not proven is erased"
        );
        self.step()?;
        self.first = self.runs;
        self.entries[slot as usize] = None;
        // What is alone is booted, whatever it was.
        if let Some(entry) = &mut self.entries[self.runs as usize] {
            entry.1 = Trust::Good;
        }
        self.must(Event::Emptied)?;
        self.step()?;
        self.holds[slot as usize] = number(target);
        self.fresh.insert(slot);
        let way = WayTaken { way: "full".into(), ..WayTaken::present() };
        self.must(Event::Applied(way))
    }

    fn switch(&mut self, target: &Target, slot: Slot) -> Result<(), Cut> {
        assert_eq!(self.holds[slot as usize], number(target), "the slot holds something else");
        if !self.record.is_proven(slot) {
            self.fresh.insert(slot);
        }
        self.step()?;
        self.entries[slot as usize] = Some((number(target), Trust::Trial(TRIES)));
        // It is what is started afterwards, whatever was recorded of it.
        if let Some(entry) = &mut self.entries[slot.other() as usize] {
            entry.1 = Trust::Good;
        }
        self.first = slot;
        self.must(Event::Switched { boot_id: self.boot.to_string() })
    }

    fn health(&mut self) -> Result<bool, Cut> {
        self.open()?;
        if self.end_trial()? {
            return Ok(true);
        }
        // A commit that fails, and checks that do, end in a restart of a strict boot.
        let State::Trial { target, .. } = self.record.state.clone() else {
            return Ok(self.waits_for_commit());
        };
        let healthy = kind(number(&target)).healthy;
        self.must(Event::Checked(report(if healthy { Verdict::Healthy } else { Verdict::Unhealthy })))?;
        let restarts = self.end_trial()?;
        Ok(restarts || !healthy || self.waits_for_commit())
    }

    fn roll_back(&mut self) -> Result<bool, Cut> {
        self.open()?;
        let seen = self.seen();
        if self.take(Event::RollbackAsked(seen))?.is_err() {
            return Ok(false);
        }
        self.as_it_was = true;
        match self.record.state.effect() {
            Effect::Switch(target, slot) => self.switch(&target, slot).map(|()| true),
            _ => self.end_trial(),
        }
    }

    /// The machine restarts until something comes up, from `by_hand` first.
    fn restart(&mut self, by_hand: Option<Slot>) {
        self.steps = None;
        let last = self.runs;
        let mut by_hand = by_hand.filter(|slot| self.entries[*slot as usize].is_some());
        for _ in 0..MOST_BOOTS {
            self.boot += 1;
            let may = |slot: &Slot| {
                !matches!(self.entries[*slot as usize], None | Some((_, Trust::Bad | Trust::Trial(0))))
            };
            let in_order = [self.first, self.first.other()];
            let there = |slot: &Slot| self.entries[*slot as usize].is_some();
            let found = in_order.into_iter().find(may).or_else(|| in_order.into_iter().find(there));
            let slot = by_hand.take().or(found).expect("there is nothing to boot");
            let (holds, trust) = self.entries[slot as usize].unwrap();
            if let Trust::Trial(left) = trust {
                let now = if left > 1 { Trust::Trial(left - 1) } else { Trust::Bad };
                self.entries[slot as usize] = Some((holds, now));
            }
            if self.holds[slot as usize] == holds && kind(holds).comes_up {
                self.come_up(slot, last);
                return;
            }
        }
        panic!("nothing comes up");
    }

    fn come_up(&mut self, slot: Slot, last: Slot) {
        if self.fresh.remove(&slot) {
            self.data[slot as usize] = self.data[last as usize];
        }
        // What is booted before the agent could do anything about it is on nobody's account.
        let was_switched_to = matches!(self.record.state, State::Switched { slot: to, .. } if to == slot);
        if slot != last && was_switched_to && !self.by_hand && self.looked && !self.as_it_was {
            assert_eq!(self.data[slot as usize], self.data[last as usize], "it starts on old data");
        }
        self.as_it_was &= slot == last || self.by_hand;
        (self.runs, self.looked) = (slot, false);
        self.written += 1;
        self.data[slot as usize] = self.written;
    }

    fn happen(&mut self, what: Happens) {
        let restarts = match what {
            Happens::Offer(number) => {
                self.offer = number;
                Ok(false)
            }
            Happens::Round => self.round(),
            Happens::Health => self.health(),
            Happens::Rollback => self.roll_back(),
            Happens::Restart => Ok(true),
            Happens::ByHand => {
                self.by_hand = true;
                self.restart(Some(self.runs.other()));
                return;
            }
            Happens::LoseEntry => {
                self.entries[self.runs.other() as usize] = None;
                Ok(false)
            }
        };
        if restarts.unwrap_or(true) {
            self.restart(None);
        }
    }

    /// Nothing happens to the host any more; it must come to rest.
    fn rest(&mut self) {
        self.steps = None;
        for _ in 0..MOST_BOOTS {
            let before = (self.boot, self.record.clone(), self.entries);
            self.happen(Happens::Health);
            self.happen(Happens::Round);
            if before == (self.boot, self.record.clone(), self.entries) {
                return self.assert_well();
            }
        }
        panic!("it goes on for ever: {:?} {:?}", self.record, self.entries);
    }

    fn assert_well(&self) {
        let running = self.record.slots.get(&self.runs).expect("what runs is not known");
        let is_bad = |root_hash| self.record.bad.iter().any(|bad| bad.root_hash == root_hash);
        let alone = !self.record.slots.contains_key(&self.runs.other());
        let offered = target(&version(self.offer));
        let takes = self.holds[self.runs as usize] == self.offer || is_bad(offered.root_hash);
        let is_at_rest = match self.record.state {
            State::Idle => true,
            State::Committing { .. } => !self.record.is_proven(self.runs.other()),
            // What was begun waits until it is offered again.
            State::Fetching { .. }
            | State::Applying { .. }
            | State::Applied { .. }
            | State::Switched { .. } => takes,
            _ => false,
        };
        assert!(is_at_rest, "{:?}", self.record);
        let other_is_good = self.record.slots.get(&self.runs.other()).is_some_and(|other| other.proven);
        assert!(
            self.by_hand || running.proven || alone || !other_is_good,
            "an unproven release stays: {:?}",
            self.record
        );
        assert!(self.by_hand || takes, "what is offered is never taken: {:?}", self.record);
        let Kind { healthy, comes_up, commits } = kind(self.offer);
        if !self.by_hand && !alone && healthy && comes_up && commits && !is_bad(offered.root_hash) {
            assert!(running.proven, "{:?}", self.record);
            assert_eq!(self.entries[self.runs as usize].map(|(_, trust)| trust), Some(Trust::Good));
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0u8..20).prop_map(Happens::Offer),
        6 => Just(Happens::Round),
        6 => Just(Happens::Health),
        2 => Just(Happens::Rollback),
        2 => Just(Happens::Restart),
        1 => Just(Happens::ByHand),
        1 => Just(Happens::LoseEntry),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10000))]

    #[test]
    fn every_life_comes_to_rest_on_something_that_runs(
        life in prop::collection::vec((happens(), prop::option::weighted(0.3, 0u32..8)), 1..40),
    ) {
        let mut world = World::new();
        for (what, steps) in life {
            world.steps = steps;
            world.happen(what);
            world.steps = None;
        }
        world.rest();
    }
}
