//! Back to the image: what an operator asked for, and what the next boot makes of it.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use upright_manifests::name::Slot;
use upright_manifests::state::{Kind, outermost};

use super::copy::Copier;
use super::declared::{Image, declared};
use super::follow::{lead_to, make_folders};
use super::hands::{Hands, beside};
use super::last::Last;
use super::layout::Layout;

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
        let Some(text) = Layout::text_in(&layout.reset(), 256)? else { return Ok(None) };
        let has = |word: &str| text.split_whitespace().any(|other| other == word);
        match has("etc") {
            true => Ok(Some(Self { var: has("var"), keep_identity: has("keep-identity") })),
            false => Err(io::Error::other("the request is damaged; `upright reset --cancel` removes it")),
        }
    }

    /// Leaves the request for the next boot, durably.
    pub fn leave(&self, layout: &Layout) -> io::Result<()> {
        let words = [("etc", true), ("var", self.var), ("keep-identity", self.keep_identity)];
        let words: Vec<_> = words.iter().filter(|(_, asked)| *asked).map(|(word, _)| *word).collect();
        let hands = Hands::default();
        // What an earlier reset kept has served.
        hands.remove(&layout.reset_kept()).and_then(|()| hands.sync(layout.own()))?;
        hands.write(&layout.reset(), &(words.join(" ") + "\n"))
    }

    /// Takes the request back.
    pub fn cancel(layout: &Layout) -> io::Result<()> {
        let hands = Hands::default();
        hands.remove(&layout.reset()).and_then(|()| hands.sync(layout.own()))
    }
}

/// Carries out the request that is pending, if one is, when `slot` boots; gives what could not be done. The image's `/var` is
/// to be copied afterwards if it is.
///
/// Power may go anywhere: the request goes last, and what is to be kept is always in one place at least.
pub(super) fn carry_out(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
) -> io::Result<Vec<String>> {
    let Some(request) = Request::pending(layout)? else { return Ok(Vec::new()) };
    let mut complaints = Vec::new();
    let kept = layout.reset_kept();
    if request.keep_identity && !Layout::is_there(&kept)? {
        keep(layout, hands, image, slot, &kept)?;
    }
    for slot in Slot::ALL {
        for path in [layout.etc(slot), beside(&layout.etc(slot), "new"), beside(&layout.etc(slot), "old")] {
            remove_or_set_aside(hands, &path, &mut complaints)?;
        }
    }
    // Both slots have it, since the one that boots may take what the other has.
    for slot in Slot::ALL.into_iter().filter(|_| request.keep_identity) {
        let new = beside(&layout.etc(slot), "new");
        hands.make_folder(&new)?;
        Copier::new(hands).copy(&kept, &new.join("upper"))?;
        hands.sync(layout.own())?;
        hands.rename(&new, &layout.etc(slot))?;
    }
    if request.var {
        empty_var(layout, hands, &mut complaints)?;
    }
    // What is kept goes after the request: half of it would be taken for all.
    hands.sync(layout.own())?;
    hands.remove(&layout.reset())?;
    hands.sync(layout.own())?;
    hands.remove(&kept)?;
    Ok(complaints)
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

/// Makes a copy of what the slot that ran last has as this host's identity.
fn keep(layout: &Layout, hands: &Hands<'_>, image: &dyn Image, slot: Slot, kept: &Path) -> io::Result<()> {
    let (declared, _) = declared(image)?;
    let last = Last::read(layout).ok().flatten().unwrap_or(Last { slot, owed: Vec::new() });
    let (from, other) = (layout.upper(last.slot), layout.upper(last.slot.other()));
    let new = beside(kept, "new");
    hands.remove(&new)?;
    hands.make_folder(&new)?;
    let mut unseen = Vec::new();
    let paths = super::follow::paths(&declared, &[Kind::Identity], &[&from, &other], &mut unseen);
    if let Some(line) = unseen.into_iter().next() {
        return Err(io::Error::other(line));
    }
    for path in outermost(paths) {
        // What could not follow is older there.
        let from = if last.owes(layout, &path) { &other } else { &from };
        if !lead_to(from, &path)? || !Layout::is_there(&from.join(&path))? {
            continue;
        }
        make_folders(hands, from, &new, &path)?;
        Copier::new(hands).copy(&from.join(&path), &new.join(&path))?;
    }
    hands.sync(layout.own())?;
    hands.rename(&new, kept)?;
    hands.sync(layout.own())
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
