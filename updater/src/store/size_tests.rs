//! A record of all that can be too much.

use jiff::Timestamp;
use upright_manifests::name::Slot;

use super::*;
use crate::machine::{
    BadRelease, Cause, CheckResult, HealthReport, HistoryEntry, Installed, Outcome, State, Verdict,
};

/// The largest there can be: checks and messages of control characters, each six bytes as JSON.
fn swollen() -> Record {
    let (time, version) = (Timestamp::UNIX_EPOCH, "1.0".parse().unwrap());
    let noise = "\u{1b}".repeat(8 << 10);
    let check = |_| CheckResult {
        name: "app".into(),
        required: true,
        passed: false,
        message: noise.clone(),
        output: noise.clone(),
        tries: 1,
    };
    let checks: Vec<_> = (0..12).map(check).collect();
    let report = HealthReport { time, verdict: Verdict::Unhealthy, checks };
    let cause = Cause::Health { check: noise.clone(), message: noise.clone() };
    let entry = |_| HistoryEntry {
        time,
        version: "1.0".parse().unwrap(),
        outcome: Outcome::Unhealthy { report: report.clone() },
        again: None,
    };
    let bad = |number: u32| BadRelease {
        version: "1.0".parse().unwrap(),
        root_hash: Digest::of(&number.to_le_bytes()),
        time,
        reason: cause.clone(),
    };
    let installed = Installed {
        version,
        root_hash: Digest::of(b""),
        manifest: None,
        uki: None,
        proven: true,
        in_vain: 1,
    };
    Record {
        state: State::RollingBack {
            from: installed.target(),
            slot: Slot::A,
            cause: cause.clone(),
            report: Some(report.clone()),
            boots: None,
            boot_id: "1".into(),
        },
        slots: [(Slot::A, installed)].into(),
        bad: (0..300).map(bad).collect(),
        history: (0..20).map(entry).collect(),
        ..Record::default()
    }
}

#[test]
fn what_is_written_is_never_more_than_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = RecordFile::in_folder(folder.path());
    let mut record = swollen();
    // What a hundred health checks of a hundred trials print.
    record.history = record.history.iter().cycle().take(100).cloned().collect();
    file.save(&record).unwrap();
    assert!(fs::metadata(file.path()).unwrap().len() <= MAX_WRITTEN as u64);
    let read = file.load().unwrap().unwrap();
    assert_eq!((read.state.name(), &read.slots), ("rolling-back", &record.slots));
    // The releases that were left last, and what happened last.
    let hashes = |record: &Record| record.bad.iter().map(|bad| bad.root_hash).collect::<Vec<_>>();
    assert_eq!(hashes(&read), hashes(&record)[300 - 256..]);
    assert!(read.history.len() < 100);
    file.save(&read).unwrap();
    assert_eq!(file.load().unwrap().unwrap(), read);
}

#[test]
fn a_record_that_an_older_agent_made_too_large_for_itself_is_read_and_made_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let file = RecordFile::in_folder(folder.path());
    let record = Record { bad: Vec::new(), ..swollen() };
    let bytes = RecordFile::to_bytes(&record).unwrap();
    assert!(bytes.len() > 4 << 20);
    fs::write(file.path(), bytes).unwrap();
    let read = file.load().unwrap().unwrap();
    assert_eq!((read.slots, read.history.len()), (record.slots, 20));
}
