//! Sequences of events that a host goes through, and random ones that it must survive.

use jiff::Timestamp;
use proptest::prelude::*;
use upright_manifests::digest::Digest;
use upright_manifests::name::Slot;

use super::*;

pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn target(version: &str) -> Target {
    Target {
        version: version.parse().unwrap(),
        root_hash: Digest::of(version.as_bytes()),
        manifest: Some(Digest::of(format!("manifest {version}").as_bytes())),
        uki: None,
    }
}

fn seen(slot: Slot, version: &str, boot: u32) -> Observation {
    let Target { version, root_hash, .. } = target(version);
    let boot_id = boot.to_string();
    let [on_trial, passed_over, unseen, still_tried, other_gone] = [false; 5];
    let (stopped, beside) = (None, None);
    Observation {
        slot,
        version,
        root_hash,
        boot_id,
        on_trial,
        passed_over,
        unseen,
        still_tried,
        other_gone,
        stopped,
        beside,
        evidence: Evidence::default(),
    }
}

/// What is known of a release that this host was not updated to.
fn running_target(version: &str) -> Target {
    Target { manifest: None, ..target(version) }
}

fn way() -> WayTaken {
    WayTaken { way: "delta".into(), fetched: 1, written: 2, milliseconds: 3, medium: None }
}

pub(super) fn report(verdict: Verdict) -> HealthReport {
    let check = CheckResult {
        name: "app".into(),
        required: true,
        passed: verdict == Verdict::Healthy,
        message: "app.service is failed".into(),
        output: String::new(),
        tries: 1,
    };
    HealthReport { time: NOW, verdict, checks: vec![check] }
}

fn run(record: Record, events: impl IntoIterator<Item = Event>) -> Record {
    events.into_iter().fold(record, |record, event| step(record, event, NOW).unwrap())
}

/// A host on 1.0 in slot a.
fn fresh() -> Record {
    run(Record::default(), [Event::Started(seen(Slot::A, "1.0", 1))])
}

/// The events that bring `version` into slot b and let the boot loader take it, all in boot 1.
fn switch_to(version: &str) -> [Event; 4] {
    [
        Event::Chosen { target: target(version), retry: false },
        Event::Accepted { slot: Slot::B },
        Event::Applied(way()),
        Event::Switched { boot_id: "1".into() },
    ]
}

/// A host that was updated from 1.0 to 1.1 and proved healthy.
fn updated() -> Record {
    let record = run(fresh(), switch_to("1.1"));
    run(
        record,
        [Event::Started(seen(Slot::B, "1.1", 2)), Event::Checked(report(Verdict::Healthy)), Event::Committed],
    )
}

#[test]
fn a_healthy_update_ends_proven_with_the_old_release_beside_it() {
    let record = updated();
    assert_eq!(record.state, State::Idle);
    assert!(record.slots[&Slot::A].proven && record.slots[&Slot::B].proven);
    assert_eq!(record.slots[&Slot::B].version.as_str(), "1.1");
    assert!(record.bad.is_empty());
}

#[test]
fn an_unhealthy_release_is_left_and_remembered_with_the_check_that_failed() {
    let record = run(fresh(), switch_to("1.2"));
    let record =
        run(record, [Event::Started(seen(Slot::B, "1.2", 2)), Event::Checked(report(Verdict::Unhealthy))]);
    assert_eq!(record.state.effect(), Effect::MarkBad(target("1.2"), Slot::B));
    let record = run(record, [Event::Started(seen(Slot::A, "1.0", 3))]);
    assert_eq!(record.state, State::Idle);
    let cause = Cause::Health { check: "app".into(), message: "app.service is failed".into() };
    assert_eq!(record.bad[0].reason, cause);
    assert_eq!(record.bad[0].root_hash, target("1.2").root_hash);
}

