//! Each fact, alone, on a host where all others are as they should be.

use std::time::Duration;

use upright_manifests::digest::Digest;

use super::*;

const MIB: u64 = 1 << 20;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Slot a runs, and slot b is the way back.
fn entry(slot: Slot, state: EntryState) -> EntryFacts {
    let runs = slot == Slot::A;
    EntryFacts { slot, version: "1.0.0".parse().unwrap(), state, runs, mendable: !runs }
}

fn healthy() -> HostFacts {
    let partitions = ["root-a", "root-a-verity", "root-b", "root-b-verity"];
    HostFacts {
        booted: Ok(Booted {
            slot: Slot::A,
            os: "acme".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            root_hash: Digest::of(b"root"),
        }),
        partitions: partitions.map(|label| (label.to_owned(), Ok(512 * MIB))).to_vec(),
        boot: BootFacts {
            name: "grub",
            entry: Ok(Some(Trust::Good)),
            started: Ok(None),
            concerns: Ok(Vec::new()),
            room: Ok((Some(30 * MIB), 60 * MIB)),
            writable: Ok(()),
            fsck: true,
            entries: vec![entry(Slot::A, EntryState::Named), entry(Slot::B, EntryState::Whole)],
        },
        read_only: Vec::new(),
        record: Ok(RecordFacts {
            last_contact: Some(time("2030-01-01T00:00:00Z")),
            good_until: ["root", "targets", "snapshot", "timestamp"]
                .map(|role| (role.to_owned(), time("2031-01-01T00:00:00Z")))
                .to_vec(),
            at_rest: true,
            medium: None,
        }),
        root: Ok(()),
        trust: Ok(()),
        state_room: Ok(100 * MIB),
        state_writable: Ok(()),
        state_in_memory: false,
        owed: Ok(Vec::new()),
        vouched: Vouched::Signed,
        odd: Vec::new(),
        reset: Ok(None),
        grace: Duration::ZERO,
        watchdog: Some(Watchdog::Active(Duration::from_secs(60))),
        now: time("2030-01-02T00:00:00Z"),
        image_time: Some(time("2029-01-01T00:00:00Z")),
    }
}

/// All findings that are not fine.
fn found(host: HostFacts) -> Vec<Finding> {
    let facts = Facts { configuration: Ok("/etc/upright/upright.toml".to_owned()), host: Ok(host) };
    let mut found = examine(&facts);
    found.retain(|finding| finding.level > Level::Fine);
    found
}

#[test]
fn a_healthy_host_has_one_line_a_subject() {
    assert_eq!(found(healthy()), []);
    let facts = Facts { configuration: Ok(String::new()), host: Ok(healthy()) };
    let subjects: Vec<_> = examine(&facts).iter().map(|finding| finding.subject).collect();
    let expected = [
        "configuration",
        "running system",
        "partitions",
        "boot loader",
        "ESP",
        "state",
        "watchdog",
        "clock",
        "trust",
    ];
    assert_eq!(subjects, expected);
}

type Change = fn(&mut HostFacts);

/// What is not as it should be: how bad it is, what of, and what is said, which follows from a change of one fact.
fn cases() -> [(Level, &'static str, &'static str, Change); 30] {
    [
        (Level::Wrong, "running system", "no such", |host| host.booted = Err("no such".into())),
        (Level::Wrong, "partitions", "root-b cannot", |host| host.partitions[2].1 = Err("?".into())),
        (Level::Wrong, "partitions", "root-b: read-only", |host| {
            host.read_only = vec!["root-b: read-only".into()];
        }),
        (Level::Weak, "partitions", "root-a has", |host| host.partitions[0].1 = Ok(1)),
        (Level::Wrong, "boot loader", "grub cannot be read", |host| host.boot.entry = Err("?".into())),
        // It is told once, and not as what it does to the ESP.
        (Level::Wrong, "boot loader", "grub has no entry", |host| {
            host.boot.entry = Ok(None);
            host.boot.entries[0].state = EntryState::Damaged;
            host.boot.room = Err("no boot entry for acme 1.0.0: nothing was removed".into());
        }),
        (
            Level::Wrong,
            "boot loader",
            "the entry of 1.0.0 in slot a is damaged, so the next boot may",
            |host| {
                host.boot.entries[0].state = EntryState::Damaged;
            },
        ),
        (
            Level::Wrong,
            "boot loader",
            "the entry of 1.0.0 in slot b is gone, so there is no way back",
            |host| {
                host.boot.entries[1].state = EntryState::Missing;
            },
        ),
        (Level::Wrong, "boot loader", "the entry of 1.0.0 in slot b is damaged, so it does not", |host| {
            host.boot.entries[1] = EntryFacts { mendable: false, ..entry(Slot::B, EntryState::Damaged) };
        }),
        (Level::Weak, "boot loader", "grub passes over", |host| host.boot.entry = Ok(Some(Trust::Bad))),
        (Level::Wrong, "boot loader", "it says that it started slot b", |host| {
            host.boot.started = Ok(Some(Slot::B));
        }),
        (Level::Wrong, "boot loader", "exited with 1", |host| {
            host.boot.started = Err("exited with 1".into())
        }),
        (Level::Weak, "boot loader's state", "one copy", |host| {
            host.boot.concerns = Ok(vec![Concern { says: "one copy".into(), mend: "two".into() }]);
        }),
        (Level::Wrong, "ESP", "there are", |host| host.boot.room = Ok((Some(MIB), MIB - 1))),
        (Level::Wrong, "ESP", "no such", |host| host.boot.room = Err("no such".into())),
        (Level::Wrong, "ESP", "there is no fsck.vfat", |host| host.boot.fsck = false),
        (Level::Wrong, "ESP", "read-only", |host| host.boot.writable = Err("read-only".into())),
        (Level::Wrong, "state", "16.0 MB are free", |host| host.state_room = Ok(16_000_000)),
        (Level::Wrong, "state", "read-only", |host| host.state_writable = Err("read-only".into())),
        (Level::Wrong, "state", "this boot could not use", |host| host.state_in_memory = true),
        (Level::Wrong, "reset", "what was asked for cannot be read", |host| host.reset = Err("?".into())),
        (Level::Weak, "watchdog", "there is none", |host| host.watchdog = Some(Watchdog::Missing)),
        (Level::Weak, "watchdog", "there is one", |host| host.watchdog = Some(Watchdog::Idle)),
        (Level::Wrong, "clock", "it says 1970", |host| host.now = Timestamp::UNIX_EPOCH),
        (Level::Wrong, "trust", "no root", |host| {
            host.root = Err("no root".into());
            host.trust = Err("no root".into());
        }),
        (Level::Wrong, "trust", "damaged", |host| host.trust = Err("damaged".into())),
        (Level::Wrong, "trust", "the targets metadata", |host| host.now = time("2031-01-01T00:00:00Z")),
        (Level::Weak, "trust", "the root metadata expires", |host| host.now = time("2030-12-31T00:00:00Z")),
        (Level::Weak, "trust", "the server was never", |host| host.record = Ok(RecordFacts::default())),
        (Level::Weak, "trust", "the targets metadata that came from /media/usb expired", |host| {
            brought(host);
            host.now = time("2031-01-03T00:00:00Z");
        }),
    ]
}

