//! The chain of trust, followed with the very client that hosts use.

use jiff::{SignedDuration, Timestamp};
use upright_manifests::tuf::schema::Targets;
use upright_manifests::tuf::{
    Answer, Client, Document, Fetch, Kind, Outside, RoleStatus, Stored, TufError, names,
};

use std::collections::BTreeMap;

use super::{Report, Source};
use crate::repo::error::{Error, Result};

/// Before these expire a person has to act, so they are told about early.
const EARLY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The online roles are refreshed by machines; a machine that stopped shows in time.
const LATE: SignedDuration = SignedDuration::from_hours(2 * 24);

/// The most bytes of a manifest or channel that are read.
const MAX_TARGET: u64 = 8 << 20;

/// A file that the metadata vouches for.
pub(super) struct Target {
    /// The target path.
    pub(super) path: String,
    place: String,
    entry: upright_manifests::tuf::schema::TargetFile,
}

/// Follows the chain and lists the targets; `None` where it breaks.
pub(super) fn follow(
    source: &Source,
    root: Vec<u8>,
    now: Timestamp,
    report: &mut Report,
) -> Result<Option<Vec<Target>>> {
    let outcome = match refresh(source, &root, now)? {
        Err(error) if error.kind() == Kind::Expired => {
            report.errors.push(format!("hosts refuse this repository: {error}; run `upright-build refresh`"));
            // What else is wrong is worth knowing too.
            refresh(source, &root, Timestamp::MIN)?
        }
        other => other,
    };
    let (status, targets) = match outcome {
        Ok(trusted) => trusted,
        Err(error) => {
            report.errors.push(format!("hosts refuse this repository: {error}"));
            return Ok(None);
        }
    };
    warn(&status, now, report);
    report.metadata = status;
    let Some(targets) = targets else { return Ok(None) };
    if targets.delegations.is_some() {
        report.warnings.push("delegated targets are not audited".into());
    }
    Ok(Some(list(targets, report)))
}

/// Reads a target and compares it with what was signed; `None` where it differs.
pub(super) fn target(source: &Source, target: &Target, report: &mut Report) -> Result<Option<Vec<u8>>> {
    let Target { path, place, entry } = target;
    if entry.length > MAX_TARGET {
        report.errors.push(format!("{path} has {} bytes, more than a manifest may have", entry.length));
        return Ok(None);
    }
    match source.read(place, entry.length)? {
        None => report.errors.push(format!("{path}: {place} is not there")),
        Some(bytes) if bytes.len() as u64 != entry.length => {
            report
                .errors
                .push(format!("{path}: {place} does not have the {} bytes that were signed", entry.length));
        }
        Some(bytes) => match entry.hashes.check(&bytes) {
            Ok(()) => return Ok(Some(bytes)),
            Err(error) => report.errors.push(format!("{path}: {place} is not what was signed: {error}")),
        },
    }
    Ok(None)
}

type Trusted = (Vec<RoleStatus>, Option<Targets>);

fn refresh(source: &Source, root: &[u8], now: Timestamp) -> Result<Result<Trusted, TufError>> {
    let stored = Stored { root: root.to_vec(), files: BTreeMap::new() };
    let mut client = match Client::new(stored, now) {
        Ok(client) => client,
        Err(error) => return Ok(Err(error)),
    };
    let mut remote = Remote { source, targets: None };
    match client.refresh(&mut remote) {
        Ok(()) => Ok(Ok((client.status(), remote.targets))),
        Err(Broken::Trust(error)) => Ok(Err(error)),
        Err(Broken::Outside(error)) => Err(error),
    }
}

fn list(targets: Targets, report: &mut Report) -> Vec<Target> {
    let mut listed = Vec::new();
    for (path, entry) in targets.targets {
        match names::fetch_path(&path, &entry.hashes, true) {
            Some(place) => listed.push(Target { path, place, entry }),
            None => report.errors.push(format!("{path} is listed without a hash that hosts know")),
        }
    }
    listed
}

fn warn(status: &[RoleStatus], now: Timestamp, report: &mut Report) {
    for role in status {
        let left = role.expires.duration_since(now);
        let early = matches!(role.role.as_str(), "root" | "targets");
        if left > SignedDuration::ZERO && left < if early { EARLY } else { LATE } {
            let how = match role.role.as_str() {
                "root" => "upright-build refresh --role root",
                "targets" => "upright-build refresh --role targets",
                _ => "upright-build refresh",
            };
            let (role, expires) = (&role.role, role.expires);
            report
                .warnings
                .push(format!("{role} expires in {} hours, on {expires}; run `{how}`", left.as_hours()));
        }
    }
}

enum Broken {
    Trust(TufError),
    Outside(Error),
}

impl From<TufError> for Broken {
    fn from(error: TufError) -> Self {
        Self::Trust(error)
    }
}

struct Remote<'a> {
    source: &'a Source,
    targets: Option<Targets>,
}

impl Outside for Remote<'_> {
    type Error = Broken;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, Broken> {
        let path = format!("metadata/{}", file.name);
        let bytes = self.source.read(&path, file.max_length).map_err(Broken::Outside)?;
        Ok(bytes.map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), Broken> {
        if name == names::stored_name("targets") {
            let document = Document::<Targets>::parse(bytes)
                .map_err(|problem| TufError { document: name.to_owned(), problem })?;
            self.targets = Some(document.signed);
        }
        Ok(())
    }

    fn forget(&mut self, _name: &str) -> Result<(), Broken> {
        Ok(())
    }
}
