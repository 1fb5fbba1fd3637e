//! A password that was changed is not lost because it could not be written somewhere for a while.

use super::*;

/// Slot a ran, then b, where the password was changed.
fn rotated() -> State {
    let state = staged();
    state.boot(B);
    state.put("b:shadow", "root:rotated\n");
    state
}

/// Boots `slot` while writing of some kind is refused; gives the complaints.
fn boot_where(state: &State, slot: Slot, refused: fn(Step<'_>) -> bool) -> Vec<String> {
    let ask = |step: Step<'_>| match refused(step) {
        true => Err(io::Error::from(io::ErrorKind::StorageFull)),
        false => Ok(()),
    };
    prepare(&state.layout, &Hands::that_ask(&ask), &image(DECLARES), slot).unwrap().complaints
}

fn is_new(step: Step<'_>) -> bool {
    matches!(step, Step::Make(path) if path.ends_with("new"))
}

fn writes_anything(step: Step<'_>) -> bool {
    matches!(step, Step::Make(_) | Step::Write(_) | Step::Copy)
}

#[test]
fn what_could_not_follow_follows_at_the_next_boot() {
    let state = rotated();
    let complaints = boot_where(&state, A, is_new);
    assert!(complaints[0].contains("/etc/shadow does not follow"), "{complaints:?}");
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:old\n"));
    assert_eq!(owed(&state.layout, A).unwrap(), ["shadow"]);
    state.boot(A);
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
    assert!(owed(&state.layout, A).unwrap().is_empty());
}

#[test]
fn what_did_not_follow_is_not_taken_back_to_where_it_was_changed() {
    let state = rotated();
    boot_where(&state, A, is_new);
    state.put("a:ssh/ssh_host_key", "made in a");
    state.boot(B);
    assert_eq!(state.get("b:shadow").as_deref(), Some("root:rotated\n"));
    assert_eq!(state.get("b:ssh/ssh_host_key").as_deref(), Some("made in a"));
    state.boot(A);
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
}

#[test]
fn what_was_changed_meanwhile_counts() {
    for next in [A, B] {
        let state = rotated();
        boot_where(&state, A, is_new);
        state.put("a:shadow", "root:newest\n");
        assert!(owed(&state.layout, A).unwrap().is_empty());
        state.boot(next);
        state.boot(B);
        assert_eq!(state.get("b:shadow").as_deref(), Some("root:newest\n"));
    }
}

#[test]
fn nothing_is_lost_where_not_even_a_note_can_be_written() {
    let state = rotated();
    let complaints = boot_where(&state, A, writes_anything);
    assert!(complaints.iter().any(|line| line.contains("does not count as what ran last")), "{complaints:?}");
    state.boot(A);
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
}

/// A disk that is full has room for what takes the place of as much.
#[test]
fn that_a_slot_runs_is_noted_on_a_full_disk() {
    let state = rotated();
    fs::remove_file(state.path("b:shadow")).unwrap();
    fs::remove_file(state.path("a:shadow")).unwrap();
    // The first attempt is beside it.
    let refused = std::cell::Cell::new(false);
    let ask = |step: Step<'_>| match step {
        Step::Write(path) if path.ends_with("last-slot") && !refused.replace(true) => {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        _ => Ok(()),
    };
    let prepared = prepare(&state.layout, &Hands::that_ask(&ask), &image(DECLARES), A).unwrap();
    assert_eq!(prepared.complaints, [""; 0]);
    assert_eq!(last::Last::read(&state.layout).unwrap().map(|last| last.slot), Some(A));
}

