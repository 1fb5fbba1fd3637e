//! What expires soon or has expired, and the command that helps.

use jiff::{SignedDuration, Timestamp};
use upright_manifests::tuf::{RoleStatus, names, refresh_command};

use super::error::{Error, Result};

/// Before these expire a person has to act, so they are told about early.
const EARLY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The online roles are refreshed by machines; a machine that stopped shows in time.
const LATE: SignedDuration = SignedDuration::from_hours(2 * 24);

/// Whether a person has to act for a role to be signed anew.
pub(super) fn is_offline(role: &str) -> bool {
    !matches!(role, "snapshot" | "timestamp")
}

/// A line about each role that expires soon.
pub(super) fn warnings<'a>(
    status: impl IntoIterator<Item = &'a RoleStatus>,
    now: Timestamp,
) -> impl Iterator<Item = String> {
    let soon = status.into_iter().filter(move |role| {
        let left = role.expires.duration_since(now);
        left > SignedDuration::ZERO && left < if is_offline(&role.role) { EARLY } else { LATE }
    });
    soon.map(move |RoleStatus { role, expires, .. }| {
        let hours = expires.duration_since(now).as_hours();
        format!("{role} expires in {hours} hours, on {expires}; run `{}`", refresh_command([role.as_str()]))
    })
}

/// What has expired, and the one command that signs all of it anew.
pub(super) fn expired<'a>(
    status: impl IntoIterator<Item = &'a RoleStatus>,
    now: Timestamp,
) -> Option<String> {
    let expired: Vec<_> = status.into_iter().filter(|role| role.expires <= now).collect();
    let what = expired.iter().map(|role| format!("{} expired on {}", role.role, role.expires));
    let command = refresh_command(expired.iter().map(|role| role.role.as_str()));
    (!expired.is_empty()).then(|| format!("{}; run `{command}`", what.collect::<Vec<_>>().join(", ")))
}

/// Fails where hosts refuse something that is published because it has expired.
pub fn require_good(status: &[RoleStatus], now: Timestamp) -> Result<()> {
    match expired(status, now) {
        None => Ok(()),
        Some(expired) => {
            let teams =
                status.iter().filter(|role| role.expires <= now).all(|role| names::is_delegated(&role.role));
            let what = if teams { "what these list" } else { "this repository" };
            Err(Error::Unverified(format!("hosts refuse {what}: {expired}")))
        }
    }
}
