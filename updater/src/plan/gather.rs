//! Reads both images' `/etc` and what was changed here, and says what becomes of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::Serialize;
use upright_manifests::digest::{Digest, Digester};
use upright_manifests::erofs::{ErofsError, FileType, Node, Reader};
use upright_manifests::name::Slot;
use upright_manifests::state::{Declarations, Kind};
use upright_manifests::version::Version;

use super::compare::{Because, Fact, Files, Local, compare};
use crate::host::{Access, BlockDevice, Host, Part};
use crate::slot::Image;
use crate::state::{self, Copied, Layout, Need, Request, StateError};

/// The most paths that an image may have below `/etc`, and the most that may be changed there.
const MOST: usize = 200_000;

/// What becomes of a host's state when the other slot boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The slot that would boot.
    pub slot: Slot,
    /// The release in it.
    pub version: Version,
    /// Whether it has not run yet: its first boot copies what the slot that runs has.
    pub first_boot: bool,
    /// What the next boot resets before that.
    pub reset: Option<Request>,
    /// Why a reset that was asked for is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_error: Option<String>,
    /// Local changes in the way of changed defaults.
    pub differences: Vec<Difference>,
    /// Local changes that are in the way of nothing.
    pub local: Vec<String>,
    /// Changed here, and not what the other slot has: it stays with the slot that runs.
    pub stays: Vec<String>,
    /// What follows the host, of what was changed here.
    pub follows: Vec<Follows>,
    /// What is versioned.
    pub versioned: Vec<Copied>,
    /// What the copies need.
    pub room: Need,
    /// How many bytes are missing for them.
    pub missing: u64,
    /// Why what is versioned cannot be copied, if it cannot.
    pub unfit: Option<String>,
    /// Lines of the release's declarations that do not count.
    pub bad_lines: Vec<String>,
}

/// A local change in the way of a changed default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// How.
    pub because: Because,
    /// What hides it, if it is hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A path that follows the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Follows {
    /// The path.
    pub path: String,
    /// As what.
    pub kind: Kind,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// An image cannot be read.
    #[error("cannot read /etc in slot {slot}: {source}; `upright verify {slot}` says whether it is damaged")]
    Image {
        /// The slot.
        slot: Slot,
        /// What is wrong.
        source: io::Error,
    },
    /// The upper layer cannot be read.
    #[error("cannot read what was changed in /etc: {0}")]
    Upper(io::Error),
    /// What is versioned cannot be looked at.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What becomes of the state in `layout` when `slot` boots, which holds `version`.
