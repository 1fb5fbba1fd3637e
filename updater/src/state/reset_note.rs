//! What a boot has reset, kept for the agent that runs after it.

use std::io;

use upright_manifests::name::Slot;

use super::declared::Image;
use super::hands::Hands;
use super::layout::Layout;
use super::reset::{Request, carry_out};
use crate::machine::Reset;

/// The longest note that is read, in bytes.
const MAX_NOTE: u64 = 64 << 10;

/// How many lines are kept of what could not be done, and how many characters of each.
const MOST_LINES: usize = 20;
const MOST_CHARS: usize = 300;

/// Does what [`carry_out`] does, and leaves a note of it. No reset waits for its note.
pub fn carry_out_reset(
    layout: &Layout,
    hands: &Hands<'_>,
    image: &dyn Image,
    slot: Slot,
) -> io::Result<Vec<String>> {
    let pending = Request::pending(layout).ok().flatten();
    let Some(request) = pending else { return carry_out(layout, hands, image, slot, &|| ()) };
    // Before the request goes: power may go in between.
    let begin = || drop(leave(layout, hands, request, &[]));
    let complaints = carry_out(layout, hands, image, slot, &begin).inspect_err(|_| {
        let _ = hands.remove(&layout.reset_done());
    })?;
    if !complaints.is_empty() {
        let _ = leave(layout, hands, request, &complaints);
    }
    Ok(complaints)
}

fn leave(layout: &Layout, hands: &Hands<'_>, request: Request, complaints: &[String]) -> io::Result<()> {
    let Request { var, keep_identity } = request;
    let left = complaints.iter().take(MOST_LINES).map(|line| line.chars().take(MOST_CHARS).collect());
    let note = serde_json::to_string(&Reset { var, keep_identity, left: left.collect() })?;
    hands.write(&layout.reset_done(), &note)
}

/// What a boot has reset since the last [`forget_reset_done`].
pub fn reset_done(layout: &Layout) -> io::Result<Option<Reset>> {
    let text = Layout::text_in(&layout.reset_done(), MAX_NOTE)?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Removes the note of a reset, once it is remembered elsewhere.
pub fn forget_reset_done(layout: &Layout) -> io::Result<()> {
    Hands::default().remove(&layout.reset_done())
}
