//! Versioned paths that are not there when a slot boots.

use super::cuts::{every_cut, try_boot};
use super::*;

/// A release that declares nothing.
fn old() -> Files {
    image("")
}

fn on_var(state: &State, path: &str) -> bool {
    state.path(path).exists()
}

/// Slot b was booted with nothing at what it declares, and made its database.
fn made_in_b() -> State {
    let state = State::new(&[("a:hosts", "x"), ("lib/other", "shared")]);
    state.boot_of(&old(), A);
    state.stage(A, B);
    assert_eq!(state.boot(B).mounts, []);
    // Nothing is in the way of a service that looks whether this is its first start.
    assert!(!on_var(&state, "lib/app"));
    state.put("lib/app/db", "b's");
    state
}

#[test]
fn what_a_release_makes_where_nothing_was_is_its_own() {
    let state = made_in_b();
    state.boot(B);
    assert_eq!(state.sees(B, "lib/app/db").as_deref(), Some("b's"));
    let come_back = |slot| -> Vec<String> {
        comes_back(&state.layout, slot).unwrap().into_iter().map(|copied| copied.path).collect()
    };
    assert_eq!(come_back(A), ["/var/lib/app"]);
    // The release before finds what it left, which is nothing, and makes its own.
    for a in [old(), image(DECLARES)] {
        state.boot_of(&a, A);
        assert_eq!(state.get("lib/other").as_deref(), Some("shared"));
        let own = state.sees(A, "lib/app/db");
        assert!(own.is_none() || own.as_deref() == Some("a's"), "{own:?}");
        state.put("lib/app/db", "a's");
        assert_eq!(come_back(B), ["/var/lib/app"]);
        let mounts = state.boot(B).mounts;
        assert_eq!(mounts.len(), 1);
        assert_eq!(state.sees(B, "lib/app/db").as_deref(), Some("b's"));
    }
    assert_eq!(state.sees(A, "lib/app/db").as_deref(), Some("a's"));
}

#[test]
fn the_same_holds_after_a_reset_of_var() {
    let state = staged();
    state.boot(B);
    Request { var: true, keep_identity: false }.leave(&state.layout).unwrap();
    try_boot(&state, &Hands::default(), B);
    state.put("lib/app/db", "b's");
    state.put("lib/file.db", "b's");
    state.boot(A);
    assert_eq!((state.sees(A, "lib/app/db"), state.sees(A, "lib/file.db")), (None, None));
    state.boot(B);
    assert_eq!(state.sees(B, "lib/app/db").as_deref(), Some("b's"));
    assert_eq!(state.sees(B, "lib/file.db").as_deref(), Some("b's"));
}

#[test]
fn the_next_release_begins_with_it() {
    let state = made_in_b();
    state.stage(B, A);
    let mounts = state.boot(A).mounts;
    assert_eq!(mounts.len(), 1);
    fs::write(mounts[0].from.join("db"), "migrated").unwrap();
    state.boot(B);
    assert_eq!(state.sees(B, "lib/app/db").as_deref(), Some("b's"));
    state.boot(A);
    assert_eq!(state.sees(A, "lib/app/db").as_deref(), Some("migrated"));
}

/// A next release that declares nothing shares it, wherever it is: neither loses what it has.
#[test]
fn a_next_release_that_does_not_declare_it_shares_it() {
    let state = made_in_b();
    state.stage(B, A);
    for slot in [A, B, A, B] {
        match slot {
            A => state.boot_of(&old(), A),
            B => state.boot(B),
        };
        assert_eq!(state.sees(slot, "lib/app/db").as_deref(), Some("b's"), "in {slot}");
    }
}

#[test]
fn power_may_go_at_every_step_of_leaving_it_to_who_made_it() {
    let steps = every_cut(made_in_b, |state, hands| try_boot(state, hands, A));
    assert!(steps > 6, "{steps} steps");
    // And at every step of a boot of the one, followed by the other.
    for cut in 0..steps {
        let (state, left) = (made_in_b(), std::cell::Cell::new(cut));
        let ask = |_: Step<'_>| match left.get() {
            0 => Err(io::Error::other("the power is gone")),
            more => {
                left.set(more - 1);
                Ok(())
            }
        };
        try_boot(&state, &Hands::that_ask(&ask), A);
        state.boot(B);
        assert_eq!(state.sees(B, "lib/app/db").as_deref(), Some("b's"), "after {cut} steps");
        state.boot(A);
        assert_eq!(state.sees(A, "lib/app/db"), None, "after {cut} steps");
    }
}

/// What cannot be moved keeps no slot from booting.
#[test]
fn a_link_where_something_was_made_is_told_and_followed_by_nobody() {
    let state = made_in_b();
    fs::remove_dir_all(state.path("lib/app")).unwrap();
    symlink("other", state.path("lib/app")).unwrap();
    let prepared = prepare(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert!(prepared.complaints[0].contains("a symbolic link leads there"), "{:?}", prepared.complaints);
    assert_eq!(state.get("lib/other").as_deref(), Some("shared"));
}
