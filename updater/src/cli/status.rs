//! `upright status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;
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
use crate::policy::{Decision, Freshness, freshness, taken_until};
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
    /// Until when a medium with it is taken although it has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_until: Option<Timestamp>,
    decision: Option<Decision>,
    failure: Option<(Timestamp, String)>,
    /// What the next boot resets.
    reset: Option<Request>,
    /// Why the last boot could not carry it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_refused: Option<String>,
    /// Why a reset that was asked for is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_error: Option<String>,
}

/// What `status` shows of a slot.
#[derive(Debug, Serialize)]
struct SlotReport {
    slot: Slot,
    booted: bool,
    version: Option<Version>,
    root_hash: Option<Digest>,
    /// `proven`, `trial`, `bad`, `unproven`, `lost` (it cannot be booted as it is) or `empty`.
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
        let until = record.good_until.as_ref().and_then(|roles| roles.values().min().copied());
        let grace = record.medium.as_ref().map(|_| context.config.update.offline_expiry.grace());
        let freshness = freshness(until, record.last_contact, grace, context.now());
        let (reset, reset_error) = match Request::pending(&Layout::around(&context.folder)) {
            Ok(reset) => (reset, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let reset_refused = reset.and_then(|_| Request::refused(&Layout::around(&context.folder)));
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
            freshness,
            late_until: until.filter(|_| freshness == Freshness::Late).map(|until| taken_until(until, grace)),
            last_contact: record.last_contact,
            medium: record.medium,
            metadata_good_until: record.good_until.unwrap_or_default(),
            failure: record.failure,
            reset,
            reset_refused,
            reset_error,
        };
        output::print(context.json, &report, || describe(&report))?;
        Ok(Exit::Done)
    }
}

fn slot_report(
    slot: Slot,
    record: &Record,
    booted: &Booted,
    trust: &dyn Fn(Slot, &Version) -> Option<Trust>,
) -> SlotReport {
    let runs = slot == booted.slot;
    let installed = record.slots.get(&slot);
    let lost = record.lost.get(&slot).filter(|_| installed.is_none() && !runs);
    let known = installed.or(lost).map(|known| (&known.version, known.root_hash, known.proven));
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
        _ if lost.is_some() => "lost",
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
        let next = if report.medium.is_some() { " or a newer medium" } else { "" };
        let _ = match (report.freshness, report.late_until) {
            (Freshness::Expired | Freshness::ClockSuspect, _) => {
                writeln!(
                    text,
                    "metadata expired since: {time:.0} ({role}); nothing is taken before the next contact{next}"
                )
            }
            (_, Some(until)) => {
                writeln!(
                    text,
                    "metadata expired since: {time:.0} ({role}); `offline-expiry` takes a medium with it until {until:.0}"
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
    if let Some(reason) = &report.reset_refused {
        let _ = writeln!(
            text,
            "reset: the last boot could not carry it out: {reason}; make room in /var, or mend it, before the next"
        );
    }
    if let Some(error) = &report.reset_error {
        let _ =
            writeln!(text, "reset: what was asked for cannot be read, so no boot carries it out: {error}");
    }
    text
}

/// The state in one line.
pub(super) fn state(state: &State) -> String {
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
