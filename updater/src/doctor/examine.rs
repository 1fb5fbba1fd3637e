//! Findings from facts. Pure.

use jiff::{SignedDuration, Timestamp};
use upright_manifests::bytes::human;
use upright_manifests::name::Slot;

use super::{BootFacts, EntryFacts, Facts, Finding, HostFacts, Level, RecordFacts, Vouched, Watchdog};
use crate::agent::EntryState;
use crate::boot::{Concern, Trust};
use crate::host::Booted;
use crate::machine::Brought;
use crate::policy::{Freshness, freshness, taken_until};

/// With less room for state than this, in bytes, metadata and the record may not fit.
const MIN_STATE: u64 = 16 << 20;

/// How long before its end metadata that people sign by hand is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Roles whose metadata is signed by hand.
const SIGNED_BY_HAND: [&str; 2] = ["root", "targets"];

/// What follows from the facts, one finding at the least for each thing that was looked at.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![match &facts.configuration {
        Ok(path) => fine("configuration", path.clone()),
        Err(error) => wrong(
            "configuration",
            error,
            "edit it; /usr/share/doc/upright/upright.toml has every key with its default",
        ),
    }];
    match &facts.host {
        Ok(host) => found.extend(of_host(host)),
        Err(error) => found.push(wrong("host", error, "nothing else can be looked at before that is mended")),
    }
    found
}

fn of_host(host: &HostFacts) -> Vec<Finding> {
    let booted = host.booted.as_ref();
    let at_rest = host.record.as_ref().is_ok_and(|record| record.at_rest);
    let mut found = vec![running(booted)];
    found.extend(partitions(host));
    found.extend(boot(&host.boot, booted.ok(), at_rest));
    found.extend(esp(&host.boot));
    found.extend(unchecked(&host.boot));
    found.push(state(host));
    found.extend(owed(host));
    found.extend(host.odd.iter().map(|path| odd(path)));
    found.extend(reset(host));
    found.extend(host.watchdog.map(watchdog));
    found.push(clock(host));
    found.extend(trust(host));
    found
}

fn running(booted: Result<&Booted, &String>) -> Finding {
    match booted {
        Ok(Booted { slot, os, version, .. }) => {
            fine("running system", format!("{os} {version} in slot {slot}"))
        }
        Err(error) => wrong(
            "running system",
            error,
            "install the disk image that `upright-build disk` makes, or start the UKI that `upright-build build` made",
        ),
    }
}

fn partitions(host: &HostFacts) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for (label, size) in &host.partitions {
        if let Err(error) = size {
            let mend = format!("give the partition that label (`sgdisk -c N:{label}`), or make it");
            found.push(wrong("partitions", &format!("{label} cannot be used: {error}"), &mend));
        }
    }
    found.extend(host.read_only.iter().map(|error| {
        let mend =
            "the next update writes there: see with `blockdev --getro` and `dmesg` why it is read-only, and make it writable";
        wrong("partitions", error, mend)
    }));
    let size = |wanted: &str| {
        host.partitions.iter().find_map(|(label, size)| (label == wanted).then(|| size.clone().ok())?)
    };
    for part in ["", "-verity"] {
        let (a, b) = (size(&format!("root-a{part}")), size(&format!("root-b{part}")));
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            let says = format!("root-a{part} has {} and root-b{part} {}", human(a), human(b));
            found.push(weak("partitions", says, "releases must fit the smaller one; make both as large"));
        }
    }
    if found.is_empty() {
        found.push(fine("partitions", "both slots are there".to_owned()));
    }
    found
}

