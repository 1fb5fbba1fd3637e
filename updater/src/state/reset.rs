//! Back to the image: what an operator asked for, and what the next boot makes of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use upright_manifests::name::Slot;
use upright_manifests::state::{Kind, outermost};

use super::copy::Copier;
use super::declared::{Image, declared};
use super::follow::{lead_to, make_folders};
use super::hands::{Hands, beside};
use super::last::Last;
use super::layout::Layout;
use super::versioned::{Need, shares_blocks, size};
use super::with_reserve;
use crate::room::free;
use crate::store::reserved;

/// The words of a request: what is to be reset, and whether something is kept.
const WORDS: [&str; 3] = ["etc", "var", "keep-identity"];

/// The largest request, in bytes. Programs of other releases read no more.
const MAX_REQUEST: usize = 256;

/// What a folder takes of a file system, in bytes.
const BLOCK: u64 = 4096;

/// What is to be reset. `/etc` always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Request {
    /// Whether `/var` is, too.
    pub var: bool,
    /// Whether what makes this host this one stays.
    pub keep_identity: bool,
}

impl Request {
    /// The request that is pending. One that cannot be read is neither none nor one to empty `/etc` and keep nothing.
    pub fn pending(layout: &Layout) -> io::Result<Option<Self>> {
        let failed = |error| io::Error::other(format!("cannot read {}: {error}", layout.reset().display()));
        let text = Layout::text_in(&layout.reset(), MAX_REQUEST as u64).map_err(failed)?;
        let Some(text) = text else { return Ok(None) };
        let words = text.lines().next().unwrap_or_default();
        match WORDS.map(|word| words.split_whitespace().any(|other| other == word)) {
            [true, var, keep_identity] => Ok(Some(Self { var, keep_identity })),
            _ => Err(io::Error::other("the request is damaged; `upright reset --cancel` removes it")),
        }
    }

    /// Leaves the request for the next boot, durably.
    pub fn leave(&self, layout: &Layout) -> io::Result<()> {
        let hands = Hands::default();
        // What an earlier reset made has served.
        settle(layout, &hands)?;
        hands.write(&layout.reset(), &self.text(""))
    }

    /// How much room in `/var` is missing now for this host's identity, in words, if any is. The boot looks again: it may be that of another
    /// image.
    pub fn shortfall(layout: &Layout, image: &dyn Image, slot: Slot) -> io::Result<Option<String>> {
        Ok(shortfall(layout, &identity(layout, image, slot)?))
    }

    /// Takes the request back; gives what a boot has done of it already.
    pub fn cancel(layout: &Layout) -> io::Result<Option<Begun>> {
        let (hands, begun) = (Hands::default(), Begun::of(layout)?);
        hands.remove(&layout.reset()).and_then(|()| hands.sync(layout.own()))?;
        settle(layout, &hands)?;
        Ok(begun)
    }

    /// Why the last boot could not carry it out, if one tried.
    pub fn refused(layout: &Layout) -> Option<String> {
        let text = Layout::text_in(&layout.reset(), MAX_REQUEST as u64).ok()??;
        let reason = text.lines().nth(1)?.trim();
        (!reason.is_empty()).then(|| reason.to_owned())
    }

    /// The file's text: the request, then why it could not be carried out. It is always as long, so that a full disk has room for the
    /// reason, too.
    fn text(self, reason: &str) -> String {
        let words = WORDS.into_iter().zip([true, self.var, self.keep_identity]);
        let words: Vec<_> = words.filter(|(_, asked)| *asked).map(|(word, _)| word).collect();
        // Older programs look for words on all lines.
        let reason: Vec<_> = reason.split_whitespace().filter(|word| !WORDS.contains(word)).collect();
        let mut text = words.join(" ") + "\n" + &reason.join(" ");
        text.truncate(text.floor_char_boundary(MAX_REQUEST - 1));
        let fill = MAX_REQUEST.saturating_sub(text.len());
        text + &"\n".repeat(fill)
    }
}

/// What boots have done of a reset that is pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// The slots whose `/etc` was reset.
    pub etc: Vec<Slot>,
}

impl Begun {
    fn of(layout: &Layout) -> io::Result<Option<Self>> {
        let ready = layout.reset_ready();
        if !Layout::is_there(&ready)? {
            return Ok(None);
        }
        let mut etc = Vec::new();
        for slot in Slot::ALL {
            if !Layout::is_there(&ready.join(slot.as_str()))? {
                etc.push(slot);
            }
        }
        Ok(Some(Self { etc }))
    }
}

