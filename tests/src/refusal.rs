//! What a refusal must be: one line that says what, why and what to do; a documented exit code; and nothing lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;

use crate::programs::{Ran, run, upright};

/// What a host keeps for itself of what it was told and did.
const REMEMBERED: [&str; 1] = ["var/lib/upright"];

/// The slot that does not run.
const INACTIVE: [&str; 2] = ["dev/root-b", "dev/root-b-verity"];

/// How far an update came before it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Nothing at all was written.
    Decision,
    /// The slot that does not run may have been written.
    Writing,
}

/// Every file below `folder` by its path, with a digest of its content, but for those below `without`.
pub fn files(folder: &Path, without: &[&str]) -> Result<BTreeMap<PathBuf, Digest>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            let name = path.strip_prefix(folder)?.to_owned();
            if without.iter().any(|left_out| name.starts_with(left_out)) {
                continue;
            }
            match fs::symlink_metadata(&path)? {
                meta if meta.is_dir() => folders.push(path),
                meta if meta.is_file() => drop(found.insert(name, digest(&fs::read(&path)?))),
                _ => drop(found.insert(name, Digest::of(b"special"))),
            }
        }
    }
    Ok(found)
}

/// A digest of what is not zero and of where it is: partitions of simulated hosts are mostly holes.
fn digest(content: &[u8]) -> Digest {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut dense = content.len().to_le_bytes().to_vec();
    for (number, block) in content.chunks(ZEROS.len()).enumerate() {
        if block != &ZEROS[..block.len()] {
            dense.extend(number.to_le_bytes());
            dense.extend(block);
        }
    }
    Digest::of(&dense)
}

/// The one line of a program that ended with `status`, all of whose other lines are its log or its progress. The status
/// must be one that `--help` explains.
pub fn line_of<'r>(program: &str, ran: &'r Ran, status: i32) -> Result<&'r str> {
    ensure!(ran.status == status, "exit status {status} was expected of {program}: {ran:?}");
    let help = run(program, ["--help"])?.stdout;
    let explained = |line: &str| line.split_whitespace().next() == Some(status.to_string().as_str());
    ensure!(help.lines().any(explained), "{status} is not in the help of {program}: {help}");
    let prefix = if program == "upright-build" { "error: ".to_owned() } else { format!("{program}: ") };
    let mut errors = ran.stderr.lines().filter_map(|line| line.strip_prefix(&prefix));
    let line = errors.next().with_context(|| format!("no error: {ran:?}"))?;
    ensure!(errors.next().is_none(), "several errors: {ran:?}");
    let strange = |line: &&str| !line.starts_with(&prefix) && !is_log(line);
    ensure!(ran.stderr.lines().find(strange).is_none(), "a line that is neither log nor error: {ran:?}");
    ensure!(!line.ends_with('.') || line.ends_with(" ."), "a full stop: {line}");
    Ok(line)
}

/// A line of the log, of a step that begins, or of how far it is.
fn is_log(line: &str) -> bool {
    const BEGINNINGS: [&str; 10] = [
        " WARN",
        " INFO",
        "  ",
        "note: ",
        "beginning to ",
        "going on to ",
        "reading ",
        "composing ",
        "fetching ",
        "mending ",
    ];
    // A step of the publisher's that took more than a second.
    let took = |line: &str| line.rsplit_once(" in ").is_some_and(|(_, time)| time.ends_with(" s"));
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) || took(line)
}

/// Runs `upright` on a simulated host that must refuse with `status`, say `says`, and be as it was; gives the line.
pub fn host_refuses(
    host: &Path,
    arguments: &[&str],
    status: i32,
    says: &[&str],
    until: Until,
) -> Result<String> {
    let without: Vec<&str> = match until {
        Until::Decision => REMEMBERED.to_vec(),
        Until::Writing => [REMEMBERED.as_slice(), INACTIVE.as_slice()].concat(),
    };
    // Whoever asks first boots a simulated host.
    let before = standing(host, until)?;
    let held = files(host, &without)?;
    let ran = upright(host, arguments)?;
    let line = line_of("upright", &ran, status)?;
    contains(line, says)?;
    let after = files(host, &without)?;
    ensure!(after == held, "{:?} became {:?}", held.keys(), after.keys());
    ensure!(standing(host, until)? == before, "the host is not as it was after: {line}");
    Ok(line.to_owned())
}

/// What runs, and what the agent is doing unless it may be in the middle of something; nothing where the state cannot be read.
fn standing(host: &Path, until: Until) -> Result<Option<Vec<serde_json::Value>>> {
    let ran = upright(host, &["status", "--json"])?;
    let mut told = ran.json()?;
    let keys = match until {
        Until::Decision => &["booted", "slots", "state"][..],
        Until::Writing => &["booted"],
    };
    Ok((ran.status == 0).then(|| keys.iter().map(|key| told[*key].take()).collect()))
}

/// Runs `upright-build` in a workspace; it must refuse with `status` and say `says`, and what is served and what was built
/// stays as it was; gives the line.
pub fn publisher_refuses(workspace: &Path, arguments: &[&str], status: i32, says: &[&str]) -> Result<String> {
    let held = kept(workspace)?;
    let folder = [OsStr::new("-C"), workspace.as_os_str()];
    let ran = run("upright-build", folder.into_iter().chain(arguments.iter().map(OsStr::new)))?;
    let line = line_of("upright-build", &ran, status)?;
    contains(line, says)?;
    ensure!(kept(workspace)? == held, "what is served or built changed after: {line}");
    Ok(line.to_owned())
}

/// What is served, and what was built; without what was encoded for the next publication, and leftovers, which are hidden.
fn kept(workspace: &Path) -> Result<BTreeMap<PathBuf, Digest>> {
    let mut found = files(workspace, &["ostree"])?;
    found.retain(|path, _| {
        let hidden = path.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
        !hidden && !path.ends_with("encoded.json")
    });
    Ok(found)
}

/// All of `says` must be in `line`.
pub fn contains(line: &str, says: &[&str]) -> Result<()> {
    match says.iter().find(|part| !line.contains(**part)) {
        Some(part) => anyhow::bail!("{part:?} is not in: {line}"),
        None => Ok(()),
    }
}
