//! What a document says, for the person who is about to sign it.
//!
//! Whoever reads this decides by it, so nothing that hosts act on is left out or cut short without a word: keys by an id
//! that was recomputed, the paths of each delegation, every target.

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use super::identity;
use crate::envelope::Envelope;
use crate::hex;
use crate::json::Json;

/// How many targets are listed one by one.
const MAX_TARGETS: usize = 1000;

/// How much is shown of a text.
const MAX_TEXT: usize = 1000;

/// The kinds of document that are signed.
const KINDS: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// The document in lines of text. Nothing in it can move the cursor or pretend to be another line.
///
/// Fails where the text could not be relied upon: a document of an unknown kind, or a key under the id of another.
pub(super) fn of(document: &Envelope) -> anyhow::Result<Vec<String>> {
    let body = &document.signed;
    let kind = kind(body)?;
    let version = version(body)?;
    identity::check(body)?;
    let mut lines = vec![format!("{kind} version {version}, good until {}", text(body.get("expires")))];
    lines.push(format!("  SHA-256 of all that is signed: {}", sha256(body)));
    for (name, value) in members(body.get("roles")) {
        lines.extend(role(&printable(name), value, body));
    }
    let delegated = body.get("delegations").and_then(|delegations| delegations.get("roles"));
    for value in items(delegated) {
        lines.extend(role(&text(value.get("name")), value, body));
        lines.extend(scope(value));
    }
    lines.extend(targets(body.get("targets")));
    lines
        .extend(members(body.get("meta")).map(|(name, file)| {
            format!("  lists {} version {}", printable(name), text(file.get("version")))
        }));
    lines.extend(
        document.signatures.keys().map(|id| format!("  has a signature of {}", printable(id.as_str()))),
    );
    Ok(lines)
}

/// The kind of document, if it is one that is signed.
pub(super) fn kind(body: &Json) -> anyhow::Result<&str> {
    let kind = body.get("_type").and_then(Json::as_str).context("the document has no _type")?;
    ensure!(KINDS.contains(&kind), "the document is of an unknown kind, \"{}\"", printable(kind));
    Ok(kind)
}

/// The document's version.
pub(super) fn version(body: &Json) -> anyhow::Result<u64> {
    let version = match body.get("version") {
        Some(Json::Integer(version)) => u64::try_from(*version).ok(),
        _ => None,
    };
    // The next one must be countable, and readable as an integer by every implementation.
    version
        .filter(|version| (1..1 << 53).contains(version))
        .context("the document has no version between 1 and 2^53")
}

/// Whom a root appoints for a role.
pub(super) fn appointed<'a>(root: &'a Json, role: &str) -> Option<&'a Json> {
    root.get("roles")?.get(role)
}

/// A role and its keys, each by an id that identifies it, or else by itself.
fn role(name: &str, role: &Json, body: &Json) -> Vec<String> {
    let ids: Vec<_> = items(role.get("keyids")).collect();
    let head = format!("  role {name}: {} of {} keys", text(role.get("threshold")), ids.len());
    let line = |id: &Json| {
        let key =
            identity::keys(body).find(|(held, _)| id.as_str() == Some(held.as_str())).map(|(_, key)| key);
        let more = match (key, id.as_str()) {
            (Some(key), Some(id)) if identity::is_own(id, key) => String::new(),
            (Some(key), _) => format!(", which is {}", identity::material(key)),
            (None, _) => ", which is not in the document".to_owned(),
        };
        format!("    key {}{more}", text(Some(id)))
    };
    std::iter::once(head).chain(ids.into_iter().map(line)).collect()
}

/// What a delegated role may speak for.
fn scope(role: &Json) -> Vec<String> {
    let paths = items(role.get("paths")).map(|path| format!("    speaks for {}", text(Some(path))));
    let prefixes = items(role.get("path_hash_prefixes"))
        .map(|prefix| format!("    speaks for paths whose SHA-256 begins with {}", text(Some(prefix))));
    let terminating = match role.get("terminating") {
        Some(Json::Bool(true)) => "    terminating: for these, no role after it is asked",
        Some(Json::Bool(false)) => "    not terminating: roles after it are asked too",
        _ => "    does not say whether it is terminating",
    };
    paths.chain(prefixes).chain([terminating.to_owned()]).collect()
}

fn targets(targets: Option<&Json>) -> Vec<String> {
    let line = |(path, target): (&String, &Json)| {
        let hashes = members(target.get("hashes"))
            .map(|(name, hash)| format!(", {} {}", printable(name), text(Some(hash))));
        let hashes: String = hashes.collect();
        format!("  target {}: {} bytes{hashes}", printable(path), text(target.get("length")))
    };
    let mut lines: Vec<_> = members(targets).take(MAX_TARGETS).map(line).collect();
    let count = members(targets).count();
    if let Some(targets) = targets.filter(|_| count > MAX_TARGETS) {
        lines.push(format!(
            "  WARNING: {} MORE TARGETS ARE NOT SHOWN; the SHA-256 of the list of all {count}, as canonical JSON, is {}",
            count - MAX_TARGETS,
            sha256(targets)
        ));
    }
    lines
}

fn sha256(value: &Json) -> String {
    hex::encode(&Sha256::digest(value.canonical()))
}

pub(super) fn members(value: Option<&Json>) -> impl Iterator<Item = (&String, &Json)> {
    match value {
        Some(Json::Object(members)) => Some(members.iter()),
        _ => None,
    }
    .into_iter()
    .flatten()
}

pub(super) fn items(value: Option<&Json>) -> impl Iterator<Item = &Json> {
    match value {
        Some(Json::Array(items)) => items.as_slice(),
        _ => &[],
    }
    .iter()
}

pub(super) fn text(value: Option<&Json>) -> String {
    match value {
        Some(Json::String(text)) => printable(text),
        Some(Json::Integer(number)) => number.to_string(),
        Some(Json::Bool(flag)) => flag.to_string(),
        _ => "?".into(),
    }
}

/// The text without anything that a terminal acts on; what is cut off is told.
pub(super) fn printable(text: &str) -> String {
    let shown: String = text.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect();
    match text.chars().count().saturating_sub(MAX_TEXT) {
        0 => shown,
        more => format!("{shown} AND {more} MORE CHARACTERS"),
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