/// Carries out the request that is pending, if one is, when `slot` boots; gives what could not be done. The image's `/var` is
/// to be copied afterwards if it is. `begin` is called before anything is emptied.
///
/// Power may go anywhere: the request goes last, and what is to be kept is always in one place at least. All that needs room is done
/// before anything is emptied, and nothing is emptied twice: a system may have run in between.
pub(super) fn carry_out(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
    begin: &dyn Fn(),
) -> io::Result<Vec<String>> {
    let Some(request) = Request::pending(layout)? else { return Ok(Vec::new()) };
    let ready = make_ready(layout, hands, image, slot, request);
    // Where nothing is kept, emptying makes the room that is missing.
    let done =
        ready.or_else(|error| if request.keep_identity { Err(error) } else { Ok(()) }).and_then(|()| {
            begin();
            empty(layout, hands, request)
        });
    done.inspect_err(|error| {
        // Whoever looks at the boot's messages reads it there at any rate.
        let _ = hands.overwrite(&layout.reset(), &request.text(&error.to_string()));
    })
}

/// Empties what was asked for.
fn empty(layout: &Layout, hands: &Hands<'_>, request: Request) -> io::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let is_ready = Layout::is_there(&layout.reset_ready())?;
    for slot in Slot::ALL {
        let (made, at) = (layout.reset_ready().join(slot.as_str()), layout.etc(slot));
        if is_ready && !Layout::is_there(&made)? {
            continue;
        }
        for path in [at.clone(), beside(&at, "new"), beside(&at, "old")] {
            remove_or_set_aside(hands, &path, &mut complaints)?;
        }
        if is_ready {
            hands.rename(&made, &at)?;
        }
    }
    hands.sync(layout.own())?;
    if request.var {
        empty_var(layout, hands, &mut complaints)?;
    }
    hands.sync(layout.own())?;
    hands.remove(&layout.reset())?;
    hands.sync(layout.own())?;
    settle(layout, hands)?;
    Ok(complaints)
}

/// Makes aside what is to be `/etc` of each slot; both have what is kept, since the one that boots may take what the other has. What is
/// there already was made by a boot that was cut off, and whatever is missing in it has its place.
fn make_ready(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
    request: Request,
) -> io::Result<()> {
    let (ready, new) = (layout.reset_ready(), beside(&layout.reset_ready(), "new"));
    if Layout::look(&ready)?.is_some_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    hands.remove(&ready)?;
    let kept = if request.keep_identity { identity(layout, image, slot)? } else { Vec::new() };
    let made = with_reserve(layout, || {
        hands.remove(&new)?;
        make_both(layout, hands, &new, &kept)
    });
    made.map_err(|error| {
        // Half of it is in nobody's way but takes room.
        let _ = hands.remove(&new);
        with_shortfall(layout, &kept, error)
    })?;
    hands.sync(layout.own())?;
    hands.rename(&new, &ready)?;
    hands.sync(layout.own())
}

fn make_both(layout: &Layout, hands: &Hands<'_>, new: &Path, kept: &[Kept]) -> io::Result<()> {
    for slot in Slot::ALL {
        let upper = new.join(slot.as_str()).join("upper");
        hands.make_folder(&upper)?;
        for Kept { from, path } in kept {
            make_folders(hands, from, &upper, path)?;
            Copier::new(hands).copy(&from.join(path), &upper.join(path))?;
        }
        hands.make_folder(layout.etc(slot).parent().unwrap_or(layout.own()))?;
    }
    Ok(())
}

/// Says how much room is missing, if that is what was.
fn with_shortfall(layout: &Layout, kept: &[Kept], error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::StorageFull {
        return io::Error::new(error.kind(), format!("{error}; nothing was reset"));
    }
    // Without a shortfall, some other limit was reached, such as that of the number of files.
    let room = shortfall(layout, kept).unwrap_or_else(|| error.to_string());
    io::Error::new(error.kind(), format!("no room for what it keeps: {room}; nothing was reset"))
}

