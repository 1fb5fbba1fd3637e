//! Makes a build: tree, image, UKI and record, in a folder that gets its name when all is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use upright_manifests::BLOCK_SIZE;
use upright_manifests::boot::grub_uki;
use upright_manifests::digest::Digest;
use upright_manifests::pe::Headers;
use upright_manifests::release;
use upright_manifests::verity;
use upright_manifests::version::Version;

use super::record::{Build, FORMAT, IMAGE, Image, LAYOUT, RECORD, UKI, UKI_LINES, UkiFile, UkiPart};
use super::{advice, failure, layout, state, trust};
use crate::erofs::{self, Layout};
use crate::input::{self, Source};
use crate::repo::error::{Error, Result, chain};
use crate::repo::files::{Files as _, OnDisk};
use crate::repo::progress::Progress;
use crate::repo::signers::Signers;
use crate::repo::workspace::Workspace;
use crate::tree::{CommitInfo, Kind, Store, Tree};
use crate::uki;
use upright_manifests::bytes::human;

/// By how much a release may be ahead of the clock of the machine that builds it.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// What to build.
#[derive(Debug, Clone)]
pub struct Order {
    /// The input.
    pub source: Source,
    /// The release's version.
    pub version: Version,
    /// The release's time; without it, the newest time in the input, or `now` if that is earlier.
    pub time: Option<Timestamp>,
    /// The time of the build.
    pub now: Timestamp,
    /// Whose layout to follow.
    pub base: Base,
    /// The version of the kernel to boot, where the input has several; the newest without it.
    pub kernel: Option<String>,
}

/// Whose layout an image follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// That of the newest build before it.
    Previous,
    /// That of a version.
    Version(Version),
    /// Nobody's.
    Fresh,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The build.
    pub build: Build,
    /// Whether it was there before, byte for byte.
    pub unchanged: bool,
    /// The build whose layout was not followed since too much of the image would have been unused.
    pub not_followed: Option<Version>,
}

/// Builds what `order` says in `workspace`, which the caller has locked.
///
/// All of `signers` sign the tree's commit.
pub fn build(
    workspace: &Workspace,
    order: &Order,
    signers: &Signers,
    progress: &dyn Progress,
) -> Result<Made> {
    keep_apart(workspace, &order.source)?;
    not_of_the_future(order)?;
    let existing = Build::read(&workspace.build(&order.version))?;
    let base = base(workspace, order, existing.as_ref())?;
    let tree = import(workspace, order, base.as_ref(), existing.as_ref(), progress)?;
    for signer in signers.all() {
        let signed = tree.store.sign_commit(&tree.commit, signer);
        signed.map_err(|error| Error::Failed(chain(&error)))?;
    }
    for note in advice::notes(&order.source, &tree.tree, &tree.root) {
        progress.note(&note);
    }
    let folder = workspace.builds().join(format!(".{}", order.version));
    OnDisk.remove(&folder).map_err(Error::file("empty", &folder))?;
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let (build, not_followed) = write(workspace, order, base.as_ref(), &tree, &folder, progress)?;
    let (build, unchanged) = settle(workspace, &tree, existing, build, &folder)?;
    Ok(Made { build, unchanged, not_followed })
}

/// Refuses a folder that the workspace is in: its private keys would be in the image.
fn keep_apart(workspace: &Workspace, source: &Source) -> Result<()> {
    let Source::Directory(folder) = source else { return Ok(()) };
    let real = |path: &Path| path.canonicalize().map_err(Error::file("find", path));
    let root = real(workspace.root())?;
    if !root.starts_with(real(folder)?) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the workspace {} lies in {}, so that its private keys would be in the image; move it out of there",
        root.display(),
        folder.display()
    )))
}

/// Refuses a time that is given and has not come: hosts never take it to be earlier than their image was made, so those that
/// run it would take whatever is signed for expired.
fn not_of_the_future(order: &Order) -> Result<()> {
    let (now, version) = (order.now, &order.version);
    match order.time.filter(|time| time.duration_since(now) > AHEAD) {
        None => Ok(()),
        Some(time) => Err(Error::refused(format!(
            "{version} would be of {time:.0}, and this machine's clock says {now:.0}: hosts that run it would take what is \
             signed before for expired; set the clock, or give an earlier --time"
        ))),
    }
}

/// The newest time in the input, as far as it has come.
fn time_of(newest: u64, now: Timestamp, progress: &dyn Progress) -> Result<Timestamp> {
    let newest = i64::try_from(newest).ok().and_then(|time| Timestamp::from_second(time).ok());
    let newest = newest.ok_or_else(|| {
        Error::refused("the input's newest time is beyond the calendar; give the release's with --time")
    })?;
    if newest <= now {
        return Ok(newest);
    }
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    progress.note(&format!(
        "the input's newest time is {newest}, which has not come: the release is of {now}; give --time to build it again"
    ));
    Ok(now)
}

