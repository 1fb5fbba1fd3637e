//! `upright status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use upright_manifests::bytes::human;
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, ChannelName, OsName, Slot};
use upright_manifests::version::Version;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::boot::{Entry, Trust};
use crate::host::Booted;
use crate::machine::{Brought, Cause, Record, State};
use crate::policy::Decision;
use crate::state::{Layout, Request};

/// Show what runs, what the other slot holds, and what the agent is doing
#[derive(Debug, Args)]
pub(super) struct Status {}

/// What `status` shows.
#[derive(Debug, Serialize)]
struct Report {
    os: OsName,
    arch: Arch,
    channel: ChannelName,
    repository: String,
    booted: Slot,
    slots: Vec<SlotReport>,
    state: State,
    last_contact: Option<Timestamp>,
    /// The medium that the metadata came on, if it was not the server that sent it.
    medium: Option<Brought>,
    /// Until when the metadata of the last contact is good, by role.
    metadata_good_until: BTreeMap<String, Timestamp>,
    /// Whether it is still good.
    freshness: Freshness,
    decision: Option<Decision>,
    failure: Option<(Timestamp, String)>,
    /// What the next boot resets.
    reset: Option<Request>,
}

/// How the metadata of the last contact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Freshness {
    /// There is none.
    Unknown,
    /// It is good.
    Good,
    /// It has expired.
    Expired,
    /// It has expired so long ago that the clock may be what is wrong.
    ClockSuspect,
}

/// From how long after the last contact on the clock is suspected.
const LONG: SignedDuration = SignedDuration::from_hours(24 * 365);

/// Of how many lifetimes of the metadata that must be more.
const LIFETIMES: i32 = 10;

/// What `status` shows of a slot.
#[derive(Debug, Serialize)]
struct SlotReport {
    slot: Slot,
    booted: bool,
    version: Option<Version>,
    root_hash: Option<Digest>,
    /// `proven`, `trial`, `bad`, `unproven` or `empty`.
    verdict: &'static str,
    /// Why it is bad.
    cause: Option<Cause>,
    /// How many trial boots are left.
    tries_left: Option<u32>,
}

impl Status {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let record = context.record()?;
        let booted = context.host.machine().booted().map_err(crate::agent::AgentError::from)?;
        let trust = |slot, version: &Version| {
            let entry = Entry { slot, os: booted.os.clone(), version: version.clone() };
            // A boot loader that cannot be read is for `update` to complain about; the rest is worth showing.
            context.host.boot().trust(&entry).ok().flatten()
        };
        let report = Report {
            os: booted.os.clone(),
            arch: Arch::HERE,
            channel: record.channel.clone().unwrap_or_else(|| context.config.update.channel.clone()),
            repository: context.config.repository.url.clone(),
            booted: booted.slot,
            slots: Slot::ALL.map(|slot| slot_report(slot, &record, &booted, &trust)).into(),
            // What was decided to be taken is in the state's line once it is on its way.
            decision: record
                .decided
                .map(|(_, decision)| decision)
                .filter(|decision| record.state == State::Idle || !matches!(decision, Decision::Take { .. })),
            state: record.state,
            freshness: freshness(record.good_until.as_ref(), record.last_contact, context.now()),
            last_contact: record.last_contact,
            medium: record.medium,
            metadata_good_until: record.good_until.unwrap_or_default(),
            failure: record.failure,
            reset: Request::pending(&Layout::around(&context.folder)).unwrap_or_default(),
        };
        output::print(context.json, &report, || describe(&report))?;
        Ok(Exit::Done)
    }
}

/// How metadata that is good until the first of `good_until` stands at `now`, after a last contact.
fn freshness(
    good_until: Option<&BTreeMap<String, Timestamp>>,
    last_contact: Option<Timestamp>,
    now: Timestamp,
) -> Freshness {
    let Some(until) = good_until.and_then(|roles| roles.values().min()).copied() else {
        return Freshness::Unknown;
    };
    if now < until {
        return Freshness::Good;
    }
    let is_suspect = last_contact.is_some_and(|contact| {
        let (away, lifetime) = (now.duration_since(contact), until.duration_since(contact));
        away > LONG && away > lifetime.saturating_mul(LIFETIMES)
    });
    if is_suspect { Freshness::ClockSuspect } else { Freshness::Expired }
}

