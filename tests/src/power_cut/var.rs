//! What is on the state partition after a power cut: the initrd's e2fsck, then the agent's record, its trusted metadata and
//! what a user left there.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upright_updater::store::RecordFile;

use super::disk::Content;
use super::judge::extract;
use crate::story::KEPT;

/// What the agent remembers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StateFound(String);

impl fmt::Display for StateFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a path of the guest is on the partition; `/etc` is the overlay of the slot that ran first.
fn place_of(path: &str) -> String {
    match path.strip_prefix("/etc/") {
        Some(name) => format!("lib/upright/etc/a/upper/{name}"),
        None => path.trim_start_matches("/var/").to_owned(),
    }
}

/// Looks at the partition, whose bytes `content` starts with; or says in one line what was lost.
pub(super) fn look(
    content: &dyn Content,
    area: &Range<u64>,
    folder: &Path,
) -> Result<Result<StateFound, String>> {
    let image = folder.join("var");
    extract(content, area.end - area.start, &image)?;
    let check =
        |how: &[&str]| Command::new("e2fsck").args(how).arg(&image).output().context("cannot run e2fsck");
    // 0: nothing was wrong, or the journal was all there was to do; 1: mended.
    let mended = |checked: &Output| matches!(checked.status.code(), Some(0 | 1));
    // As dist/dracut/90upright/mount-state.sh does it.
    let mut checked = check(&["-p"])?;
    if !mended(&checked) {
        checked = check(&["-f", "-y"])?;
    }
    if !mended(&checked) {
        let said = String::from_utf8_lossy(&checked.stdout).trim().replace('\n', "; ");
        return Ok(Err(format!("e2fsck cannot mend the state partition: {said}")));
    }
    for (path, expected) in KEPT {
        let found = cat(&image, &place_of(path))?;
        if found.as_deref().map(str::trim_end) != Some(expected) {
            return Ok(Err(format!("{path} is lost: {found:?}")));
        }
    }
    let Some(text) = cat(&image, "lib/upright/state.json")? else {
        return Ok(Err("the agent's record is lost".to_owned()));
    };
    if let Err(error) = RecordFile::in_folder(folder).parse(text.as_bytes()) {
        return Ok(Err(error.to_string()));
    }
    let record: Value = serde_json::from_str(&text)?;
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let Some(text) = cat(&image, &format!("lib/upright/tuf/{role}.json"))? else { continue };
        if serde_json::from_str::<Value>(&text).is_err() {
            return Ok(Err(format!("the trusted {role}.json is damaged")));
        }
    }
    let _ = fs::remove_file(&image);
    Ok(Ok(StateFound(record["record"]["state"]["state"].as_str().unwrap_or("?").to_owned())))
}

/// A file on an ext4 that nobody has mounted; `None` if it is not there.
fn cat(image: &Path, path: &str) -> Result<Option<String>> {
    let ran = Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(image).output();
    let ran = ran.context("cannot run debugfs")?;
    ensure!(ran.status.success(), "debugfs: {}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stderr);
    match said.contains("File not found") {
        true => Ok(None),
        false => Ok(Some(String::from_utf8(ran.stdout)?)),
    }
}