/// The input in the store.
struct Stored {
    store: Store,
    tree: Tree,
    time: Timestamp,
    commit: Digest,
    versioned: Vec<String>,
    /// Where hosts look for the root of trust.
    root: String,
}

fn import(
    workspace: &Workspace,
    order: &Order,
    base: Option<&Build>,
    existing: Option<&Build>,
    progress: &dyn Progress,
) -> Result<Stored> {
    // A tar's headers are few beside its content; how much a compressed one or a folder holds is not known.
    progress.begin("tree", input::plain_length(&order.source));
    let reached = |bytes| progress.reached(bytes);
    let config = &workspace.config;
    let store = Store::open_or_create(&workspace.trees()).map_err(failure::store)?;
    let batch = store.begin().map_err(failure::store)?.watched(&reached);
    let imported = input::read(&order.source, config.arch, &batch).map_err(failure::read)?;
    // What cannot boot is not kept.
    uki::find_kernel(&imported.tree, order.kernel.as_deref()).map_err(failure::uki)?;
    let time = match order.time {
        Some(time) => time,
        None => time_of(imported.newest, order.now, progress)?,
    };
    // A repeated build comes after what it came after the first time, whether it followed its layout or not.
    let parent = existing.and_then(|existing| store.parent(&existing.commit).ok());
    let info = CommitInfo {
        reference: reference(workspace, &order.version),
        version: order.version.to_string(),
        time: u64::try_from(time.as_second()).map_err(|_| {
            Error::refused(format!("the release time {time} is before 1970; give a later --time"))
        })?,
        parent: parent.unwrap_or_else(|| base.map(|base| base.commit)),
    };
    let commit = batch.commit(&imported.tree, &info).map_err(failure::store)?;
    let versioned = state::declared(&imported.tree, store.objects())?.versioned();
    progress.end(&format!("{} paths, commit {}", imported.tree.paths.len(), commit.short()));
    let root = trust::root_of(workspace, &imported.tree, store.objects())?;
    Ok(Stored { store, tree: imported.tree, time, commit, versioned, root })
}

fn write(
    workspace: &Workspace,
    order: &Order,
    base: Option<&Build>,
    stored: &Stored,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(Build, Option<Version>)> {
    let config = &workspace.config;
    let base = base.filter(|_| order.base != Base::Fresh);
    let layout = base.map(|base| layout::read_with_digest(&workspace.build(&base.version))).transpose()?;
    progress.begin("image", Some(content(&stored.tree)));
    let path = folder.join(IMAGE);
    let out = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(Error::file("create", &path))?;
    let reached = |bytes| progress.reached(bytes);
    let options = erofs::Options {
        time: stored.time,
        release: &format!("{} {}", config.os, order.version),
        base: layout.as_ref().map(|(layout, _)| layout),
        salt: verity::salt(&config.os),
    };
    let written = erofs::write(&stored.tree, stored.store.objects(), &options, &out, &reached)
        .map_err(failure::image)?;
    out.sync_all().map_err(Error::file("sync", &path))?;
    layout::write(&folder.join(LAYOUT), &written.layout)?;
    progress.end(&human(written.size));
    let followed = base.zip(layout).filter(|_| written.followed).map(|(base, (_, layout))| release::Base {
        version: base.version.clone(),
        root_hash: base.root.verity.root_hash,
        layout,
    });
    let not_followed = base.filter(|_| !written.followed).map(|base| base.version.clone());
    let uki = write_uki(workspace, order, stored, &written, &folder.join(UKI))?;
    let build = Build {
        format: FORMAT,
        os: config.os.clone(),
        arch: config.arch,
        version: order.version.clone(),
        time: stored.time,
        commit: stored.commit,
        base: followed.as_ref().map(|base| base.version.clone()),
        followed,
        root: Image {
            size: written.size,
            sha256: written.sha256,
            uuid: written.uuid.to_string(),
            verity: written.verity,
        },
        uki,
        versioned: stored.versioned.clone(),
    };
    let path = folder.join(RECORD);
    fs::write(&path, build.to_bytes()?).map_err(Error::file("write", &path))?;
    for name in [RECORD, LAYOUT, UKI] {
        let path = folder.join(name);
        OnDisk.sync(&path).map_err(Error::file("sync", &path))?;
    }
    OnDisk.sync(folder).map_err(Error::file("sync", folder))?;
    Ok((build, not_followed))
}

/// The bytes of a tree's files, each once: what an image has to hold, but for names and attributes.
fn content(tree: &Tree) -> u64 {
    let sizes = tree.inodes.iter().filter_map(|inode| match &inode.kind {
        Kind::File(content) => Some((content.sha256, content.size)),
        _ => None,
    });
    sizes.collect::<BTreeMap<_, _>>().values().sum()
}

fn write_uki(
    workspace: &Workspace,
    order: &Order,
    stored: &Stored,
    image: &erofs::Written,
    out: &Path,
) -> Result<UkiFile> {
    let config = &workspace.config;
    let plan = uki::Plan {
        os: &config.os,
        version: &order.version,
        arch: config.arch,
        image_uuid: image.uuid,
        verity: &image.verity,
        extra: &config.kernel.cmdline,
        kernel: order.kernel.as_deref(),
    };
    let built = uki::write(&stored.tree, stored.store.objects(), &plan, out).map_err(failure::uki)?;
    let certificate = match &config.secure_boot {
        None => None,
        Some(keys) => {
            let certificate = workspace.resolve(&keys.certificate);
            uki::sign(out, &workspace.resolve(&keys.key), &certificate).map_err(failure::uki)?;
            Some(uki::certificate_digest(&certificate).map_err(failure::uki)?)
        }
    };
    let bytes = fs::read(out).map_err(Error::file("read", out))?;
    if let Some(lines) = lines_for_grub(&bytes) {
        let path = out.with_file_name(UKI_LINES);
        fs::write(&path, lines).map_err(Error::file("write", &path))?;
    }
    Ok(UkiFile {
        size: bytes.len() as u64,
        sha256: Digest::of(&bytes),
        certificate,
        kernel: built.kernel,
        parts: built.parts.iter().map(|part| place(&image.layout, part)).collect::<Result<_>>()?,
    })
}

/// What whoever sets up a board with a BIOS puts beside the UKI; agents make it for themselves.
fn lines_for_grub(uki: &[u8]) -> Option<String> {
    let headers = Headers::parse(uki).ok()?;
    let (offset, length) = headers.section(".cmdline")?.content();
    let command_line = uki.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(length).ok()?)?;
    grub_uki::lines(&headers, std::str::from_utf8(command_line).ok()?)
}

