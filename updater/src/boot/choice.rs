//! What a boot loader with one entry a slot chooses by, and how each verb changes it. Pure.

use upright_manifests::name::Slot;

use super::Trust;

/// The slots in the order in which they are looked at, and what is recorded about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// The slot that is looked at first.
    pub(super) first: Slot,
    /// What is recorded about slot a.
    pub(super) a: Trust,
    /// What is recorded about slot b.
    pub(super) b: Trust,
}

impl Choice {
    /// What is recorded about a slot.
    pub(super) fn trust(&self, slot: Slot) -> Trust {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// The same with something else recorded about a slot.
    pub(super) fn with(self, slot: Slot, trust: Trust) -> Self {
        match slot {
            Slot::A => Self { a: trust, ..self },
            Slot::B => Self { b: trust, ..self },
        }
    }

    /// Whether the boot loader may take a slot.
    pub(super) fn takes(&self, slot: Slot) -> bool {
        is_taken(self.trust(slot))
    }

    /// Nothing but `keep` is left. It is good whatever it was: to count its boots would lead nowhere.
    pub(super) fn alone(self, keep: Slot) -> Self {
        Self { first: keep, ..self }.with(keep, Trust::Good).with(keep.other(), Trust::Bad)
    }

    /// A trial of `slot` begins. With a `way_back`, the other slot, which runs, is taken when the tries are used up.
    pub(super) fn tried(self, slot: Slot, tries: u32, way_back: bool) -> Self {
        let trial = Trust::Trial { left: tries, done: 0 };
        let chosen = Self { first: slot, ..self }.with(slot, trial);
        match way_back && !self.takes(slot.other()) {
            true => chosen.with(slot.other(), Trust::Good),
            false => chosen,
        }
    }

    /// `slot` is proven, and first from now on.
    pub(super) fn proven(self, slot: Slot) -> Self {
        Self { first: slot, ..self }.with(slot, Trust::Good)
    }

    /// `slot` is passed over. Out of tries itself, the other one is taken all the same: there is nothing better.
    pub(super) fn left(self, slot: Slot) -> Self {
        let chosen = Self { first: slot.other(), ..self }.with(slot, Trust::Bad);
        match self.takes(slot.other()) {
            true => chosen,
            false => chosen.with(slot.other(), Trust::Good),
        }
    }
}

fn is_taken(trust: Trust) -> bool {
    !matches!(trust, Trust::Bad | Trust::Trial { left: 0, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL: Trust = Trust::Trial { left: 3, done: 0 };

    #[test]
    fn a_way_back_that_was_passed_over_is_one_again() {
        let after_a_failed_trial = Choice { first: Slot::B, a: Trust::Good, b: Trust::Bad };
        let back_and_forth = Choice { first: Slot::A, a: Trust::Bad, b: Trust::Good }.tried(Slot::A, 3, true);
        assert_eq!(back_and_forth, Choice { first: Slot::A, a: TRIAL, b: Trust::Good });
        assert_eq!(
            after_a_failed_trial.left(Slot::A),
            Choice { first: Slot::B, a: Trust::Bad, b: Trust::Good }
        );
    }

    #[test]
    fn a_slot_without_an_entry_is_no_way_back() {
        let alone = Choice { first: Slot::A, a: Trust::Bad, b: Trust::Bad };
        assert_eq!(alone.tried(Slot::A, 3, false).b, Trust::Bad);
        assert_eq!(alone.alone(Slot::B), Choice { first: Slot::B, a: Trust::Bad, b: Trust::Good });
    }
}