pub fn plan(host: &dyn Host, layout: &Layout, slot: Slot, version: Version) -> Result<Plan, PlanError> {
    let running = slot.other();
    let open = |slot| -> Result<Box<dyn BlockDevice>, PlanError> {
        host.slots().open(slot, Part::Root, Access::Read).map_err(|source| PlanError::Image { slot, source })
    };
    let (from, to) = (open(running)?, open(slot)?);
    let at = |slot| move |source: ErofsError| PlanError::Image { slot, source: io::Error::other(source) };
    let old = Reader::open(Image(from.as_ref())).and_then(|image| defaults(&image)).map_err(at(running))?;
    let image = Reader::open(Image(to.as_ref())).map_err(at(slot))?;
    let new = defaults(&image).map_err(at(slot))?;
    let (declared, bad_lines) =
        state::declared(&image).map_err(|source| PlanError::Image { slot, source })?;
    let first_boot = state::is_fresh(layout, slot)?;
    let here = changes(&layout.upper(running)).map_err(PlanError::Upper)?;
    let (reset, reset_error) = match Request::pending(layout) {
        Ok(reset) => (reset, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let (upper, stays) = match (reset, first_boot) {
        (Some(request), _) => (left_by_a_reset(request, &declared, here), Vec::new()),
        (None, true) => (here, Vec::new()),
        (None, false) => merged(&declared, &here, changes(&layout.upper(slot)).map_err(PlanError::Upper)?),
    };
    let (found, local) = compare(&old, &new, &upper);
    let mut differences = Vec::new();
    for found in found {
        // The image's users are added to the host's, and no image knows better who this host is.
        let is_settled = matches!(declared.follows(&found.path), Some(Kind::Accounts | Kind::Identity));
        if found.because != Because::Changed || !is_settled {
            let by = found.by.map(|by| shown(&by));
            differences.push(Difference { path: shown(&found.path), because: found.because, by });
        }
    }
    let mut follows = Vec::new();
    for (path, local) in &upper {
        if let (Some(kind), false) = (declared.follows(path), is_merged_folder(local)) {
            follows.push(Follows { path: shown(path), kind });
        }
    }
    let mut room = Need::default();
    let mut unfit = None;
    let versioned = match first_boot {
        _ if reset.is_some_and(|request| request.var) => Vec::new(),
        false => state::comes_back(layout, slot)?,
        true => match state::copies(layout, slot, &declared.versioned()) {
            Ok(copies) => {
                room = state::room_for(layout, slot, &copies)?;
                copies
            }
            Err(error @ StateError::Unfit { .. }) => {
                unfit = Some(error.to_string());
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Plan {
        slot,
        version,
        first_boot,
        reset,
        reset_error,
        differences,
        local: local.iter().map(|path| shown(path)).collect(),
        stays,
        follows,
        versioned,
        room,
        missing: room.missing(),
        unfit,
        bad_lines,
    })
}

/// What a reset leaves of `here`, for both slots.
fn left_by_a_reset(request: Request, declared: &Declarations, mut here: Files) -> Files {
    here.retain(|path, _| request.keep_identity && declared.follows(path) == Some(Kind::Identity));
    here
}

/// What the other slot has of its own with what follows from `here`; and what is here and stays.
fn merged(declared: &Declarations, here: &Files, there: Files) -> (Files, Vec<String>) {
    let (mut merged, mut stays) = (Files::new(), Vec::new());
    for (path, local) in here {
        if declared.follows(path).is_some() {
            merged.insert(path.clone(), *local);
        } else if there.get(path) != Some(local) && !is_merged_folder(local) {
            stays.push(shown(path));
        }
    }
    for (path, local) in there {
        if declared.follows(&path).is_none() {
            merged.insert(path, local);
        }
    }
    (merged, stays)
}

fn is_merged_folder(local: &Local) -> bool {
    matches!(local, Local::Here(Fact { folder: true, .. }))
}

fn shown(path: &[u8]) -> String {
    format!("/etc/{}", String::from_utf8_lossy(path))
}

/// The path of what is called `name` in a folder; that of `/etc` itself is empty.
fn below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// What an image has below `/etc`.
fn defaults(image: &Reader<Image<'_>>) -> Result<Files, ErofsError> {
    let mut found = Files::new();
    let Some(etc) = image.lookup(b"etc")? else { return Ok(found) };
    let mut open = vec![(Vec::new(), etc)];
    while let Some((path, folder)) = open.pop() {
        for entry in image.entries(&folder)? {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let node = image.node(entry.nid)?;
            let at = below(&path, &entry.name);
            found.insert(at.clone(), Local::Here(fact_in_image(image, &node)?));
            if found.len() > MOST {
                return Err(ErofsError::Corrupt {
                    nid: entry.nid,
                    reason: "more files in /etc than are read",
                });
            }
            if node.inode.kind == FileType::Directory {
                open.push((at, node));
            }
        }
    }
    Ok(found)
}

fn fact_in_image(image: &Reader<Image<'_>>, node: &Node) -> Result<Fact, ErofsError> {
    let inode = &node.inode;
    let mut facts = Facts::of(u32::from(inode.permissions), inode.uid, inode.gid);
    let kind = match inode.kind {
        FileType::Directory => b'd',
        FileType::Regular => {
            let (mut buffer, mut at) = (vec![0; PIECE], 0);
            loop {
                match image.read(node, at, &mut buffer)? {
                    0 => break,
                    read => {
                        facts.add(buffer.get(..read).unwrap_or_default());
                        at += read as u64;
                    }
                }
            }
            b'f'
        }
        FileType::Symlink => {
            facts.add(&image.target(node)?);
            b'l'
        }
        _ => b'o',
    };
    Ok(facts.end(kind))
}

/// How much of a file is in memory at a time.
const PIECE: usize = 64 << 10;

/// What makes up a [`Fact`].
struct Facts(Digester, [u32; 3]);

impl Facts {
    fn of(mode: u32, uid: u32, gid: u32) -> Self {
        Self(Digester::new(), [mode & 0o7777, uid, gid])
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn end(self, kind: u8) -> Fact {
        let content = self.0.finish();
        let mut all = content.as_bytes().to_vec();
        // A link's permissions mean nothing.
        let [mode, uid, gid] = self.1;
        let mode = if kind == b'l' { 0 } else { mode };
        for number in [u32::from(kind), mode, uid, gid] {
            all.extend(number.to_le_bytes());
        }
        Fact { folder: kind == b'd', digest: Digest::of(&all) }
    }
}

/// What an upper layer has.
fn changes(upper: &Path) -> io::Result<Files> {
    let mut found = Files::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let folder = upper.join(std::ffi::OsStr::from_bytes(&path));
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(named(&folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(named(&folder))?;
            let at = below(&path, entry.file_name().as_bytes());
            let Some(local) = local(&entry.path()).map_err(named(&entry.path()))? else { continue };
            if matches!(local, Local::Opaque(_)) || is_merged_folder(&local) {
                open.push(at.clone());
            }
            found.insert(at, local);
            if found.len() > MOST {
                return Err(io::Error::other(format!("there are more than {MOST} files")));
            }
        }
    }
    Ok(found)
}

/// Says which file it is about.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", state::told(path)))
}

/// What the upper layer has at a path; none if it has just gone.
fn local(path: &Path) -> io::Result<Option<Local>> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let kind = meta.file_type();
    if kind.is_char_device() && meta.rdev() == 0 {
        return Ok(Some(Local::Deleted));
    }
    let mut facts = Facts::of(meta.mode(), meta.uid(), meta.gid());
    if kind.is_dir() {
        let mut value = [0; 1];
        let opaque = rustix::fs::lgetxattr(path, c"trusted.overlay.opaque", &mut value);
        let fact = facts.end(b'd');
        return Ok(Some(match opaque.is_ok() && value == *b"y" {
            true => Local::Opaque(fact),
            false => Local::Here(fact),
        }));
    }
    let kind = if kind.is_file() {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => facts.add(buffer.get(..read).unwrap_or_default()),
            }
        }
        b'f'
    } else if kind.is_symlink() {
        facts.add(fs::read_link(path)?.as_os_str().as_bytes());
        b'l'
    } else {
        b'o'
    };
    Ok(Some(Local::Here(facts.end(kind))))
}