fn boot(boot: &BootFacts, booted: Option<&Booted>, at_rest: bool) -> Vec<Finding> {
    const SUBJECT: &str = "boot loader";
    const GONE: &str = "`upright repair` brings it back; the next boot does not find it";
    let setup = format!("set it up as the section \"{}\" of docs/bootloaders.md says", boot.name);
    let mut found = Vec::new();
    let entry = match &boot.entry {
        Err(error) => wrong(SUBJECT, &format!("{} cannot be read: {error}", boot.name), &setup),
        Ok(None) => wrong(SUBJECT, &format!("{} has no entry for what runs", boot.name), GONE),
        Ok(Some(Trust::Bad)) if at_rest => weak(
            SUBJECT,
            format!("{} passes over what runs as long as there is anything else", boot.name),
            "`upright history` says why it was left; update to a release that is healthy",
        ),
        Ok(Some(_)) => fine(SUBJECT, format!("{} has an entry for what runs", boot.name)),
    };
    found.push(entry);
    // What is in the place of an entry that is not seen is damaged, too.
    let is_told = |entry: &&EntryFacts| entry.runs && matches!(boot.entry, Ok(None));
    found.extend(boot.entries.iter().filter(|entry| !is_told(entry)).filter_map(broken));
    match (&boot.started, booted) {
        (Err(error), _) => found.push(wrong(SUBJECT, error, &setup)),
        (Ok(Some(started)), Some(booted)) if *started != booted.slot => {
            let (says, mend) = other_slot(*started, booted.slot);
            found.push(wrong(SUBJECT, &says, mend));
        }
        _ => {}
    }
    match &boot.concerns {
        // Whatever made the entry unreadable was told above.
        Err(error) if boot.entry.is_ok() => found.push(wrong(SUBJECT, error, &setup)),
        Err(_) => {}
        Ok(concerns) => {
            let concern = |Concern { says, mend }: &Concern| weak("boot loader's state", says.clone(), mend);
            found.extend(concerns.iter().map(concern));
        }
    }
    found
}

/// What is wrong with the entry of a release that is to be started.
fn broken(entry: &EntryFacts) -> Option<Finding> {
    let EntryFacts { slot, version, state, runs, mendable } = entry;
    let how = match state {
        EntryState::Whole | EntryState::Named => return None,
        EntryState::Missing => "gone",
        EntryState::Damaged => "damaged",
    };
    let (means, mend) = match (runs, mendable) {
        (true, _) => (
            "the next boot may not come up with it",
            "`upright repair` mends it, `upright rollback` leaves it; look at the disk's health",
        ),
        (false, true) => ("there is no way back", "`upright repair` composes it again"),
        (false, false) => ("it does not start", "the next update writes it anew"),
    };
    let says = format!("the entry of {version} in slot {slot} is {how}, so {means}");
    Some(wrong("boot loader", &says, mend))
}

fn other_slot(started: Slot, runs: Slot) -> (String, &'static str) {
    let says = format!("it says that it started slot {started}, and the root file system is slot {runs}'s");
    (
        says,
        "see to it that each slot's entry starts that slot, and that `slots` in [boot] has the names in the right order",
    )
}

fn esp(boot: &BootFacts) -> Option<Finding> {
    const MEND: &str = "mount it and see that it is writable; a FAT that is damaged is mended by fsck.fat";
    Some(match &boot.room {
        _ if boot.writable.is_err() => wrong("ESP", boot.writable.as_ref().err()?, MEND),
        // How much room there is depends on it.
        _ if matches!(boot.entry, Ok(None)) => return None,
        Err(error) => wrong("ESP", error, MEND),
        Ok((Some(uki), room)) if room < uki => wrong(
            "ESP",
            &format!("there are {} for the next UKI, the one that runs has {}", human(*room), human(*uki)),
            "remove from the ESP what is not needed to boot, or make it larger",
        ),
        Ok((_, room)) => fine("ESP", format!("{} for the next UKI", human(*room))),
    })
}

fn unchecked(boot: &BootFacts) -> Option<Finding> {
    let says = "there is no fsck.vfat, so that what a power cut leaves of the FAT is not mended: Linux may make it read-only, and then no update \
                and no rollback can be written";
    (!boot.fsck).then(|| wrong("ESP", says, "have the publisher put `dosfstools` into the image"))
}

