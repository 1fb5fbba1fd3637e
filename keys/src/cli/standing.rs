//! Whether enough of the keys that a root document appoints have signed.

use anyhow::{Context, bail};

use super::files::note;
use crate::envelope::Envelope;
use crate::json::Json;
use crate::threshold::{RoleKeys, ThresholdError};
use crate::tuf_key::{KeyId, TufKey};

/// How many of the keys that `root` appoints for the document's role have signed it: as many as are needed, or fewer.
pub(super) fn of(document: &Envelope, root: &Json) -> anyhow::Result<Result<RoleKeys, ThresholdError>> {
    let role = document.signed.get("_type").and_then(Json::as_str).context("the document has no _type")?;
    let Some(appointed) = root.get("roles").and_then(|roles| roles.get(role)) else {
        bail!(
            "it appoints nobody for {:?}; it is no root document",
            role.chars().take(40).collect::<String>()
        );
    };
    let appointed: RoleKeys =
        serde_json::from_slice(&appointed.canonical()).context("its roles make no sense")?;
    let keys = root.get("keys").context("it has no keys; it is no root document")?;
    let keys: std::collections::BTreeMap<KeyId, TufKey> =
        serde_json::from_slice(&keys.canonical()).context("its keys make no sense")?;
    let verdict = appointed.verify(&keys, &document.signed.canonical(), document.signatures());
    Ok(verdict.map(|()| appointed))
}

/// Fails unless enough keys have signed: of those that `root` appoints and, for a new root, of those that it appoints itself.
pub(super) fn require(document: &Envelope, root: &Envelope) -> anyhow::Result<()> {
    let mut authorities = vec![("the given root", &root.signed)];
    if document.signed.get("_type").and_then(Json::as_str) == Some("root") {
        authorities.push(("the document itself", &document.signed));
    }
    for (name, authority) in authorities {
        match of(document, authority).with_context(|| name.to_owned())? {
            Ok(role) => note(&format!("  signed by the {} keys that {name} asks for", role.threshold)),
            Err(error) => bail!("{error}, according to {name}; have the others sign the same request"),
        }
    }
    Ok(())
}
