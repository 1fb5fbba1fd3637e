//! What a reset leaves.

use super::cuts::{every_cut, try_boot};
use super::*;

fn asked(request: Request) -> State {
    let state = staged();
    state.boot(B);
    state.put("b:machine-id", "me");
    state.put("b:ssh/ssh_host_rsa_key", "secret");
    state.put("b:ssh/sshd_config", "changed");
    for (path, text) in
        [("lib/upright/state.json", "{}"), ("lib/upright/tuf/root.json", "{}"), ("lib/upright/filled", "")]
    {
        state.put(path, text);
    }
    state.put("log/journal/x", "y");
    request.leave(&state.layout).unwrap();
    state
}

#[test]
fn a_reset_empties_what_was_asked_for_and_keeps_what_the_agent_must_not_forget() {
    for (var, keep_identity) in [(false, false), (false, true), (true, false), (true, true)] {
        let request = Request { var, keep_identity };
        let state = asked(request);
        assert_eq!(Request::pending(&state.layout).unwrap(), Some(request));
        try_boot(&state, &Hands::default(), B);
        assert_eq!(Request::pending(&state.layout).unwrap(), None);
        let identity = keep_identity.then_some("secret");
        // A rollback brings nothing back.
        for round in 0..2 {
            for slot in ["a", "b"] {
                assert_eq!(
                    state.get(&format!("{slot}:ssh/ssh_host_rsa_key")).as_deref(),
                    identity,
                    "{request:?} {round}"
                );
                for gone in ["hosts", "shadow", "ssh/sshd_config"] {
                    assert_eq!(state.get(&format!("{slot}:{gone}")), None, "{gone} {request:?}");
                }
            }
            state.boot(A);
            state.boot(B);
        }
        for kept in ["lib/upright/state.json", "lib/upright/tuf/root.json"] {
            assert_eq!(state.get(kept).as_deref(), Some("{}"), "{request:?}");
        }
        for there in ["lib/upright/filled", "log/journal/x", "lib/other", "lib/app/data/db"] {
            assert_eq!(state.get(there).is_none(), var, "{there} {request:?}");
        }
        assert_eq!(kept_in(&state, B).is_empty(), var);
        assert!(!state.layout.own().join("reset-kept").exists());
    }
}

#[test]
fn a_slot_that_has_not_run_is_one_after_a_reset_too() {
    let state = staged();
    state.put("a:machine-id", "me");
    Request { var: false, keep_identity: true }.leave(&state.layout).unwrap();
    try_boot(&state, &Hands::default(), B);
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
    assert_eq!(kept_in(&state, B), ["lib/app", "lib/file.db"], "not on the only copy");
}

#[test]
fn power_may_go_at_every_step_of_a_reset() {
    for (var, keep_identity) in [(false, false), (true, true)] {
        let request = Request { var, keep_identity };
        let steps = every_cut(|| asked(request), |state, hands| try_boot(state, hands, B));
        assert!(steps > 4, "{steps} steps");
    }
}

