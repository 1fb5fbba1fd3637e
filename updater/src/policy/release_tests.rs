//! Each reason for and against a release, and that it survives being written down.

use upright_manifests::channel::Wave;

use super::*;
use crate::machine::Cause;
use crate::policy::sample as release;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const GOOD_UNTIL: Timestamp = Timestamp::constant(7 * 86_400, 0);

fn channel() -> Channel {
    Channel {
        format: 1,
        os: "acme".parse().unwrap(),
        arch: Arch::X86_64,
        channel: "stable".parse().unwrap(),
        version: "1.1".parse().unwrap(),
        manifest: Digest::of(b""),
        history: Vec::new(),
        hold: None,
        waves: Vec::new(),
        windows: Vec::new(),
    }
}

fn bad(version: &str) -> BadRelease {
    BadRelease {
        version: version.parse().unwrap(),
        root_hash: Digest::of(version.as_bytes()),
        time: NOW,
        reason: Cause::Operator,
    }
}

/// What a host on 1.0 decides about `release`.
fn decide(
    release: &Release,
    channel: &Channel,
    bad: &[BadRelease],
    hold: Option<&str>,
    with: Overrides,
) -> Decision {
    let running = self::release("1.0");
    let host = HostFacts {
        os: &running.os,
        arch: running.arch,
        machine_id: "host",
        version: &running.version,
        root_hash: &running.root.verity.root_hash,
        bad,
        hold,
        good_until: GOOD_UNTIL,
    };
    let decision = choose(&host, channel, release, NOW, with);
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision, "{text}");
    assert!(!decision.to_string().contains('\n'));
    decision
}

const PLAIN: Overrides = Overrides { now: false, retry: false, allow_downgrade: false };

#[test]
fn the_channels_release_is_taken_unless_it_runs() {
    let take = |version| decide(&release(version), &channel(), &[], None, PLAIN);
    assert_eq!(take("1.1"), Decision::Take { version: "1.1".parse().unwrap() });
    let runs = take("1.0");
    assert_eq!(runs, Decision::UpToDate { version: "1.0".parse().unwrap(), offered: "1.1".parse().ok() });
    assert_eq!(runs.to_string(), "1.0 runs already, and the channel offers 1.1; nothing to do");
    let offered = Channel { version: "1.0".parse().unwrap(), ..channel() };
    let newest = decide(&release("1.0"), &offered, &[], None, PLAIN);
    assert_eq!(newest.to_string(), "1.0 is what the channel offers; nothing to do");
}

#[test]
fn what_was_rolled_back_is_refused_until_an_operator_says_so() {
    let decide = |with| decide(&release("1.1"), &channel(), &[bad("1.1")], None, with);
    assert!(matches!(decide(PLAIN), Decision::Refuse { refusal: Refusal::Bad { .. }, .. }));
    assert!(matches!(decide(Overrides { retry: true, ..PLAIN }), Decision::Take { .. }));
}

#[test]
fn a_downgrade_is_refused_until_an_operator_says_so() {
    let decide = |with| decide(&release("0.9"), &channel(), &[], None, with);
    assert!(matches!(decide(PLAIN), Decision::Refuse { refusal: Refusal::Downgrade { .. }, .. }));
    assert!(matches!(decide(Overrides { allow_downgrade: true, ..PLAIN }), Decision::Take { .. }));
}

#[test]
fn another_kind_of_host_is_refused_whatever_the_operator_says() {
    let everything = Overrides { now: true, retry: true, allow_downgrade: true };
    let other_os = Release { os: "other".parse().unwrap(), ..release("1.1") };
    let other_arch = Release { arch: Arch::Arm64, ..release("1.1") };
    for release in [other_os, other_arch] {
        let decision = decide(&release, &channel(), &[], None, everything);
        assert!(
            matches!(
                decision,
                Decision::Refuse { refusal: Refusal::OtherOs { .. } | Refusal::OtherArch { .. }, .. }
            ),
            "{decision}"
        );
    }
}

#[test]
fn a_release_of_the_future_is_refused_whatever_the_operator_says() {
    let everything = Overrides { now: true, retry: true, allow_downgrade: true };
    let second = jiff::SignedDuration::from_secs(1);
    let decide = |time| decide(&Release { time, ..release("1.1") }, &channel(), &[], None, everything);
    assert!(matches!(decide(GOOD_UNTIL - second), Decision::Take { .. }));
    let expected = Refusal::Future { time: GOOD_UNTIL, until: GOOD_UNTIL };
    assert!(matches!(decide(GOOD_UNTIL), Decision::Refuse { refusal, .. } if refusal == expected));
    // The same for one that must be taken first.
    let version: Version = "1.2".parse().unwrap();
    let floor = |time| take_first(&Release { time, ..release("1.1") }, version.clone(), GOOD_UNTIL);
    assert_eq!(
        floor(GOOD_UNTIL - second),
        Decision::TakeFirst { floor: "1.1".parse().unwrap(), version: version.clone() }
    );
    assert_eq!(
        floor(GOOD_UNTIL),
        Decision::Refuse {
            version: "1.1".parse().unwrap(),
            refusal: Refusal::Future { time: GOOD_UNTIL, until: GOOD_UNTIL }
        }
    );
}

#[test]
fn holds_and_waves_are_waited_for_unless_an_operator_cannot_wait() {
    let held = Channel { hold: Some("broken printer".to_owned()), ..channel() };
    let wave = |share, from| Channel { waves: vec![Wave { share, from }], ..channel() };
    let later = NOW + jiff::SignedDuration::from_hours(1);
    let cases = [
        (held, None, Wait::ChannelHold { reason: "broken printer".to_owned() }),
        (channel(), Some("audit"), Wait::HostHold { reason: "audit".to_owned() }),
        (wave(10_000, later), None, Wait::Wave { from: Some(later) }),
    ];
    for (channel, hold, wait) in cases {
        let version: Version = "1.1".parse().unwrap();
        let decide = |with| decide(&release("1.1"), &channel, &[], hold, with);
        assert_eq!(decide(PLAIN), Decision::Wait { version: version.clone(), wait });
        assert_eq!(decide(Overrides { now: true, ..PLAIN }), Decision::Take { version });
    }
    let open = decide(&release("1.1"), &wave(10_000, NOW), &[], None, PLAIN);
    assert!(matches!(open, Decision::Take { .. }));
}

#[test]
fn a_release_with_a_floor_is_reached_through_it() {
    let version: Version = "3.0".parse().unwrap();
    let floored = |floor: &str| Release { floor: floor.parse().ok(), ..release("3.0") };
    let decide = |floor| decide(&floored(floor), &channel(), &[], None, PLAIN);
    assert_eq!(
        decide("2.0"),
        Decision::TakeFirst { floor: "2.0".parse().unwrap(), version: version.clone() }
    );
    assert_eq!(decide("1.0"), Decision::Take { version });
}
