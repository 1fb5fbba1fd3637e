//! What a document says, for the person who is about to sign it.

use crate::envelope::Envelope;
use crate::json::Json;

/// How many targets are listed one by one.
const MAX_TARGETS: usize = 40;

/// The document in lines of text. Nothing in it can move the cursor or pretend to be another line.
pub(super) fn of(document: &Envelope) -> Vec<String> {
    let body = &document.signed;
    let mut lines = vec![format!(
        "{} version {}, good until {}",
        text(body.get("_type")),
        text(body.get("version")),
        text(body.get("expires"))
    )];
    let role = |name: &str, role: &Json| {
        let keys = items(role.get("keyids")).map(|id| text(Some(id)).chars().take(8).collect::<String>());
        let keys: Vec<_> = keys.collect();
        format!("  role {name}: {} of {}", text(role.get("threshold")), keys.join(" "))
    };
    lines.extend(members(body.get("roles")).map(|(name, value)| role(&printable(name), value)));
    let delegated = body.get("delegations").and_then(|delegations| delegations.get("roles"));
    lines.extend(items(delegated).map(|value| role(&text(value.get("name")), value)));
    lines.extend(members(body.get("targets")).take(MAX_TARGETS).map(|(path, target)| {
        let hash = target.get("hashes").and_then(|hashes| hashes.get("sha256"));
        let hash: String = text(hash).chars().take(12).collect();
        format!("  target {}: {} bytes, sha256 {hash}", printable(path), text(target.get("length")))
    }));
    let more = members(body.get("targets")).count().saturating_sub(MAX_TARGETS);
    if more > 0 {
        lines.push(format!("  and {more} more targets"));
    }
    lines
        .extend(members(body.get("meta")).map(|(name, file)| {
            format!("  lists {} version {}", printable(name), text(file.get("version")))
        }));
    lines.extend(
        document.signatures.keys().map(|id| format!("  has a signature of {}", printable(&id.short()))),
    );
    lines
}

fn members(value: Option<&Json>) -> impl Iterator<Item = (&String, &Json)> {
    match value {
        Some(Json::Object(members)) => Some(members.iter()),
        _ => None,
    }
    .into_iter()
    .flatten()
}

fn items(value: Option<&Json>) -> impl Iterator<Item = &Json> {
    match value {
        Some(Json::Array(items)) => items.as_slice(),
        _ => &[],
    }
    .iter()
}

fn text(value: Option<&Json>) -> String {
    match value {
        Some(Json::String(text)) => printable(text),
        Some(Json::Integer(number)) => number.to_string(),
        _ => "?".into(),
    }
}

fn printable(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signer_reads_roles_and_targets_and_no_escape_sequences() {
        let root = br#"{"_type":"root","version":2,"expires":"2030-01-01T00:00:00Z",
            "roles":{"timestamp":{"threshold":1,"keyids":["0123456789abcdef"]}}}"#;
        let lines = of(&Envelope::unsigned(Json::parse(root).unwrap()));
        assert_eq!(
            lines,
            ["root version 2, good until 2030-01-01T00:00:00Z", "  role timestamp: 1 of 01234567"]
        );
        let targets = br#"{"_type":"targets","version":1,"expires":"x",
            "targets":{"a\u001b[2Jb\n":{"length":3,"hashes":{"sha256":"ab"}}}}"#;
        let lines = of(&Envelope::unsigned(Json::parse(targets).unwrap()));
        assert_eq!(lines[1], "  target a\\u{1b}[2Jb\\n: 3 bytes, sha256 ab");
    }
}
