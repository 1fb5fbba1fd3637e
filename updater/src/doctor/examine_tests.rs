//! Each fact, alone, on a host where all others are as they should be.

use std::time::Duration;

use upright_manifests::digest::Digest;

use super::*;

const MIB: u64 = 1 << 20;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
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
        },
        record: Ok(RecordFacts {
            last_contact: Some(time("2030-01-01T00:00:00Z")),
            good_until: ["root", "targets", "snapshot", "timestamp"]
                .map(|role| (role.to_owned(), time("2031-01-01T00:00:00Z")))
                .to_vec(),
            at_rest: true,
        }),
        trust: Ok(()),
        state_room: Ok(100 * MIB),
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

#[test]
fn each_thing_that_is_not_as_it_should_be_is_told_once_with_a_way_to_mend_it() {
    type Change = fn(&mut HostFacts);
    let bad = || Err("no such device".to_owned());
    let cases: [(Level, &str, &str, Change); 19] = [
        (Level::Wrong, "running system", "no such", |host| host.booted = Err("no such".into())),
        (Level::Wrong, "partitions", "root-b cannot", |host| host.partitions[2].1 = Err("?".into())),
        (Level::Weak, "partitions", "root-a has", |host| host.partitions[0].1 = Ok(1)),
        (Level::Wrong, "boot loader", "grub cannot be read", |host| host.boot.entry = Err("?".into())),
        (Level::Wrong, "boot loader", "grub has no entry", |host| host.boot.entry = Ok(None)),
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
        (Level::Wrong, "ESP", "read-only", |host| host.boot.room = Err("read-only".into())),
        (Level::Wrong, "state", "16.0 MB are free", |host| host.state_room = Ok(16_000_000)),
        (Level::Weak, "watchdog", "there is none", |host| host.watchdog = Some(Watchdog::Missing)),
        (Level::Weak, "watchdog", "there is one", |host| host.watchdog = Some(Watchdog::Idle)),
        (Level::Wrong, "clock", "it says 1970", |host| host.now = Timestamp::UNIX_EPOCH),
        (Level::Wrong, "trust", "damaged", |host| host.trust = Err("damaged".into())),
        (Level::Wrong, "trust", "the targets metadata", |host| host.now = time("2031-01-01T00:00:00Z")),
        (Level::Weak, "trust", "the root metadata expires", |host| host.now = time("2030-12-31T00:00:00Z")),
        (Level::Weak, "trust", "the server was never", |host| host.record = Ok(RecordFacts::default())),
    ];
    for (level, subject, says, change) in cases {
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