/// No room for anything that is made.
fn full(step: Step<'_>) -> io::Result<()> {
    match step {
        Step::Make(_) => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

#[test]
fn what_cannot_be_kept_is_not_emptied_and_the_request_says_why() {
    let request = Request { var: true, keep_identity: true };
    let state = asked(request);
    let before = || {
        let mut all = state.all();
        assert!(all.remove("lib/upright/reset").is_some());
        all
    };
    let whole = before();
    // With every boot again, and nothing is left of it either.
    for _ in 0..2 {
        let error = carry_out_reset(&state.layout, &Hands::that_ask(&full), &image(DECLARES), B).unwrap_err();
        assert!(error.to_string().contains("nothing was reset"), "{error}");
        assert!(before() == whole, "{:?}", before());
        assert_eq!(Request::refused(&state.layout), Some(error.to_string()));
        assert_eq!(Request::pending(&state.layout).unwrap(), Some(request));
    }
    assert_eq!(Request::cancel(&state.layout).unwrap(), None);
    request.leave(&state.layout).unwrap();
    assert_eq!(Request::refused(&state.layout), None);
    try_boot(&state, &Hands::default(), B);
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
}

#[test]
fn a_reset_that_keeps_nothing_needs_no_room() {
    let state = asked(Request { var: true, keep_identity: false });
    carry_out_reset(&state.layout, &Hands::that_ask(&full), &image(DECLARES), B).unwrap();
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
    for gone in ["a:hosts", "b:hosts", "b:machine-id", "lib/other"] {
        assert_eq!(state.get(gone), None, "{gone}");
    }
}

#[test]
fn room_that_was_kept_for_it_is_given_up_for_what_a_reset_keeps() {
    let state = asked(Request { var: false, keep_identity: true });
    state.put("lib/upright/reserve", "room");
    let reserve = state.path("lib/upright/reserve");
    let full = |step: Step<'_>| if reserve.exists() { full(step) } else { Ok(()) };
    carry_out_reset(&state.layout, &Hands::that_ask(&full), &image(DECLARES), B).unwrap();
    assert_eq!((state.get("a:machine-id").as_deref(), state.get("a:hosts")), (Some("me"), None));
}

/// On a file system of its own, with so many bytes too few.
#[test]
fn a_refused_reset_says_how_much_room_is_missing() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let state = asked(Request { var: false, keep_identity: true });
    let own = state.layout.own();
    let disk = tempfile::tempdir().unwrap();
    if mount("none", disk.path(), "tmpfs", MountFlags::empty(), Some(c"size=256k")).is_err() {
        eprintln!("skipped: this user may mount nothing");
        return;
    }
    let small = Layout::of_var(disk.path());
    let copied =
        std::process::Command::new("cp").arg("-a").arg(own.parent().unwrap()).arg(disk.path()).status();
    assert!(copied.unwrap().success());
    fs::write(small.upper(B).join("ssh/ssh_host_large"), vec![1; 16 << 10]).unwrap();
    let _ = fs::write(disk.path().join("rest"), vec![0; 1 << 20]);
    let refused =
        carry_out_reset(&small, &Hands::default(), &image(DECLARES), B).map_err(|error| error.to_string());
    let kept = (Request::refused(&small), small.upper(B).join("hosts").exists());
    let asked = || Request::shortfall(&small, &image(DECLARES), B).unwrap();
    let told = asked();
    // What is kept for it counts as room.
    fs::rename(disk.path().join("rest"), small.own().join("reserve")).unwrap();
    let with_reserve = asked();
    unmount(disk.path(), UnmountFlags::DETACH).unwrap();
    let error = refused.unwrap_err();
    assert!(
        error.contains("bytes are needed in /var, which has 0: ") && error.contains(" too few"),
        "{error}"
    );
    assert!(told.is_some_and(|told| error.contains(&told)) && with_reserve.is_none(), "{with_reserve:?}");
    assert_eq!(kept, (Some(error), true));
}

/// A system runs between two boots, and somebody sets it up.
#[test]
fn what_was_reset_is_not_reset_again_by_the_boot_that_does_the_rest() {
    let request = Request { var: false, keep_identity: true };
    let stubborn = |step: Step<'_>| match step {
        Step::Rename(_, path) if path.ends_with("etc/b") => Err(io::Error::other("input/output error")),
        _ => Ok(()),
    };
    let cut = || {
        let state = asked(request);
        let hands = Hands::that_ask(&stubborn);
        carry_out_reset(&state.layout, &hands, &image(DECLARES), B).unwrap_err();
        assert_eq!(Request::refused(&state.layout).as_deref(), Some("input/output error"));
        state.put("a:new", "set up anew");
        state
    };
    let state = cut();
    carry_out_reset(&state.layout, &Hands::default(), &image(DECLARES), A).unwrap();
    assert_eq!(state.get("a:new").as_deref(), Some("set up anew"));
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
    // Taken back, it says what was done, and no slot goes without what was kept.
    let state = cut();
    assert_eq!(Request::cancel(&state.layout).unwrap(), Some(Begun { etc: vec![A] }));
    assert_eq!(state.get("b:machine-id").as_deref(), Some("me"));
    assert!(!state.layout.own().join("reset-ready").exists());
    assert_eq!(Request::cancel(&state.layout).unwrap(), None);
}

/// By an older program, which emptied /etc before it had copied all.
#[test]
fn what_an_older_program_kept_for_a_reset_is_kept() {
    let state = asked(Request { var: false, keep_identity: true });
    state.put("lib/upright/reset", "etc keep-identity\n");
    state.put("lib/upright/reset-kept/ssh/ssh_host_rsa_key", "secret");
    fs::remove_dir_all(state.layout.upper(B)).unwrap();
    try_boot(&state, &Hands::default(), B);
    for slot in ["a", "b"] {
        assert_eq!(state.get(&format!("{slot}:ssh/ssh_host_rsa_key")).as_deref(), Some("secret"));
    }
    assert!(!state.layout.own().join("reset-kept").exists());
}

