//! `upright reset`.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::Args;
use upright_manifests::erofs::Reader;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::AgentError;
use crate::host::{Access, Host, Part};
use crate::slot::Image;
use crate::state::{Begun, Layout, Request, StateError};
use crate::store::StoreError;

/// Go back to what the image has, at the next boot: /etc, and /var if asked
///
/// What was changed in /etc is removed for both slots, so that no rollback brings it back. What the agent remembers and trusts
/// stays: a reset host takes nothing that it would not have taken before.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// Empty /var, too
    #[arg(long)]
    var: bool,

    /// Keep what makes this host this one: what releases declare as identity, such as its machine id and host keys
    #[arg(long)]
    keep_identity: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Reboot now
    #[arg(long)]
    reboot: bool,

    /// Take back a reset that the next boot would carry out
    #[arg(long, conflicts_with_all = ["var", "keep_identity", "yes", "reboot"])]
    cancel: bool,
}

impl Reset {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let _lock = context.lock()?;
        let layout = Layout::around(&context.folder);
        let failed = |error: io::Error| {
            // It says already what could not be written.
            error
                .downcast::<StoreError>()
                .unwrap_or_else(|source| StoreError::Write { path: context.folder.join("reset"), source })
        };
        if self.cancel {
            let pending = Request::pending(&layout);
            let begun = Request::cancel(&layout).map_err(failed)?;
            let line = match (&pending, &begun) {
                (Ok(None), _) => "no reset was pending".to_owned(),
                (Ok(Some(request)), Some(begun)) => describe_rest(*request, begun),
                (Ok(Some(_)) | Err(_), _) => "the reset is taken back".to_owned(),
            };
            let told = serde_json::json!({ "cancelled": pending.ok().flatten(), "begun": begun });
            output::print(context.json, &told, || line)?;
            return Ok(Exit::Done);
        }
        if context.host.machine().state_in_memory() {
            return Err(Failure::new(
                Exit::Host,
                format!("nothing can be left for the next boot: {}", StateError::InMemory),
            ));
        }
        let request = Request { var: self.var, keep_identity: self.keep_identity };
        require_room(context, &layout, request)?;
        if !self.yes {
            confirm(request)?;
        }
        request.leave(&layout).map_err(failed)?;
        output::print(context.json, &serde_json::json!({ "reset": request }), || describe(request))?;
        if self.reboot {
            let host: &dyn Host = context.host.as_ref();
            host.machine()
                .reboot()
                .map_err(|source| AgentError::System { what: "reboot".to_owned(), source })?;
        }
        Ok(Exit::Done)
    }
}

/// Refuses what the next boot would refuse: nobody may be looking then.
fn require_room(context: &Context, layout: &Layout, request: Request) -> Result<(), Failure> {
    if !request.keep_identity {
        return Ok(());
    }
    let host: &dyn Host = context.host.as_ref();
    let slot = host.machine().booted().map_err(AgentError::from)?.slot;
    let missing = host.slots().open(slot, Part::Root, Access::Read).and_then(|device| {
        let image = Reader::open(Image(device.as_ref())).map_err(io::Error::other)?;
        Request::shortfall(layout, &image, slot)
    });
    let what = || "see what makes this host this one".to_owned();
    match missing.map_err(|source| AgentError::System { what: what(), source })? {
        None => Ok(()),
        Some(missing) => Err(Failure::new(
            Exit::Refused,
            format!("no room for what a reset keeps: {missing}; make room there; nothing was changed"),
        )),
    }
}

/// A request in one line.
pub(super) fn describe(request: Request) -> String {
    let what = if request.var { "/etc and /var" } else { "/etc" };
    let kept = if request.keep_identity { ", and keeps this host's identity" } else { "" };
    format!("the next boot resets {what} to the image{kept}; `upright reset --cancel` takes that back")
}

/// What is taken back of a reset that a boot has begun, in one line.
fn describe_rest(request: Request, begun: &Begun) -> String {
    let done = match begun.etc.as_slice() {
        [] => "/etc of a slot may be gone in part".to_owned(),
        [slot] => {
            format!("/etc of slot {slot} was reset, and that of slot {} may be gone in part", slot.other())
        }
        _ if request.var => "/etc was reset, and /var may be gone in part".to_owned(),
        _ => "/etc was reset".to_owned(),
    };
    format!("the rest of the reset is taken back; a boot has begun it: {done}")
}

/// Nobody loses a host's state by a slip.
fn confirm(request: Request) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let line = "a reset removes what was changed on this host, and there is nobody to ask: say `--yes`";
        return Err(Failure::new(Exit::Refused, line));
    }
    output::note(&format!("{}\nType yes to go on:", describe(request)));
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "nothing was changed")),
    }
}