#[test]
fn a_release_that_never_comes_up_is_left_and_remembered() {
    let record = run(fresh(), switch_to("1.2"));
    let record = run(record, [Event::Started(seen(Slot::A, "1.0", 5))]);
    assert_eq!(
        (record.state, &record.bad[0].reason),
        (State::Idle, &Cause::TrialsUsedUp { evidence: Evidence::default() })
    );
    let record = run(fresh(), switch_to("1.2"));
    let stopped = Observation { stopped: Some("no room".into()), ..seen(Slot::A, "1.0", 5) };
    let record = run(record, [Event::Started(stopped)]);
    assert_eq!(record.bad[0].reason, Cause::State { reason: "no room".into() });
}

#[test]
fn what_the_boots_of_a_trial_left_behind_is_kept_with_the_verdict() {
    let evidence = Evidence { watchdog: true, mounted: vec!["1a".into()], ..Evidence::default() };
    let back = Observation { evidence: evidence.clone(), ..seen(Slot::A, "1.0", 5) };
    for (reached, agent) in [(vec![], 0), (vec![seen(Slot::B, "1.2", 2), seen(Slot::B, "1.2", 3)], 2)] {
        let events = reached.into_iter().chain([back.clone()]).map(Event::Started);
        let record = run(run(fresh(), switch_to("1.2")), events);
        let evidence = Evidence { agent, ..evidence.clone() };
        assert_eq!(record.bad[0].reason, Cause::TrialsUsedUp { evidence });
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

#[test]
fn a_release_that_power_kept_from_being_noted_as_switched_to_is_on_trial() {
    let [chosen, accepted, applied, _] = switch_to("1.1");
    let record = run(fresh(), [chosen, accepted, applied, Event::Started(seen(Slot::B, "1.1", 2))]);
    assert!(matches!(record.state, State::Trial { boots: 1, .. }), "{:?}", record.state);
}

#[test]
fn a_release_whose_boot_entry_was_lost_is_not_bad_and_is_installed_again() {
    let gone = |version, boot| Observation { other_gone: true, ..seen(Slot::A, version, boot) };
    for written in [3, 4] {
        let record = run(fresh(), switch_to("1.1").into_iter().take(written));
        let record = run(record, [Event::Started(gone("1.0", 2))]);
        assert_eq!((&record.state, record.bad.len()), (&State::Idle, 0));
        assert!(!record.slots.contains_key(&Slot::B) && record.failure.is_some());
        let again = run(record, [Event::Chosen { target: target("1.1"), retry: false }]);
        assert!(matches!(again.state, State::Fetching { .. }), "{:?}", again.state);
    }
    let committed = run(updated(), [Event::Started(gone("1.0", 3))]);
    assert!(committed.bad.is_empty() && !committed.slots.contains_key(&Slot::B));
}

#[test]
fn a_proven_release_whose_boot_entry_was_lost_is_remembered_until_its_slot_is_written() {
    let gone = Observation { other_gone: true, ..seen(Slot::B, "1.1", 3) };
    let lost = run(updated(), [Event::Started(gone)]);
    assert!(!lost.slots.contains_key(&Slot::A) && lost.lost[&Slot::A].proven);
    let back = Event::Started(seen(Slot::B, "1.1", 3));
    assert_eq!(run(lost.clone(), [back]), lost);
    let chosen = Event::Chosen { target: target("1.2"), retry: false };
    let accepted = run(lost, [chosen, Event::Accepted { slot: Slot::A }]);
    assert!(!accepted.lost.is_empty());
    assert!(run(accepted, [Event::Emptied]).lost.is_empty());
}

#[test]
fn a_way_back_that_is_gone_ends_a_rollback_where_it_is() {
    let record = run(updated(), [Event::RollbackAsked(seen(Slot::B, "1.1", 2))]);
    let gone = Observation { other_gone: true, ..seen(Slot::B, "1.1", 2) };
    assert_eq!(run(record, [Event::Started(gone)]).state, State::Idle);
}

#[test]
fn the_agent_starting_again_in_the_boot_that_switched_changes_nothing() {
    let record = run(fresh(), switch_to("1.1"));
    let again = run(record.clone(), [Event::Started(seen(Slot::A, "1.0", 1))]);
    assert_eq!(again, record);
}

#[test]
fn an_old_slot_booted_by_hand_does_not_condemn_the_new_release() {
    let record = run(fresh(), switch_to("1.1"));
    let by_hand = Observation { still_tried: true, ..seen(Slot::A, "1.0", 2) };
    let record = run(record, [Event::Started(by_hand)]);
    // Switched to once more, with what was changed here meanwhile.
    assert_eq!(record.state.effect(), Effect::Switch(target("1.1"), Slot::B));
    assert!(record.bad.is_empty());
    let record = run(record, [Event::Started(seen(Slot::B, "1.1", 3))]);
    assert!(matches!(record.state, State::Trial { boots: 1, .. }));
}

#[test]
fn a_boot_loader_that_does_not_follow_is_not_asked_for_ever() {
    let mut record = run(fresh(), switch_to("1.1"));
    for boot in 2..=3 {
        let not_followed = Observation { still_tried: true, ..seen(Slot::A, "1.0", boot) };
        let switched = Event::Switched { boot_id: boot.to_string() };
        record = run(record, [Event::Started(not_followed), switched]);
        assert!(matches!(record.state, State::Switched { .. }) && record.bad.is_empty());
    }
    let not_followed = Observation { still_tried: true, ..seen(Slot::A, "1.0", 4) };
    record = run(record, [Event::Started(not_followed)]);
    assert_eq!(record.state.effect(), Effect::MarkBad(target("1.1"), Slot::B));
    record = run(record, [Event::Started(seen(Slot::A, "1.0", 4))]);
    let Cause::BootLoader { reason } = &record.bad[0].reason else { panic!("{:?}", record.bad) };
    assert!(reason.contains("the other slot was started instead, 3 times"), "{reason}");
    assert_eq!(record.state, State::Idle);
}

/// Power may have gone right before the boot loader was told, and then the release is tried again, with what is here now; a release
/// whose commit fails each time is not.
#[test]
fn a_proven_release_that_the_boot_loader_was_not_told_of_has_to_prove_itself_again_and_not_for_ever() {
    let mut record = run(fresh(), switch_to("1.1"));
    for boot in [2, 4, 6] {
        record = run(
            record,
            [Event::Started(seen(Slot::B, "1.1", boot)), Event::Checked(report(Verdict::Healthy))],
        );
        record.failure = Some((NOW, "the ESP is read-only".to_owned()));
        record = run(record, [Event::Started(seen(Slot::A, "1.0", boot + 1))]);
        assert!(!record.slots[&Slot::B].proven, "what it has is old");
        if boot < 6 {
            assert_eq!((&record.state, record.bad.len()), (&State::Idle, 0));
            let chosen = Event::Chosen { target: target("1.1"), retry: false };
            record = run(record, [chosen, Event::Switched { boot_id: (boot + 1).to_string() }]);
        }
    }
    assert_eq!(record.state.effect(), Effect::MarkBad(target("1.1"), Slot::B));
    record = run(record, [Event::Started(seen(Slot::A, "1.0", 7))]);
    assert!(record.bad[0].reason.to_string().contains("(the ESP is read-only), 3 times"), "{:?}", record.bad);
    // Told once, it counts from nothing.
    let mut told = updated();
    told.slots.get_mut(&Slot::B).unwrap().in_vain = 2;
    told.state = State::Committing { target: target("1.1"), slot: Slot::B, healthy: true };
    assert_eq!(run(told, [Event::Committed]).slots[&Slot::B].in_vain, 0);
}

/// A newer release had been chosen, and the machine was restarted before the slot was written.
#[test]
fn a_release_that_was_booted_before_another_took_its_place_has_to_prove_itself() {
    let chosen = Event::Chosen { target: target("1.2"), retry: false };
    let accepted = Event::Accepted { slot: Slot::B };
    for events in [vec![chosen.clone()], vec![chosen.clone(), accepted]] {
        let record = run(run(fresh(), switch_to("1.1")), events);
        for passed_over in [false, true] {
            let booted = Observation { on_trial: true, passed_over, ..seen(Slot::B, "1.1", 2) };
            let record = run(record.clone(), [Event::Started(booted)]);
            assert_eq!(record.state.effect(), Effect::CheckHealth(target("1.1")));
            assert!(matches!(step(record, chosen.clone(), NOW), Err(StepError::OnTrial(_))));
        }
    }
    // Taken back before that, it is not booted.
    let record = run(fresh(), switch_to("1.1"));
    let record = run(record, [Event::TakenBack, chosen]);
    assert_eq!(record.state.effect(), Effect::Prepare(target("1.2")));
}

#[test]
fn trial_boots_are_counted_by_boot_not_by_start() {
    let record = run(fresh(), switch_to("1.1"));
    let starts = [2, 2, 3].map(|boot| Event::Started(seen(Slot::B, "1.1", boot)));
    assert!(matches!(run(record, starts).state, State::Trial { boots: 2, .. }));
}

#[test]
fn rollback_goes_back_and_a_second_one_forward_again_on_trial() {
    let record = run(updated(), [Event::RollbackAsked(seen(Slot::B, "1.1", 2))]);
    assert!(matches!(record.state.effect(), Effect::MarkBad(_, Slot::B)));
    let record = run(record, [Event::Started(seen(Slot::A, "1.0", 3))]);
    assert_eq!((&record.state, &record.bad[0].reason), (&State::Idle, &Cause::Operator));
    let record = run(record, [Event::RollbackAsked(seen(Slot::A, "1.0", 3))]);
    assert_eq!(record.state.effect(), Effect::Switch(target("1.1"), Slot::B));
    assert!(record.bad.is_empty());
    // Asked again, as after a power cut before the switch, it is the same.
    let again = run(record.clone(), [Event::RollbackAsked(seen(Slot::A, "1.0", 3))]);
    assert_eq!(again, record);
    let record =
        run(record, [Event::Switched { boot_id: "3".into() }, Event::Started(seen(Slot::B, "1.1", 4))]);
    assert!(matches!(record.state, State::Trial { .. }));
}

#[test]
fn a_switch_that_was_not_booted_yet_can_be_taken_back() {
    let record = run(fresh(), switch_to("1.1"));
    let record = run(record, [Event::RollbackAsked(seen(Slot::A, "1.0", 1))]);
    let record = run(record, [Event::Started(seen(Slot::A, "1.0", 1))]);
    assert_eq!((record.state, &record.bad[0].reason), (State::Idle, &Cause::Operator));
}

#[test]
fn there_is_no_rollback_to_a_slot_that_holds_nothing_whole() {
    let refused = |record| step(record, Event::RollbackAsked(seen(Slot::A, "1.0", 1)), NOW).unwrap_err();
    assert!(refused(fresh()).to_string().contains("slot b holds no complete release"));
    let [chosen, accepted, ..] = switch_to("1.1");
    let applying = run(fresh(), [chosen, accepted]);
    assert!(refused(applying).to_string().contains("1.1 is being written to slot b"));
    let [chosen, accepted, written, _] = switch_to("1.1");
    let mut applied = run(fresh(), [chosen, accepted, written]);
    assert!(refused(applied.clone()).to_string().contains("`upright update` goes on"));
    applied.slots.get_mut(&Slot::B).unwrap().in_vain = 1;
    assert!(refused(applied).to_string().contains("did not start 1.1 in slot b, which is tried again"));
}

#[test]
fn an_unhealthy_release_with_nothing_to_go_back_to_stays_up() {
    let first = Observation { on_trial: true, ..seen(Slot::A, "1.0", 1) };
    let record = run(Record::default(), [Event::Started(first), Event::Checked(report(Verdict::Unhealthy))]);
    assert!(matches!(record.history[0].outcome, Outcome::Unhealthy { .. }));
    // Its boots must not be used up with nothing behind it.
    assert_eq!(record.state.effect(), Effect::MarkGood(running_target("1.0"), Slot::A));
    let record = run(record, [Event::Committed]);
    assert!(record.state == State::Idle && !record.slots[&Slot::A].proven);
}

#[test]
fn a_rollback_whose_other_slot_does_not_start_ends_instead_of_looping() {
    let record = run(updated(), [Event::RollbackAsked(seen(Slot::B, "1.1", 2))]);
    let told = |boot| Event::Started(Observation { passed_over: true, ..seen(Slot::B, "1.1", boot) });
    // It may be the last boot of its trial, after a power cut.
    let record = run(record, [told(3), told(3)]);
    assert_eq!(record.state.effect(), Effect::MarkBad(running_target("1.1"), Slot::B));
    let record = run(record, [told(4)]);
    assert_eq!((&record.state, record.slots[&Slot::B].in_vain), (&State::Idle, 0));
    assert!(matches!(record.history.last().unwrap().outcome, Outcome::Stuck { .. }));
}

#[test]
fn a_rollback_that_power_kept_from_the_boot_loader_goes_on() {
    let record = run(updated(), [Event::RollbackAsked(seen(Slot::B, "1.1", 2))]);
    let record = run(record, [Event::Started(seen(Slot::B, "1.1", 3))]);
    assert!(matches!(record.state.effect(), Effect::MarkBad(..)), "{:?}", record.state);
    let record = run(record, [Event::Started(seen(Slot::A, "1.0", 4))]);
    assert_eq!((record.state, record.bad.len()), (State::Idle, 1));
}

#[test]
fn a_failed_download_is_kept_for_another_try_and_a_bad_release_is_not() {
    let [chosen, accepted, ..] = switch_to("1.1");
    let applying = run(fresh(), [chosen, accepted]);
    let failed = |kept| Event::Failed { reason: "no route".into(), kept };
    let kept = run(applying.clone(), [failed(true)]);
    assert_eq!((&kept.state, kept.failure.is_some()), (&applying.state, true));
    assert!(matches!(kept.history.last().unwrap().outcome, Outcome::Interrupted { .. }));
    assert_eq!(run(applying, [failed(false)]).state, State::Idle);
}

#[test]
fn a_slot_is_forgotten_before_it_is_written() {
    let [_, accepted, ..] = switch_to("1.2");
    let chosen = Event::Chosen { target: target("1.2"), retry: false };
    let on_a = Event::Started(seen(Slot::A, "1.0", 3));
    let record = run(updated(), [Event::RollbackAsked(seen(Slot::B, "1.1", 2)), on_a, chosen, accepted]);
    let emptied = run(record.clone(), [Event::Emptied]);
    assert!(record.slots.contains_key(&Slot::B) && !emptied.slots.contains_key(&Slot::B));
    // Power went before that was kept.
    let gone = Observation { other_gone: true, ..seen(Slot::A, "1.0", 3) };
    let again = run(record, [Event::Started(gone)]);
    assert!(matches!(again.state, State::Applying { .. }) && !again.slots.contains_key(&Slot::B));
    assert_eq!(run(again, [Event::Emptied]), emptied);
    let asked = Event::RollbackAsked(seen(Slot::A, "1.0", 3));
    assert!(matches!(step(emptied, asked, NOW), Err(StepError::NoWayBack(_))));
}

#[test]
fn an_update_that_changed_nothing_yet_costs_no_way_back() {
    let chosen = Event::Chosen { target: target("1.2"), retry: false };
    let accepted = Event::Accepted { slot: Slot::A };
    let failed = |kept| Event::Failed { reason: "no server".into(), kept };
    for events in [vec![], vec![failed(true)], vec![accepted.clone()], vec![accepted.clone(), failed(true)]] {
        let record = run(updated(), [chosen.clone()].into_iter().chain(events));
        let asked = run(record, [Event::RollbackAsked(seen(Slot::B, "1.1", 2))]);
        assert!(matches!(asked.state, State::RollingBack { .. }), "{:?}", asked.state);
    }
    let refused = run(updated(), [chosen, accepted, failed(false)]);
    assert!(refused.slots[&Slot::A].proven && refused.state == State::Idle);
}

#[test]
fn a_known_release_whose_boots_are_counted_is_proven_or_has_to_prove_itself() {
    let counted = Event::Started(Observation { on_trial: true, ..seen(Slot::B, "1.1", 3) });
    let record = run(updated(), [counted.clone()]);
    assert!(matches!(record.state, State::Committing { .. }), "{:?}", record.state);
    let mut unproven = updated();
    unproven.slots.get_mut(&Slot::B).unwrap().proven = false;
    assert!(matches!(run(unproven.clone(), [counted.clone()]).state, State::Trial { .. }));
    // Passed over, as what was left for a release that does not start, it runs on as it is; with nothing to go back to, it is what
    // is to be booted.
    let left = Event::Started(Observation { on_trial: true, passed_over: true, ..seen(Slot::B, "1.1", 3) });
    assert_eq!(run(updated(), [left.clone()]).state, State::Idle);
    let mut stuck = unproven.clone();
    stuck.slots.get_mut(&Slot::A).unwrap().proven = false;
    assert_eq!(run(stuck, [left]).state, State::Idle);
    unproven.slots.remove(&Slot::A);
    let alone = run(unproven, [counted]);
    assert!(matches!(alone.state, State::Committing { .. }) && !alone.slots[&Slot::B].proven);
}

/// It has what it had when it ran last, and may come to be booted in the place of newer data.
#[test]
fn a_release_that_the_other_slot_holds_already_has_to_prove_itself_with_what_there_is_now() {
    let by_hand = Event::Started(seen(Slot::A, "1.0", 3));
    let record = run(updated(), [by_hand, Event::Chosen { target: target("1.1"), retry: false }]);
    assert_eq!(record.state.effect(), Effect::Switch(target("1.1"), Slot::B));
    assert!(!record.is_proven(Slot::B));
}

#[test]
fn what_cannot_be_committed_and_has_nothing_to_go_back_to_keeps_no_release_away() {
    let record = run(run(fresh(), switch_to("1.1")), [Event::Started(seen(Slot::B, "1.1", 2))]);
    let mut record = run(record, [Event::Checked(report(Verdict::Healthy))]);
    let chosen = Event::Chosen { target: target("1.2"), retry: false };
    assert!(matches!(step(record.clone(), chosen.clone(), NOW), Err(StepError::OnTrial(_))));
    record.slots.remove(&Slot::A);
    assert_eq!(run(record, [chosen]).state.effect(), Effect::Prepare(target("1.2")));
}

/// The way back was lost in the middle of a trial: the trial goes on.
/// Nothing can be told the boot loader about it, and waiting for that would keep everything else away.
#[test]
fn a_boot_entry_that_is_not_seen_is_no_trial_that_was_not_ended() {
    for unseen in [true, false] {
        let seen = Observation { on_trial: true, passed_over: true, unseen, ..seen(Slot::A, "1.0", 2) };
        let record =
            run(Record::default(), [Event::Started(self::seen(Slot::A, "1.0", 1)), Event::Started(seen)]);
        assert_eq!(record.state == State::Idle, unseen, "{:?}", record.state);
    }
}

/// It counts what it starts, or does not, and starts it whatever it is told.
#[test]
fn a_boot_loader_that_does_not_leave_what_it_should_is_not_told_for_ever() {
    for (proven, on_trial) in [(false, true), (true, false)] {
        let looks = |boot| Event::Started(Observation { on_trial, ..seen(Slot::B, "1.1", boot) });
        let (mut record, leaves) = match proven {
            true => (updated(), Event::RollbackAsked(seen(Slot::B, "1.1", 2))),
            false => {
                (run(run(fresh(), switch_to("1.1")), [looks(2)]), Event::Checked(report(Verdict::Unhealthy)))
            }
        };
        record = run(record, [leaves]);
        let mut reboots = 0;
        for boot in 3..20 {
            record = run(record, [looks(boot), looks(boot)]);
            if matches!(record.state, State::Trial { .. }) {
                record = run(record, [Event::Checked(report(Verdict::Unhealthy))]);
            }
            if matches!(record.state, State::Committing { .. }) {
                record = run(record, [Event::Committed]);
            }
            reboots += u32::from(matches!(record.state, State::RollingBack { .. }));
        }
        assert_eq!((&record.state, reboots), (&State::Idle, 2), "proven {proven}");
        assert!(record.history.iter().any(|entry| matches!(entry.outcome, Outcome::Stuck { .. })));
        // What it would not go to can be had back once the boot loader is mended.
        assert!(record.lost.contains_key(&Slot::A) && !record.slots.contains_key(&Slot::A));
    }
}

#[test]
fn a_trial_goes_on_though_the_way_back_is_gone() {
    let gone = Observation { on_trial: true, other_gone: true, ..seen(Slot::B, "1.1", 2) };
    let record = run(run(fresh(), switch_to("1.1")), [Event::Started(gone)]);
    assert_eq!(record.state.effect(), Effect::CheckHealth(target("1.1")));
    assert!(!record.slots.contains_key(&Slot::A) && record.lost.contains_key(&Slot::A));
}

#[test]
fn a_lost_record_does_not_make_a_trial_a_proven_release() {
    let first = Observation { on_trial: true, ..seen(Slot::B, "1.1", 1) };
    let record = run(Record::default(), [Event::Started(first)]);
    assert!(matches!(record.state, State::Trial { .. }));
    assert!(!record.slots[&Slot::B].proven);
}

#[test]
fn every_state_survives_being_written_down() {
    let mut record = run(fresh(), switch_to("1.2"));
    for event in [Event::Started(seen(Slot::B, "1.2", 2)), Event::Checked(report(Verdict::Unhealthy))] {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        record = run(record, [event]);
    }
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
}

fn any_event() -> impl Strategy<Value = Event> {
    let version = prop::sample::select(vec!["1.0", "1.1", "1.2"]);
    let slot = prop::sample::select(Slot::ALL.to_vec());
    let look = (slot.clone(), version.clone(), 1..4_u32, any::<[bool; 4]>()).prop_map(
        |(slot, version, boot, [on_trial, passed_over, still_tried, other_gone])| Observation {
            on_trial,
            passed_over,
            still_tried,
            other_gone,
            ..seen(slot, version, boot)
        },
    );
    let verdict = prop::sample::select(vec![Verdict::Healthy, Verdict::Unhealthy]);
    prop_oneof![
        look.clone().prop_map(Event::Started),
        (version, any::<bool>()).prop_map(|(v, retry)| Event::Chosen { target: target(v), retry }),
        slot.prop_map(|slot| Event::Accepted { slot }),
        Just(Event::Emptied),
        Just(Event::Progressed(Progress::default())),
        Just(Event::Applied(way())),
        any::<bool>().prop_map(|kept| Event::Failed { reason: "x".into(), kept }),
        (1..4_u32).prop_map(|boot| Event::Switched { boot_id: boot.to_string() }),
        verdict.prop_map(|verdict| Event::Checked(report(verdict))),
        Just(Event::Committed),
        look.prop_map(Event::RollbackAsked),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a refused event leaves the caller's record, a taken one gives a record
    /// that can be written down; a release is never both proven and remembered as bad.
    #[test]
    fn no_sequence_of_events_breaks_the_record(events in prop::collection::vec(any_event(), 0..60)) {
        let mut record = fresh();
        for event in events {
            if let Ok(next) = step(record.clone(), event, NOW) {
                record = next;
            }
            let text = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), &record);
            prop_assert!(record.history.len() <= HistoryEntry::MOST);
        }
    }
}
