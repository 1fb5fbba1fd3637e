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
use crate::story::{KEPT, LINES, RELEASES};

/// What the agent remembers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StateFound {
    state: String,
    /// Whether the newer release is remembered as one that was left.
    is_left: bool,
    /// Whether e2fsck has to be told to mend what it finds.
    is_forced: bool,
}

impl StateFound {
    /// Whether the newer release is, or is about to be, one that was left.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_left || self.state == "rolling-back"
    }
}

impl fmt::Display for StateFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)?;
        f.write_str(if self.is_left { ", which left the newer one" } else { "" })?;
        f.write_str(if self.is_forced { ", once e2fsck has mended more than the journal" } else { "" })
    }
}

/// Where a path of the guest is on the partition; `/etc` is the overlay of a slot that has run.
fn place_of(path: &str, slot: &str) -> String {
    match path.strip_prefix("/etc/") {
        Some(name) => format!("lib/upright/etc/{slot}/upper/{name}"),
        None => path.trim_start_matches("/var/").to_owned(),
    }
}

/// Looks at the partition, whose bytes `content` starts with; or says in one line what was lost.
pub(super) fn look(
    content: &dyn Content,
    area: &Range<u64>,
    folder: &Path,
) -> Result<Result<(StateFound, u64), String>> {
    let image = folder.join("var");
    extract(content, area.end - area.start, &image)?;
    let check =
        |how: &[&str]| Command::new("e2fsck").args(how).arg(&image).output().context("cannot run e2fsck");
    // 0: nothing was wrong, or the journal was all there was to do; 1: mended.
    let mended = |checked: &Output| matches!(checked.status.code(), Some(0 | 1));
    // As dist/dracut/90upright/mount-state.sh does it. Of a superblock half may have been written.
    let mut checked = check(&["-p"])?;
    let is_forced = !mended(&checked);
    if is_forced {
        checked = check(&["-f", "-y"])?;
    }
    if !mended(&checked) {
        let said = String::from_utf8_lossy(&checked.stdout).trim().replace('\n', "; ");
        return Ok(Err(format!("e2fsck cannot mend the state partition: {said}")));
    }
    let last = cat(&image, "lib/upright/last-slot")?.unwrap_or_default();
    let slots = ["a", last.lines().next().unwrap_or("a").trim()];
    for (path, expected) in KEPT {
        for slot in slots {
            let found = cat(&image, &place_of(path, slot))?;
            if found.as_deref().map(str::trim_end) != Some(expected) {
                return Ok(Err(format!("{path} of slot {slot} is lost: {found:?}")));
            }
        }
    }
    let text = cat(&image, &place_of(LINES, "a"))?.unwrap_or_default();
    let lines =
        text.lines().zip(1u64..).take_while(|(line, number)| **line == number.to_string()).count() as u64;
    let Some(text) = cat(&image, "lib/upright/state.json")? else {
        return Ok(Err("the agent's record is lost".to_owned()));
    };
    if let Err(error) = RecordFile::in_folder(folder).parse(text.as_bytes()) {
        return Ok(Err(error.to_string()));
    }
    let record: Value = serde_json::from_str(&text)?;
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let Some(text) = cat(&image, &format!("lib/upright/tuf/{role}.json"))? else {
            // As long as there is no newer root than the image's, none is stored.
            if role == "root" {
                continue;
            }
            return Ok(Err(format!("the trusted {role}.json is lost")));
        };
        if serde_json::from_str::<Value>(&text).is_err() {
            return Ok(Err(format!("the trusted {role}.json is damaged")));
        }
    }
    let _ = fs::remove_file(&image);
    let record = &record["record"];
    let state = record["state"]["state"].as_str().unwrap_or("?").to_owned();
    let bad = record["bad"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_left = bad.iter().any(|bad| bad["version"] == RELEASES[1]);
    Ok(Ok((StateFound { state, is_left, is_forced }, lines)))
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