fn slot_report(
    slot: Slot,
    record: &Record,
    booted: &Booted,
    trust: &dyn Fn(Slot, &Version) -> Option<Trust>,
) -> SlotReport {
    let runs = slot == booted.slot;
    let known =
        record.slots.get(&slot).map(|installed| (&installed.version, installed.root_hash, installed.proven));
    let known = known.or_else(|| runs.then_some((&booted.version, booted.root_hash, true)));
    let Some((version, root_hash, proven)) = known else {
        return SlotReport {
            slot,
            booted: runs,
            version: None,
            root_hash: None,
            verdict: "empty",
            cause: None,
            tries_left: None,
        };
    };
    let tries_left = match trust(slot, version) {
        Some(Trust::Trial { left, .. }) => Some(left),
        _ => None,
    };
    let bad = record.bad.iter().find(|bad| bad.root_hash == root_hash);
    let verdict = match (bad, tries_left, proven) {
        (Some(_), ..) => "bad",
        // Whatever it has proven before, the boot loader counts its boots.
        (None, Some(_), _) => "trial",
        (None, None, true) => "proven",
        (None, None, false) => "unproven",
    };
    SlotReport {
        slot,
        booted: runs,
        version: Some(version.clone()),
        root_hash: Some(root_hash),
        verdict,
        cause: bad.map(|bad| bad.reason.clone()),
        tries_left,
    }
}

fn describe(report: &Report) -> String {
    let mut text =
        format!("{} ({}), channel {} of {}\n", report.os, report.arch, report.channel, report.repository);
    for slot in &report.slots {
        let mark = if slot.booted { "*" } else { " " };
        let version = slot.version.as_ref().map_or("-", Version::as_str);
        let verdict = if slot.booted { format!("booted, {}", slot.verdict) } else { slot.verdict.to_owned() };
        let tries = slot.tries_left.map(|left| format!(", {left} boots left")).unwrap_or_default();
        let cause = slot.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let _ = writeln!(text, "{mark} slot {}  {version:12}  {verdict}{tries}{cause}", slot.slot);
    }
    let _ = writeln!(text, "state: {}", state(&report.state));
    match report.last_contact {
        _ if report.medium.is_some() => {
            let brought = report.medium.iter().map(|brought| format!("{:.0}, from {brought}", brought.time));
            let _ = writeln!(text, "last metadata: {}", brought.collect::<String>());
        }
        Some(time) => drop(writeln!(text, "last contact with the server: {time:.0}")),
        None => drop(writeln!(text, "last contact with the server: never")),
    }
    // The first to expire is what counts: hosts take nothing then.
    if let Some((role, time)) = report.metadata_good_until.iter().min_by_key(|(_, time)| **time) {
        let _ = match report.freshness {
            Freshness::Expired | Freshness::ClockSuspect => {
                writeln!(
                    text,
                    "metadata expired since: {time:.0} ({role}); nothing is taken before the next contact"
                )
            }
            _ => writeln!(text, "metadata good until: {time:.0} ({role})"),
        };
    }
    if report.freshness == Freshness::ClockSuspect {
        text.push_str("warning: by this host's clock the last contact was years ago; if that is not so, set the clock\n");
    }
    if let Some(decision) = &report.decision {
        let _ = writeln!(text, "decision: {decision}");
    }
    if let Some((time, reason)) = &report.failure {
        let _ = writeln!(text, "last failure, {time:.0}: {reason}");
    }
    if let Some(request) = report.reset {
        let _ = writeln!(text, "reset: {}", super::reset::describe(request));
    }
    text
}

/// The state in one line.
fn state(state: &State) -> String {
    match state {
        State::Idle => "idle".to_owned(),
        State::Fetching { target, .. } => format!("about to install {}", target.version),
        State::Applying { target, slot, progress, .. } => {
            format!("writing {} to slot {slot} ({} fetched)", target.version, human(progress.fetched))
        }
        State::Applied { target, slot } => {
            format!("{} is written to slot {slot}, not switched to yet", target.version)
        }
        State::Switched { target, slot, .. } => {
            format!("{} stands ready in slot {slot}; the next boot starts it", target.version)
        }
        State::Trial { target, boots, .. } => format!("{} is on trial, boot {boots}", target.version),
        State::Committing { target, .. } => format!("{} is being marked as good", target.version),
        State::RollingBack { from, cause, .. } => format!("leaving {}: {cause}", from.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_has_expired_is_told_and_a_clock_that_is_years_ahead_is_suspected() {
        let day = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
        let roles: BTreeMap<_, _> = [("root".to_owned(), day(365)), ("timestamp".to_owned(), day(7))].into();
        let at = |days| freshness(Some(&roles), Some(day(0)), day(days));
        assert_eq!(freshness(None, None, day(0)), Freshness::Unknown);
        assert_eq!(at(6), Freshness::Good);
        assert_eq!(at(7), Freshness::Expired);
        assert_eq!(at(365), Freshness::Expired);
        assert_eq!(at(366), Freshness::ClockSuspect);
        // A year is not long for what is signed for a year.
        let slow = [("timestamp".to_owned(), day(365))].into();
        assert_eq!(freshness(Some(&slow), Some(day(0)), day(730)), Freshness::Expired);
    }
}
