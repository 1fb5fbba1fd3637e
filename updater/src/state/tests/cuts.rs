//! Power cuts between any two steps.

use std::cell::{Cell, RefCell};

use super::*;

/// Power goes at a step; content that was not synced by then is lost, though names may be there.
struct Cut {
    left: Cell<usize>,
    taken: Cell<usize>,
    volatile: RefCell<Vec<PathBuf>>,
}

impl Cut {
    fn after(steps: usize) -> Self {
        Self { left: Cell::new(steps), taken: Cell::default(), volatile: RefCell::default() }
    }

    fn ask(&self, step: Step<'_>) -> io::Result<()> {
        if self.left.get() == 0 {
            self.lose();
            if let Step::Remove(path) = step {
                remove_some(path);
            }
            return Err(io::Error::other("the power is gone"));
        }
        self.left.set(self.left.get() - 1);
        self.taken.set(self.taken.get() + 1);
        match step {
            Step::Make(path) => self.volatile.borrow_mut().push(path.to_owned()),
            Step::Rename(from, to) => {
                for path in self.volatile.borrow_mut().iter_mut() {
                    if let Ok(rest) = path.strip_prefix(from) {
                        *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                    }
                }
            }
            Step::Sync => self.volatile.borrow_mut().clear(),
            Step::Remove(_) | Step::Write(_) | Step::Copy => {}
        }
        Ok(())
    }

    fn lose(&self) {
        for path in self.volatile.borrow_mut().drain(..) {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                fs::write(&path, "").unwrap();
            }
        }
    }
}

/// A removal that was cut off.
fn remove_some(path: &Path) {
    let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
    if let Some(entry) = entries.next() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Power goes at each step of `act`, and at each step of what is done again after that; done again without a cut it has to
/// end as if there had been none. Says how many steps there are.
pub(super) fn every_cut(start: impl Fn() -> State, act: impl Fn(&State, &Hands<'_>)) -> usize {
    let count = |cut: &Cut, state: &State| {
        act(state, &Hands::that_ask(&|step| cut.ask(step)));
        cut.taken.get()
    };
    let whole = start();
    let steps = count(&Cut::after(usize::MAX), &whole);
    let expected = whole.all();
    for first in 0..steps {
        for second in [usize::MAX].into_iter().chain((0..steps).step_by(3)) {
            let state = start();
            count(&Cut::after(first), &state);
            count(&Cut::after(second), &state);
            act(&state, &Hands::default());
            assert_eq!(state.all(), expected, "cut at step {first} of {steps}, then at {second}");
        }
    }
    steps
}

/// A boot whose power may go.
pub(super) fn try_boot(state: &State, hands: &Hands<'_>, slot: Slot) {
    let image = image(DECLARES);
    let _ = carry_out_reset(&state.layout, hands, &image, slot);
    let _ = prepare(&state.layout, hands, &image, slot);
}

#[test]
fn power_may_go_at_every_step_of_a_first_boot() {
    let steps = every_cut(staged, |state, hands| try_boot(state, hands, B));
    assert!(steps > 20, "{steps} steps");
}

#[test]
fn power_may_go_at_every_step_of_a_boot_that_something_follows_to() {
    let back = || {
        let state = staged();
        state.boot(B);
        state.put("b:shadow", "root:rotated\n");
        state.put("b:ssh/ssh_host_rsa_key", "secret");
        state.put("b:folder/one", "1");
        state.put("a:folder/two", "2");
        state.put("a:machine-id", "gone in b");
        state
    };
    let steps = every_cut(back, |state, hands| try_boot(state, hands, A));
    assert!(steps > 15, "{steps} steps");
}

#[test]
fn power_may_go_at_every_step_of_carrying() {
    let steps = every_cut(
        || {
            let state = staged();
            state.boot(B);
            state.put("b:hosts", "b's");
            state
        },
        |state, hands| drop(carry(&state.layout, hands, B, A)),
    );
    assert!(steps > 8, "{steps} steps");
}

/// What was staged must stand when it cannot be copied again, and the slot that ran is never touched.
#[test]
fn a_cut_first_boot_leaves_the_slot_before_it_as_it_was() {
    let total = {
        let (state, cut) = (staged(), Cut::after(usize::MAX));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        cut.taken.get()
    };
    for steps in 0..total {
        let (state, cut) = (staged(), Cut::after(steps));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        state.boot(A);
        for (path, text) in
            [("a:shadow", "root:old\n"), ("a:hosts", "at staging"), ("lib/app/data/db", "version 1")]
        {
            assert_eq!(state.get(path).as_deref(), Some(text), "{path} after {steps} steps");
        }
        assert_eq!(kept_in(&state, A), [""; 0]);
    }
}

#[test]
fn the_copy_of_the_staging_stands_where_it_cannot_be_made_again_after_a_cut() {
    let start = || {
        let state = staged();
        state.put("a:hosts", "after staging");
        state
    };
    for steps in 0..60 {
        let (state, cut) = (start(), Cut::after(steps));
        try_boot(&state, &Hands::that_ask(&|step| cut.ask(step)), B);
        let full = |step: Step<'_>| match step {
            Step::Make(path) if path.to_string_lossy().contains("/etc/b.new") => {
                Err(io::Error::other("no space"))
            }
            _ => Ok(()),
        };
        let prepared = prepare(&state.layout, &Hands::that_ask(&full), &image(DECLARES), B).unwrap();
        let hosts = state.get("b:hosts").unwrap_or_default();
        assert!(matches!(hosts.as_str(), "at staging" | "after staging"), "{hosts:?} after {steps} steps");
        let again =
            prepared.complaints.iter().any(|line| line.contains("has the /etc of when it was written"));
        assert!(again || hosts == "after staging", "{:?} after {steps} steps", prepared.complaints);
    }
}