fn state(host: &HostFacts) -> Finding {
    match (&host.record, &host.state_room) {
        (Err(error), _) => {
            wrong("state", error, "`upright reset-state` starts from what the boot loader says")
        }
        _ if host.state_in_memory => wrong(
            "state",
            "this boot could not use the state on the disk and keeps its own in memory only: no update is installed, and no reset left",
            "see what `journalctl -b -u upright-state` says, mend it, and reboot",
        ),
        (_, Err(error)) => wrong("state", error, "mount the state partition (`var`) at /var"),
        _ if host.state_writable.is_err() => wrong(
            "state",
            host.state_writable.as_ref().err().map_or("", String::as_str),
            "mount /var writable; if Linux made it read-only, `dmesg` says why, and fsck mends it",
        ),
        (_, Ok(room)) if *room < MIN_STATE => wrong(
            "state",
            &format!("{} are free where the agent keeps its state", human(*room)),
            &format!("free {} at the least below /var", human(MIN_STATE)),
        ),
        (_, Ok(room)) => fine("state", format!("{} are free", human(*room))),
    }
}

fn owed(host: &HostFacts) -> Option<Finding> {
    const MEND: &str = "no update is taken before: make room in /var and reboot, or write it anew";
    match &host.owed {
        Err(error) => Some(wrong(
            "state",
            error,
            "the next boot notes it anew: reboot, and see that passwords and keys in /etc are as they should be",
        )),
        Ok(paths) if paths.is_empty() => None,
        Ok(paths) => {
            let says = format!(
                "older here than in the other slot, from where it could not follow: /etc/{}",
                paths.join(", /etc/")
            );
            Some(wrong("state", &says, MEND))
        }
    }
}

fn odd(path: &str) -> Finding {
    let says = format!("{path} is a folder, a link or a device in the place of a file");
    wrong(
        "state",
        &says,
        "the next `upright check` gives it another name; where it says that it cannot, move it away",
    )
}

fn reset(host: &HostFacts) -> Option<Finding> {
    let error = match &host.reset {
        Ok(refused) => {
            let says = format!("the last boot could not carry it out: {}", refused.as_ref()?);
            let mend =
                "make room in /var, or mend what it says, and reboot; `upright reset --cancel` takes it back";
            return Some(wrong("reset", &says, mend));
        }
        Err(error) => error,
    };
    let says = format!("what was asked for cannot be read, so no boot carries it out: {error}");
    Some(wrong("reset", &says, "`upright reset --cancel`, then `upright reset` if it is still wanted"))
}

fn watchdog(watchdog: Watchdog) -> Finding {
    const HANGS: &str = "so a release that hangs stays until somebody switches the machine off and on";
    match watchdog {
        Watchdog::Active(time) => fine(
            "watchdog",
            format!("restarts the machine after {} s without a sign of life", time.as_secs()),
        ),
        Watchdog::Idle => weak(
            "watchdog",
            format!("there is one and nobody has switched it on, {HANGS}"),
            "set RuntimeWatchdogSec=60s in /etc/systemd/system.conf.d/, as dist/systemd/system.conf.d does",
        ),
        Watchdog::Missing => weak(
            "watchdog",
            format!("there is none, {HANGS}"),
            "switch it on in the firmware and put its kernel module into the image; `softdog` is better than nothing",
        ),
    }
}

/// How the metadata stands that the record tells of.
fn stands(host: &HostFacts) -> Freshness {
    let Ok(record) = &host.record else { return Freshness::Unknown };
    let until = record.good_until.iter().map(|(_, until)| *until).min();
    freshness(until, record.last_contact, record.medium.as_ref().map(|_| host.grace), host.now)
}

fn clock(host: &HostFacts) -> Finding {
    const SET: &str = "let systemd-timesyncd or chrony set it";
    let contact = host.record.as_ref().ok().and_then(|record| record.last_contact);
    match (host.image_time.into_iter().chain(contact).max(), contact) {
        (Some(known), _) if known > host.now => wrong(
            "clock",
            &format!("it says {:.0}, and it was {known:.0} already", host.now),
            &format!("{SET}, and replace the battery of the hardware's clock"),
        ),
        (_, Some(contact)) if stands(host) == Freshness::ClockSuspect => weak(
            "clock",
            format!("it says {:.0}, by which the last contact was years ago, at {contact:.0}", host.now),
            &format!("if that is not so, {SET}"),
        ),
        _ => fine("clock", format!("{:.0}", host.now)),
    }
}