#[test]
fn each_thing_that_is_not_as_it_should_be_is_told_once_with_a_way_to_mend_it() {
    let bad = || Err("no such device".to_owned());
    for (level, subject, says, change) in cases() {
        let mut host = healthy();
        change(&mut host);
        let found = found(host);
        let hit = found.iter().find(|finding| finding.says.starts_with(says));
        let hit = hit.unwrap_or_else(|| panic!("nothing says {says:?}: {found:?}"));
        assert_eq!((hit.level, hit.subject), (level, subject));
        assert!(hit.mend.is_some());
        assert!(found.iter().all(|finding| finding.subject == subject), "{found:?}");
    }
    let facts =
        Facts { configuration: Err("upright.toml:2: url".to_owned()), host: bad().map(|()| healthy()) };
    assert!(examine(&facts).iter().all(|finding| finding.level == Level::Wrong));
}

/// Its last trial boot runs: it is passed over until it is proven, and that is no reason to worry.
#[test]
fn an_entry_that_is_on_trial_is_as_it_should_be() {
    let mut host = healthy();
    host.boot.entry = Ok(Some(Trust::Bad));
    host.record = host.record.map(|record| RecordFacts { at_rest: false, ..record });
    assert_eq!(found(host), []);
}

#[test]
fn a_virtual_host_needs_no_watchdog() {
    assert_eq!(found(HostFacts { watchdog: None, ..healthy() }), []);
}

/// Its metadata came on a medium, which may be two days late.
fn brought(host: &mut HostFacts) {
    let medium = Brought { from: "/media/usb".to_owned(), time: time("2030-01-01T00:00:00Z"), expired: None };
    host.record.as_mut().unwrap().medium = Some(medium);
    host.grace = Duration::from_secs(2 * 86_400);
}

#[test]
fn what_the_configuration_takes_from_a_medium_is_as_it_should_be() {
    let mut host = healthy();
    brought(&mut host);
    host.now = time("2031-01-02T00:00:00Z");
    assert_eq!(found(host.clone()), []);
    let facts = Facts { configuration: Ok(String::new()), host: Ok(host) };
    let trust = examine(&facts).pop().unwrap().says;
    assert_eq!(trust, "metadata is whole; it came from /media/usb, taken at 2030-01-01T00:00:00Z");
}

/// Neither the publisher nor the metadata is to blame, and trust is not to be thrown away.
#[test]
fn a_clock_that_is_years_ahead_is_what_is_to_be_set() {
    let mut host = healthy();
    host.now = time("2099-01-01T00:00:00Z");
    let found = found(host);
    assert_eq!((found[0].subject, found[0].level), ("clock", Level::Weak), "{found:?}");
    assert!(found[0].says.contains("the last contact was years ago"), "{found:?}");
    for finding in &found[1..] {
        let mend = finding.mend.as_ref().unwrap();
        assert!(mend.starts_with("set the clock") && !mend.contains("upright-build"), "{finding:?}");
    }
}

#[test]
fn what_did_not_follow_is_named() {
    let mut host = healthy();
    host.owed = Ok(vec!["shadow".into(), "machine-id".into()]);
    let [finding] = &found(host)[..] else { panic!("one finding") };
    assert_eq!((finding.level, finding.subject), (Level::Wrong, "state"));
    assert!(finding.says.contains("/etc/shadow, /etc/machine-id"), "{finding:?}");
}
