//! The chain of trust, followed with the very client that hosts use.

use jiff::Timestamp;
use upright_manifests::tuf::schema::{Header, TargetFile, Targets};
use upright_manifests::tuf::{
    Answer, Client, Delegated, Document, Fetch, Kind, Outside, Problem, RoleStatus, Stored, TufError, names,
    refresh_command,
};

use std::collections::BTreeMap;

use super::{Report, Source};
use crate::repo::error::{Error, Result};
use crate::repo::expiry;

/// The most bytes of a manifest or channel that are read.
const MAX_TARGET: u64 = 8 << 20;

/// A file that the metadata vouches for.
pub(in crate::repo) struct Target {
    /// The target path.
    pub(in crate::repo) path: String,
    /// The role that lists it.
    pub(in crate::repo) role: String,
    /// Where it is in the repository.
    pub(in crate::repo) place: String,
    entry: TargetFile,
}

/// What the chain of trust leads to.
pub(in crate::repo) struct Chain {
    /// All that the roles list.
    pub(in crate::repo) targets: Vec<Target>,
    /// The documents that were read, by the names under which the repository serves them.
    pub(in crate::repo) files: BTreeMap<String, Vec<u8>>,
    /// How the top-level roles stand.
    pub(in crate::repo) status: Vec<RoleStatus>,
}

/// Follows the chain and lists the targets; `None` where it breaks.
pub(super) fn follow(
    source: &Source,
    root: Vec<u8>,
    now: Timestamp,
    report: &mut Report,
) -> Result<Option<Vec<Target>>> {
    let nothing = Stored { root, files: BTreeMap::new() };
    let outcome = match refresh(source, &nothing, now)? {
        // What else has expired, or is wrong, is worth knowing too.
        Err(error) if error.kind() == Kind::Expired => refresh(source, &nothing, Timestamp::MIN)?,
        other => other,
    };
    let status = match outcome {
        Ok(status) => {
            let expired = expiry::expired(&status, now);
            report.errors.extend(expired.map(|expired| format!("hosts refuse this repository: {expired}")));
            status
        }
        Err(error) => {
            report.errors.push(format!("hosts refuse this repository: {error}"));
            return Ok(None);
        }
    };
    report.warnings.extend(expiry::warnings(&status, now));
    report.metadata = status;
    match list(source, &nothing, now, report)? {
        Ok(chain) => Ok(Some(chain.targets)),
        Err(error) => {
            report.errors.push(format!("hosts refuse this repository: {error}"));
            Ok(None)
        }
    }
}

/// Reads a target and compares it with what was signed; `None` where it differs.
pub(in crate::repo) fn target(
    source: &Source,
    target: &Target,
    report: &mut Report,
) -> Result<Option<Vec<u8>>> {
    let Target { path, place, entry, .. } = target;
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

fn refresh(source: &Source, stored: &Stored, now: Timestamp) -> Result<Result<Vec<RoleStatus>, TufError>> {
    let mut remote = Remote::new(source);
    let refreshed = client(stored, now).and_then(|mut client| {
        client.refresh(&mut remote)?;
        Ok(client.status())
    });
    settle(refreshed)
}

fn client(stored: &Stored, now: Timestamp) -> Result<Client, Broken> {
    Ok(Client::new(stored.clone(), now)?)
}

fn settle<T>(outcome: Result<T, Broken>) -> Result<Result<T, TufError>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Broken::Trust(error)) => Ok(Err(error)),
        Err(Broken::Outside(error)) => Err(error),
    }
}

/// What all roles list, as far as hosts that have `stored` take their word on it; expiry is told, and not minded any further.
pub(in crate::repo) fn list(
    source: &Source,
    stored: &Stored,
    now: Timestamp,
    report: &mut Report,
) -> Result<Result<Chain, TufError>> {
    let mut remote = Remote::new(source);
    settle(client(stored, Timestamp::MIN).and_then(|mut client| {
        let delegated = client.delegated(&mut remote)?;
        let top = remote.targets.take().map_or_else(|| top_level(stored), |targets| Ok(Some(targets)))?;
        let mut documents: Vec<(String, Targets)> =
            top.into_iter().map(|targets| ("targets".to_owned(), targets)).collect();
        for Delegated { name, document, .. } in delegated {
            match document {
                Ok(targets) => {
                    expiry(&name, &targets, now, report);
                    documents.push((name, targets));
                }
                Err(error) => report.errors.push(format!("hosts refuse what {name} lists: {error}")),
            }
        }
        let mut listed = Vec::new();
        for (role, targets) in documents {
            for (path, entry) in targets.targets {
                match client.target(&path, &mut remote) {
                    Ok(found) if found.role == role => {
                        listed.push(Target { path, role: role.clone(), place: found.fetch_path, entry });
                    }
                    Ok(_) => report.warnings.push(format!("{role} lists {path}, for which hosts ask others")),
                    Err(Broken::Trust(error)) if error.problem == Problem::Unusable => {
                        report.errors.push(format!("{path} is listed without a hash that hosts know"));
                    }
                    Err(Broken::Trust(_)) => {
                        report.warnings.push(format!("{role} lists {path}, for which hosts do not ask it"));
                    }
                    Err(outside) => return Err(outside),
                }
            }
        }
        let status = client.status();
        Ok(Chain { targets: listed, files: std::mem::take(&mut remote.files), status })
    }))
}

/// The top-level targets that were stored, where these are the ones in force and none were fetched.
fn top_level(stored: &Stored) -> Result<Option<Targets>, Broken> {
    let name = names::stored_name("targets");
    Ok(stored.files.get(&name).map(|bytes| parse_targets(&name, bytes)).transpose()?)
}

fn parse_targets(name: &str, bytes: &[u8]) -> Result<Targets, TufError> {
    let document = Document::<Targets>::parse(bytes);
    Ok(document.map_err(|problem| TufError { document: name.to_owned(), problem })?.signed)
}

/// Tells how long a delegated role's document is good.
fn expiry(role: &str, targets: &Targets, now: Timestamp, report: &mut Report) {
    let Header { version, expires, .. } = targets.header;
    if expires <= now {
        report.errors.push(format!(
            "hosts refuse what {role} lists: it expired on {expires}; run `{}`",
            refresh_command([role])
        ));
    }
    let status = RoleStatus { role: role.to_owned(), version, expires };
    report.warnings.extend(expiry::warnings([&status], now));
    report.metadata.push(status);
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
    /// What was read, by name.
    files: BTreeMap<String, Vec<u8>>,
}

impl<'a> Remote<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source, targets: None, files: BTreeMap::new() }
    }
}

impl Outside for Remote<'_> {
    type Error = Broken;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, Broken> {
        let path = format!("metadata/{}", file.name);
        let bytes = self.source.read(&path, file.max_length).map_err(Broken::Outside)?;
        self.files.extend(bytes.clone().map(|bytes| (file.name.clone(), bytes)));
        Ok(bytes.map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), Broken> {
        if name == names::stored_name("targets") {
            self.targets = Some(parse_targets(name, bytes)?);
        }
        Ok(())
    }

    fn forget(&mut self, _name: &str) -> Result<(), Broken> {
        Ok(())
    }
}
