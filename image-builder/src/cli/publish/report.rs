//! What a publish will do, or did, in words.

use upright_manifests::channel::{Channel, Wave};

use crate::repo::publish::{Dropped, Outcome, Plan};
use upright_manifests::bytes::human;

/// A plan, for `--dry-run`.
pub(in crate::cli) fn plan(plan: &Plan) -> String {
    let (version, channel) = (&plan.version, &plan.channel);
    if plan.is_done() {
        return format!("{version} is published in {channel}; nothing to do");
    }
    let mut lines = Vec::new();
    if plan.relisted.is_some() {
        lines.push(format!("list {version} for {channel}, with the objects that there are"));
    } else if plan.new_release {
        lines.push(format!("encode the full payload, chunk index and UKI of {version}"));
    }
    lines.extend(plan.make.iter().map(|edge| format!("make a delta from {}", edge.from)));
    lines.extend(plan.have.iter().map(|from| format!("keep the delta from {from}")));
    lines.extend(dropped(&plan.dropped));
    if plan.moves {
        lines.push(format!(
            "point {channel} at {version}{}",
            rollout(&plan.pointer.waves, plan.pointer.hold.as_deref())
        ));
    }
    lines.extend(plan.retired.iter().map(|version| format!("stop offering {version}")));
    lines.join("\n")
}

/// What a publish did.
pub(in crate::cli) fn outcome(outcome: &Outcome) -> String {
    let (version, channel) = (&outcome.version, &outcome.channel);
    let rollout = match (&outcome.waves[..], outcome.hold.as_deref()) {
        ([], None) => String::new(),
        (waves, hold) => rollout(waves, hold),
    };
    let mut lines = vec![match outcome.changed {
        true => format!("published {version} in {channel}{rollout}"),
        false => format!("{version} is published in {channel} already{rollout}; nothing changed"),
    }];
    lines.push(format!(
        "  full {} for an image of {}, chunk index {}, UKI {} for {}",
        human(outcome.full),
        human(outcome.image),
        human(outcome.chunks),
        human(outcome.uki_delta),
        human(outcome.uki)
    ));
    lines
        .extend(outcome.edges.iter().map(|edge| format!("  delta from {}: {}", edge.from, human(edge.size))));
    lines.extend(dropped(&outcome.dropped).iter().map(|line| format!("  {line}")));
    lines.extend(outcome.retired.iter().map(|version| format!("  no longer offered: {version}")));
    lines.join("\n")
}

/// What a channel says.
pub(in crate::cli) fn channel(channel: &Channel) -> String {
    let rollout = rollout(&channel.waves, channel.hold.as_deref());
    format!("{} points at {}{rollout}", channel.channel, channel.version)
}

/// A line for all releases in a row that get no delta for the same reason.
fn dropped(dropped: &[Dropped]) -> Vec<String> {
    let alike = dropped.chunk_by(|a, b| a.why == b.why);
    alike.map(|alike| format!("no delta from {}: {}", versions(alike), alike[0].why)).collect()
}

fn versions(dropped: &[Dropped]) -> String {
    dropped.iter().map(|dropped| dropped.from.as_str()).collect::<Vec<_>>().join(", ")
}

fn rollout(waves: &[Wave], hold: Option<&str>) -> String {
    let mut text = String::new();
    for wave in waves {
        let share = f64::from(wave.share) / 100.0;
        text += &format!(", {share}% from {}", wave.from);
    }
    if waves.is_empty() {
        text += ", for everyone";
    }
    if let Some(reason) = hold {
        text += &format!(", on hold: {reason}");
    }
    text
}