fn trust(host: &HostFacts) -> Vec<Finding> {
    const SUBJECT: &str = "trust";
    if let Err(error) = &host.root {
        let mend = "`repository.root` must name the root.json of the publisher's workspace, and the image must have it";
        return vec![wrong(SUBJECT, error, mend)];
    }
    if let Err(error) = &host.trust {
        return vec![wrong(SUBJECT, error, "`upright reset-trust` starts again from the image's root.json")];
    }
    let record = host.record.clone().unwrap_or_default();
    if let Some(stranger) = stranger(host.vouched, &record) {
        return vec![stranger];
    }
    let expiry = expiry(host, &record);
    match (record.medium, record.last_contact) {
        _ if !expiry.is_empty() => expiry,
        (Some(brought), _) => {
            let says = format!("metadata is whole; it came from {brought}, taken at {:.0}", brought.time);
            vec![fine(SUBJECT, says)]
        }
        (None, Some(time)) => {
            vec![fine(SUBJECT, format!("metadata is whole; the server was last reached at {time:.0}"))]
        }
        (None, None) => vec![weak(
            SUBJECT,
            "the server was never reached, so it is not known whether this host's root.json is the publisher's".to_owned(),
            "`upright check`",
        )],
    }
}

/// Whether this host trusts somebody else than whoever it takes updates from, and so takes none.
fn stranger(vouched: Vouched, record: &RecordFacts) -> Option<Finding> {
    const MEND: &str = "`upright check`; if that is refused, `repository.root` must name the root.json of the publisher's workspace, and the next \
                        image must have it";
    let taken = record.medium.as_ref().map(|brought| brought.time).or(record.last_contact);
    let says = match (vouched, taken) {
        (Vouched::OtherRoot, _) => {
            "the image's root.json is another publisher's than the one that this host has come to trust"
                .to_owned()
        }
        (Vouched::NotSigned, _) => {
            "the metadata that was taken last is not signed by those whom this host's root.json appoints"
                .to_owned()
        }
        (Vouched::Nothing, Some(time)) => {
            format!(
                "nothing is stored of the metadata that was taken at {time:.0}, or nothing that this host's root.json vouches for"
            )
        }
        (Vouched::Signed, _) | (Vouched::Nothing, None) => return None,
    };
    Some(wrong("trust", &says, MEND))
}

/// What has expired, or is about to.
fn expiry(host: &HostFacts, record: &RecordFacts) -> Vec<Finding> {
    let now = host.now;
    let grace = record.medium.as_ref().map(|_| host.grace);
    let finding = |(role, until): &(String, Timestamp)| {
        let by_hand = SIGNED_BY_HAND.contains(&role.as_str());
        let expired = format!("expired at {until:.0}");
        if *until <= now {
            if taken_until(*until, grace) > now {
                return None;
            }
            Some(match &record.medium {
                // Who brings media brings the next one.
                Some(Brought { from, .. }) => weak(
                    "trust",
                    format!("the {role} metadata that came from {from} {expired}"),
                    "the next update needs a newer medium, or the server",
                ),
                None if stands(host) == Freshness::ClockSuspect => wrong(
                    "trust",
                    &format!(
                        "the {role} metadata of the last contact {expired}, by a clock that may be wrong"
                    ),
                    "set the clock; if it is right, `upright check`",
                ),
                None => wrong(
                    "trust",
                    &format!("the {role} metadata of the last contact {expired}"),
                    &format!(
                        "`upright check`; if it stays so, the publisher must sign again: `upright-build refresh --role {role}`"
                    ),
                ),
            })
        } else if by_hand && until.duration_since(now) < SOON {
            let mend = format!("the publisher should sign again: `upright-build refresh --role {role}`");
            Some(weak("trust", format!("the {role} metadata expires at {until:.0}"), &mend))
        } else {
            None
        }
    };
    record.good_until.iter().filter_map(finding).collect()
}

fn fine(subject: &'static str, says: String) -> Finding {
    Finding { subject, level: Level::Fine, says, mend: None }
}

fn weak(subject: &'static str, says: String, mend: &str) -> Finding {
    Finding { subject, level: Level::Weak, says, mend: Some(mend.to_owned()) }
}

fn wrong(subject: &'static str, says: &str, mend: &str) -> Finding {
    Finding { subject, level: Level::Wrong, says: says.to_owned(), mend: Some(mend.to_owned()) }
}

#[cfg(test)]
#[path = "examine_tests.rs"]
mod tests;