/// Where a part of the UKI stands in the image.
fn place(layout: &Layout, part: &uki::Part) -> Result<UkiPart> {
    let run = layout.files.iter().find(|run| run.sha256 == part.sha256 && run.size == part.length);
    let run = run.ok_or_else(|| {
        let path = String::from_utf8_lossy(&part.path);
        Error::Failed(format!("the image's layout lacks /{path}, which is part of the UKI"))
    })?;
    Ok(UkiPart { at: part.at, length: part.length, root_offset: run.start * BLOCK_SIZE })
}

/// Gives the finished folder its name, unless there is a build of that version; says whether there was.
fn settle(
    workspace: &Workspace,
    stored: &Stored,
    existing: Option<Build>,
    build: Build,
    folder: &Path,
) -> Result<(Build, bool)> {
    let place = workspace.build(&build.version);
    let Some(existing) = existing else {
        // What is there without a record is a build that was being removed.
        OnDisk.remove(&place).map_err(Error::file("remove", &place))?;
        fs::rename(folder, &place).map_err(Error::file("create", &place))?;
        OnDisk.sync(&workspace.builds()).map_err(Error::file("sync", &workspace.builds()))?;
        return Ok((build, false));
    };
    OnDisk.remove(folder).map_err(Error::file("remove", folder))?;
    if existing.is(&build) {
        return Ok((existing, true));
    }
    // The ref is that of the build which stays.
    stored.store.point(&reference(workspace, &existing.version), &existing.commit).map_err(failure::store)?;
    Err(Error::refused(difference(&existing, &build, &place)))
}

fn difference(existing: &Build, build: &Build, place: &Path) -> String {
    let what = if existing.commit != build.commit {
        format!(
            "other content or another time (commit {}, now {})",
            existing.commit.short(),
            build.commit.short()
        )
    } else if existing.root != build.root {
        "another layout (see --base and --fresh)".to_owned()
    } else {
        "another kernel, stub, command line or Secure Boot key".to_owned()
    };
    format!(
        "{} was built before with {what} and stays as it is; choose a new version, or remove {} if it was never \
         published",
        build.version,
        place.display()
    )
}

/// The build whose layout and history this one follows.
fn base(workspace: &Workspace, order: &Order, existing: Option<&Build>) -> Result<Option<Build>> {
    if let Base::Version(version) = &order.base {
        return Build::require(workspace, version).map(Some);
    }
    // A repeated build follows what it followed the first time, whatever was built since.
    if let (Some(existing), Base::Previous) = (existing, &order.base) {
        return existing.base.as_ref().map(|base| Build::require(workspace, base)).transpose();
    }
    let builds = Build::all(workspace)?;
    Ok(builds.into_iter().rev().find(|build| order.version.is_newer_than(&build.version)))
}

fn reference(workspace: &Workspace, version: &Version) -> String {
    format!("{}/{}/{version}", workspace.config.os, workspace.config.arch)
}