#[test]
fn older_programs_read_the_request_alone_though_a_reason_is_with_it() {
    let request = Request { var: false, keep_identity: false };
    let state = asked(request);
    let talk = |step: Step<'_>| match step {
        Step::Sync => Err(io::Error::other("var keep-identity etc\nvar ".to_owned() + &"ü".repeat(300))),
        _ => Ok(()),
    };
    carry_out_reset(&state.layout, &Hands::that_ask(&talk), &image(DECLARES), B).unwrap_err();
    let text = state.get("lib/upright/reset").unwrap();
    assert_eq!(text.len(), 256);
    assert!(!text.split_whitespace().any(|word| word == "var" || word == "keep-identity"), "{text}");
    assert_eq!(Request::pending(&state.layout).unwrap(), Some(request));
}

#[test]
fn an_identity_that_is_declared_twice_is_kept_once() {
    let state = asked(Request { var: false, keep_identity: true });
    let declares =
        "sticky /etc/ssh\nidentity /etc/ssh\nidentity /etc/ssh/ssh_host_*\nidentity /etc/machine-*\n";
    let complaints = carry_out_reset(&state.layout, &Hands::default(), &image(declares), B).unwrap();
    assert_eq!(complaints, [""; 0]);
    for slot in ["a", "b"] {
        assert_eq!(state.get(&format!("{slot}:ssh/ssh_host_rsa_key")).as_deref(), Some("secret"));
        assert_eq!(state.get(&format!("{slot}:machine-id")).as_deref(), Some("me"));
    }
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
}

#[test]
fn a_reset_ends_though_something_cannot_be_removed() {
    let state = asked(Request { var: true, keep_identity: true });
    let stubborn = |step: Step<'_>| match step {
        Step::Remove(path) if path.ends_with("etc/b") || path.ends_with("upright/versioned") => {
            Err(io::Error::other("operation not permitted"))
        }
        _ => Ok(()),
    };
    let hands = Hands::that_ask(&stubborn);
    let complaints = carry_out_reset(&state.layout, &hands, &image(DECLARES), B).unwrap();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
    state.boot(B);
    assert_eq!((state.get("b:machine-id").as_deref(), state.get("b:hosts")), (Some("me"), None));
    assert_eq!(kept_in(&state, B), [""; 0]);
}

#[test]
fn one_thing_that_cannot_be_removed_keeps_nothing_else() {
    let state = asked(Request { var: true, keep_identity: false });
    for path in ["lib/app/a", "lib/app/data/z", "lib/app/stuck/here", "lib/app/z"] {
        state.put(path, "private");
    }
    let stuck = state.path("lib/app/stuck/here");
    let frozen = |on| {
        let flags = if on { rustix::fs::IFlags::IMMUTABLE } else { rustix::fs::IFlags::empty() };
        rustix::fs::ioctl_setflags(fs::File::open(&stuck).unwrap(), flags).is_ok()
    };
    if !frozen(true) {
        eprintln!("skipped: this file system, or this user, knows no immutable files");
        return;
    }
    let complaints = carry_out_reset(&state.layout, &Hands::default(), &image(DECLARES), B);
    let left: Vec<_> = state.all().into_keys().filter(|path| path.starts_with("lib/app/")).collect();
    assert!(frozen(false));
    assert_eq!(left, ["lib/app/stuck", "lib/app/stuck/here"]);
    assert_eq!(complaints.unwrap().len(), 1);
}

#[test]
fn a_damaged_request_resets_nothing_and_loses_nothing_of_one_that_was_under_way() {
    let state = asked(Request { var: true, keep_identity: true });
    state.put("lib/upright/reset-kept/machine-id", "me");
    state.put("lib/upright/reset", "\0\0\0");
    try_boot(&state, &Hands::default(), B);
    assert!(Request::pending(&state.layout).is_err());
    assert_eq!(state.get("b:ssh/sshd_config").as_deref(), Some("changed"));
    assert_eq!(state.get("lib/upright/reset-kept/machine-id").as_deref(), Some("me"));
    Request::cancel(&state.layout).unwrap();
    assert_eq!(Request::pending(&state.layout).unwrap(), None);
}

#[test]
fn a_reset_can_be_taken_back() {
    let state = asked(Request { var: true, keep_identity: false });
    Request::cancel(&state.layout).unwrap();
    try_boot(&state, &Hands::default(), B);
    assert_eq!(state.get("b:ssh/sshd_config").as_deref(), Some("changed"));
    Request::cancel(&state.layout).unwrap();
}