#[test]
fn where_it_is_not_known_which_slot_ran_last_what_was_changed_later_counts() {
    let state = rotated();
    for (at, seconds) in [("a:shadow", 100), ("b:shadow", 200), ("b:folder", 100), ("a:folder", 200)] {
        if state.get(at).is_none() {
            state.put(at, at);
        }
        let file = fs::File::options().write(true).open(state.path(at)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    }
    fs::write(state.layout.last_slot(), "").unwrap();
    let prepared = prepare(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert!(prepared.complaints[0].contains("which slot ran last"), "{prepared:?}");
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
    assert_eq!(state.get("a:folder").as_deref(), Some("a:folder"));
}

#[test]
fn room_that_was_kept_is_given_up_for_what_follows() {
    let state = rotated();
    crate::store::keep_reserve(state.layout.own()).unwrap();
    let reserve = state.layout.own().join("reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20);
    let ask = |step: Step<'_>| match is_new(step) && reserve.exists() {
        true => Err(io::Error::from(io::ErrorKind::StorageFull)),
        false => Ok(()),
    };
    let prepared = prepare(&state.layout, &Hands::that_ask(&ask), &image(DECLARES), A).unwrap();
    assert_eq!((prepared.complaints.len(), reserve.exists()), (0, false));
    assert_eq!(state.get("a:shadow").as_deref(), Some("root:rotated\n"));
}

/// Whatever boots in whatever order, wherever power goes or the disk is full in each of them: the password that was changed last, in a
/// boot that was noted, is there in the slot where it was changed and in the next that boots well.
#[test]
fn no_order_of_boots_and_failures_loses_the_password_that_was_changed_last() {
    let steps = 24;
    for (first, second) in (0..steps).flat_map(|first| (0..steps).map(move |second| (first, second))) {
        for full in [false, true] {
            for order in [[A, B, A], [A, A, B], [A, B, B]] {
                let state = rotated();
                for (slot, cut) in order.into_iter().zip([first, second, usize::MAX]) {
                    fail_after(&state, slot, cut, full);
                }
                let about = format!("{order:?}, failing after {first} and {second} steps, full: {full}");
                state.boot(A);
                state.boot(B);
                for path in ["a:shadow", "b:shadow"] {
                    assert_eq!(state.get(path).as_deref(), Some("root:rotated\n"), "{path}: {about}");
                }
            }
        }
    }
}

/// Boots `slot` with the power gone, or nothing written any more, after so many steps.
fn fail_after(state: &State, slot: Slot, steps: usize, full: bool) {
    let left = std::cell::Cell::new(steps);
    let ask = |step: Step<'_>| {
        let fails = left.get() == 0 && (!full || writes_anything(step));
        left.set(left.get().saturating_sub(1));
        if fails { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    };
    let _ = prepare(&state.layout, &Hands::that_ask(&ask), &image(DECLARES), slot);
}

#[test]
fn what_is_in_the_way_for_good_is_told_and_keeps_nothing_waiting() {
    let state = rotated();
    state.put("b:ssh/ssh_host_key", "b");
    symlink("elsewhere", state.path("a:ssh")).unwrap();
    let prepared = prepare(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert!(prepared.complaints[0].contains("is no folder there"), "{prepared:?}");
    assert_eq!(owed(&state.layout, A).unwrap(), [""; 0]);
}

#[test]
fn a_reset_keeps_the_identity_that_could_not_follow() {
    let state = rotated();
    state.put("a:machine-id", "old");
    state.put("b:machine-id", "new");
    boot_where(&state, A, is_new);
    assert!(owed(&state.layout, A).unwrap().contains(&"machine-id".to_owned()));
    Request { var: false, keep_identity: true }.leave(&state.layout).unwrap();
    let complaints = carry_out_reset(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert_eq!(complaints, [""; 0]);
    for path in ["a:machine-id", "b:machine-id"] {
        assert_eq!(state.get(path).as_deref(), Some("new"), "{path}");
    }
}

#[test]
fn half_a_copy_keeps_no_room() {
    let state = rotated();
    let complaints = boot_where(&state, A, |step| matches!(step, Step::Copy | Step::Rename(..)));
    assert!(!complaints.is_empty());
    assert!(!state.layout.etc(A).join("new").exists());
}

#[test]
fn a_boot_that_could_not_be_noted_is_known_as_one() {
    let state = rotated();
    boot_where(&state, A, |step| matches!(step, Step::Write(_)));
    let error = owed(&state.layout, A).unwrap_err().to_string();
    assert!(error.contains("could not note that slot a runs"), "{error}");
}
