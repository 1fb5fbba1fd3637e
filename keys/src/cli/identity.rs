//! Whether a document's keys are those that their ids say.
//!
//! A keeper compares ids with what was agreed on. Hosts take ids for mere names, so that another's key under a trusted
//! id would be trusted by them and pass unseen by the keeper.

use std::collections::BTreeMap;

use anyhow::bail;

use super::summary::{members, printable};
use crate::json::Json;
use crate::tuf_key::KeyId;

/// The keys that a document holds, by id: those of a root, or those of a role's delegations.
pub(super) fn keys(body: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let delegated = body.get("delegations").and_then(|delegations| delegations.get("keys"));
    members(body.get("keys")).chain(members(delegated))
}

/// Refuses a key whose id is the SHA-256 of another.
pub(super) fn check(body: &Json) -> anyhow::Result<()> {
    for (id, key) in keys(body) {
        let is_digest = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if is_digest && !is_own(id, key) {
            bail!(
                "the document has another key under the id {id}, which is {} by right; ask whoever made it",
                KeyId::of(&key.canonical())
            );
        }
    }
    Ok(())
}

/// Whether `id` is that of `key` by the rule that all implementations share, and so identifies it.
pub(super) fn is_own(id: &str, key: &Json) -> bool {
    ids(key).iter().any(|own| own.as_str().eq_ignore_ascii_case(id))
}

/// What a key of its own name, or of another publisher's scheme of ids, is known by: its kind and itself.
pub(super) fn material(key: &Json) -> String {
    let public = key.get("keyval").and_then(|value| value.get("public")).and_then(Json::as_str);
    let public: String = public.unwrap_or("?").split_ascii_whitespace().collect();
    let kind = key.get("keytype").and_then(Json::as_str).unwrap_or("?");
    format!("{} {}", printable(kind), printable(&public))
}

/// The SHA-256 of the key, and of the key without the members that the specification does not name: some publishers add
/// such members later.
fn ids(key: &Json) -> [KeyId; 2] {
    let named = ["keytype", "keyval", "scheme"].into_iter();
    let bare: BTreeMap<_, _> =
        named.filter_map(|name| Some((name.to_owned(), key.get(name)?.clone()))).collect();
    [KeyId::of(&key.canonical()), KeyId::of(&Json::Object(bare).canonical())]
}