/// How much room is missing for what is kept, if any is.
fn shortfall(layout: &Layout, kept: &[Kept]) -> Option<String> {
    let folders = |path: &str| path.matches('/').count() as u64;
    let sizes = kept.iter().map(|kept| {
        let size = size(&kept.from.join(&kept.path), &kept.path, shares_blocks(layout.own())).unwrap_or(0);
        size.saturating_add(folders(&kept.path).saturating_mul(BLOCK))
    });
    // The folders of both slots, and the one that these are in.
    let needed = sizes.fold(5 * BLOCK, |sum, size| sum.saturating_add(size.saturating_mul(2)));
    let available = free(layout.own()).ok()?.saturating_add(reserved(layout.own()));
    let missing = Need { needed, available }.missing();
    (missing > 0)
        .then(|| format!("{needed} bytes are needed in /var, which has {available}: {missing} too few"))
}

/// Ends what a reset that is not pending any more has left: a slot that has no `/etc` gets what was made for it.
pub(super) fn settle(layout: &Layout, hands: &Hands<'_>) -> io::Result<()> {
    let ready = layout.reset_ready();
    for slot in Slot::ALL {
        let (made, at) = (ready.join(slot.as_str()), layout.etc(slot));
        if Layout::is_there(&made)? && !Layout::is_there(&at)? {
            hands.rename(&made, &at)?;
        }
    }
    for path in [beside(&ready, "new"), ready, beside(&layout.reset_kept(), "new"), layout.reset_kept()] {
        if Layout::is_there(&path)? {
            hands.sync(layout.own())?;
            hands.remove(&path)?;
        }
    }
    Ok(())
}

/// What cannot be removed must not keep the rest, nor have every boot try again.
fn remove(hands: &Hands<'_>, path: &Path, complaints: &mut Vec<String>) {
    if let Err(error) = hands.remove(path) {
        complaints.push(format!("cannot remove all of {}: {error}", path.display()));
    }
}

/// The same for what something else takes the place of, or of which half must not be taken for all.
fn remove_or_set_aside(hands: &Hands<'_>, path: &Path, complaints: &mut Vec<String>) -> io::Result<()> {
    remove(hands, path, complaints);
    if Layout::is_there(path)? { hands.set_aside(path).map(drop) } else { Ok(()) }
}

/// What is kept: a path below a folder.
struct Kept {
    from: PathBuf,
    path: String,
}

/// What the slot that ran last has as this host's identity.
fn identity(layout: &Layout, image: &dyn Image, slot: Slot) -> io::Result<Vec<Kept>> {
    let kept = layout.reset_kept();
    // An older program was cut off after it had copied it there, and it may be nowhere else.
    if Layout::look(&kept)?.is_some_and(|meta| meta.is_dir()) {
        let names = fs::read_dir(&kept)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names = names.filter_map(|name: io::Result<_>| name.transpose());
        return names.map(|path| Ok(Kept { from: kept.clone(), path: path? })).collect();
    }
    let (declared, _) = declared(image)?;
    let last = Last::read(layout).ok().flatten().unwrap_or(Last { slot, owed: Vec::new() });
    let (from, other) = (layout.upper(last.slot), layout.upper(last.slot.other()));
    let mut unseen = Vec::new();
    let paths = super::follow::paths(&declared, &[Kind::Identity], &[&from, &other], &mut unseen);
    if let Some(line) = unseen.into_iter().next() {
        return Err(io::Error::other(line));
    }
    let mut found = Vec::new();
    for path in outermost(paths) {
        // What could not follow is older there.
        let from = if last.owes(layout, &path) { &other } else { &from };
        if lead_to(from, &path)? && Layout::is_there(&from.join(&path))? {
            found.push(Kept { from: from.clone(), path });
        }
    }
    Ok(found)
}

/// Removes everything in `/var` but what the agent has to remember: what it did, and whom it trusts and up to which version.
fn empty_var(layout: &Layout, hands: &Hands<'_>, complaints: &mut Vec<String>) -> io::Result<()> {
    let own = layout.own();
    let names = |folder: &Path| -> io::Result<Vec<std::path::PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    remove_or_set_aside(hands, &own.join("versioned"), complaints)?;
    // With it gone, the image's files are copied again, whenever power goes.
    hands.remove(&own.join("filled"))?;
    hands.sync(own)?;
    let lib = layout.var().join("lib");
    for path in names(layout.var())?.into_iter().chain(names(&lib)?) {
        // fsck's own folder is made with the file system.
        if path != lib && path != own && !path.ends_with("lost+found") {
            remove(hands, &path, complaints);
        }
    }
    Ok(())
}
