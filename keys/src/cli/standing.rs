//! Whose signatures a document needs, and whether it has enough of them.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

use super::files::note;
use super::summary::{appointed, items, kind};
use super::{change, identity};
use crate::envelope::Envelope;
use crate::json::Json;
use crate::threshold::RoleKeys;
use crate::tuf_key::{KeyId, TufKey};

/// Fails unless enough keys have signed: of those that `root` appoints and, for a new root, of those that it appoints itself.
pub(super) fn require(document: &Envelope, root: &Envelope) -> anyhow::Result<()> {
    let role = kind(&document.signed)?;
    ensure!(kind(&root.signed)? == "root", "it is no root document");
    if role == "root" {
        change::expect_next(&root.signed, &document.signed)?;
    }
    let hint = match role {
        "targets" => "; for a team's document, name who delegates to it with --delegator and --role",
        _ => "; have the others sign the same request",
    };
    count(document, &root.signed, appointed(&root.signed, role), "the given root", hint)?;
    if role == "root" {
        count(document, &document.signed, appointed(&document.signed, role), "the document itself", hint)?;
    }
    Ok(())
}

/// Fails unless enough of the keys have signed that `delegator`, a targets document, appoints for `role`.
pub(super) fn require_delegated(document: &Envelope, delegator: &Envelope, role: &str) -> anyhow::Result<()> {
    ensure!(kind(&document.signed)? == "targets", "a team signs targets documents alone");
    let roles = delegator.signed.get("delegations").and_then(|delegations| delegations.get("roles"));
    let appointed = items(roles).find(|item| item.get("name").and_then(Json::as_str) == Some(role));
    count(document, &delegator.signed, appointed, "the delegator", "; have the others sign the same request")
}

/// A line of warning if `id` is none of the keys whose signature hosts would count, as far as can be told.
pub(super) fn stranger(
    document: &Envelope,
    root: Option<&Envelope>,
    id: &KeyId,
) -> anyhow::Result<Option<String>> {
    let role = kind(&document.signed)?;
    let itself = (role == "root").then_some(&document.signed);
    let authorities: Vec<_> = itself.into_iter().chain(root.map(|root| &root.signed)).collect();
    let asks = |authority: &&Json| {
        let ids = appointed(authority, role).and_then(|role| role.get("keyids"));
        items(ids).any(|asked| asked.as_str() == Some(id.as_str()))
    };
    if authorities.is_empty() || authorities.iter().any(asks) {
        return Ok(None);
    }
    let right = match (role, root) {
        ("root", None) => "right only if the root before it does, see with --root",
        ("targets", _) => "right only for a team's document",
        _ => "no host would count its signature",
    };
    Ok(Some(format!("WARNING: nobody asks for a signature of {id} here; {right}")))
}

/// The keys that a document holds and this program can read.
pub(super) fn keys(body: &Json) -> BTreeMap<KeyId, TufKey> {
    let read = |(id, key): (&String, &Json)| {
        Some((KeyId::from(id.clone()), serde_json::from_slice(&key.canonical()).ok()?))
    };
    identity::keys(body).filter_map(read).collect()
}

/// Fails unless enough of the keys of `role` have signed, which `name` appoints.
fn count(
    document: &Envelope,
    authority: &Json,
    role: Option<&Json>,
    name: &str,
    hint: &str,
) -> anyhow::Result<()> {
    let role = role.with_context(|| format!("{name} appoints nobody for it"))?;
    let role: RoleKeys = serde_json::from_slice(&role.canonical())
        .with_context(|| format!("the roles of {name} make no sense"))?;
    match role.verify(&keys(authority), &document.signed.canonical(), document.signatures()) {
        Ok(()) => note(&format!("  signed by the {} keys that {name} asks for", role.threshold)),
        Err(error) => bail!("{error}, according to {name}{hint}"),
    }
    Ok(())
}
