//! What a new root changes, for the person who is about to sign it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

use super::identity;
use super::summary::{appointed, items, members, printable, text, version};
use crate::json::Json;

/// Refuses a root that hosts which trust `old` would not take next.
pub(super) fn expect_next(old: &Json, new: &Json) -> anyhow::Result<()> {
    let (trusted, offered) = (version(old)?, version(new)?);
    ensure!(
        offered == trusted + 1,
        "root version {offered} does not follow version {trusted}, which is trusted: hosts take {} next and no other",
        trusted + 1
    );
    Ok(())
}

/// The difference between two roots in lines of text.
pub(super) fn between(old: &Json, new: &Json) -> Vec<String> {
    let roles: BTreeSet<_> =
        [old, new].into_iter().flat_map(|root| members(root.get("roles")).map(|(name, _)| name)).collect();
    let mut lines: Vec<String> = roles.into_iter().flat_map(|role| of_role(role, old, new)).collect();
    let before: BTreeMap<_, _> = identity::keys(old).collect();
    for (id, key) in identity::keys(new) {
        if before.get(id).is_some_and(|old| *old != key) {
            lines.push(format!("key {} is another than before: {}", printable(id), identity::material(key)));
        }
    }
    for member in ["expires", "consistent_snapshot", "spec_version"] {
        let [old, new] = [old, new].map(|root| text(root.get(member)));
        if old != new {
            lines.push(format!("{member} {old} becomes {new}"));
        }
    }
    match lines.is_empty() {
        true => vec!["  changes nothing but the version".into()],
        false => lines.into_iter().map(|line| format!("  changes: {line}")).collect(),
    }
}

fn of_role(name: &str, old: &Json, new: &Json) -> Vec<String> {
    let [was, is] = [old, new].map(|root| appointed(root, name));
    let [before, after] = [was, is].map(keys);
    let [threshold, becomes] = [was, is].map(|role| text(role.and_then(|role| role.get("threshold"))));
    let name = printable(name);
    let added = after.difference(&before).map(|id| format!("role {name}: key {id} may sign from now on"));
    let removed = before.difference(&after).map(|id| format!("role {name}: key {id} may not sign any more"));
    let changed =
        (threshold != becomes).then(|| format!("role {name}: threshold {threshold} becomes {becomes}"));
    added.chain(removed).chain(changed).collect()
}

fn keys(role: Option<&Json>) -> BTreeSet<String> {
    items(role.and_then(|role| role.get("keyids"))).map(|id| text(Some(id))).collect()
}
