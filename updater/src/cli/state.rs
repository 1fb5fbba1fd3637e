//! `upright reset-state` and `upright reset-trust`: setting damaged files aside.

use std::fs;
use std::io;
use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::{Agent, trust_folder};
use crate::fetch::{check_shipped, check_stored};
use crate::store::{RecordFile, StoreError, set_aside};

/// Set a damaged state file aside and start from what boot loader and slots say
///
/// What is lost with it: the history and which releases were rolled back here. Slots and boot entries are not touched.
#[derive(Debug, Args)]
pub(super) struct ResetState {
    /// Do so even if the file is whole
    #[arg(long)]
    force: bool,
}

impl ResetState {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let _lock = context.lock()?;
        let file = RecordFile::in_folder(&context.folder);
        let is_whole = match file.load() {
            Ok(_) => true,
            Err(StoreError::Damaged { .. } | StoreError::Format { .. }) => false,
            Err(_) if self.force => false,
            Err(error) => return Err(error.into()),
        };
        if is_whole && !self.force {
            let line = format!("{} is whole; `--force` sets it aside all the same", file.path().display());
            return Err(Failure::new(Exit::Refused, line));
        }
        let kept = file.set_aside()?;
        Agent::forget_remembered(context.host.as_ref(), &context.folder);
        context.agent(None)?;
        let told = serde_json::json!({ "kept": kept });
        output::print(context.json, &told, || format!("the old state is kept as {}", kept.display()))?;
        Ok(Exit::Done)
    }
}

/// Set damaged trusted metadata aside and start from the root.json that came with the image
///
/// A host that remembers which versions it has seen needs no such thing: it fetches anew what is damaged.
/// What is lost with it: which versions of the metadata this host has seen. Until the next contact, a server could offer
/// it older metadata than before, as long as that has not expired. Slots, boot entries and the state stay as they are.
#[derive(Debug, Args)]
pub(super) struct ResetTrust {
    /// Do so even if the metadata is whole
    #[arg(long)]
    force: bool,
}

impl ResetTrust {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let _lock = context.lock()?;
        let folder = trust_folder(&context.folder);
        let root = &context.config.repository.root;
        if let Err(error) = check_shipped(root) {
            let line = format!(
                "nothing was set aside: there is nothing else to start from, since the image's root cannot be used: {error}; \
                 `repository.root` must name the root.json of the publisher's workspace"
            );
            return Err(Failure::new(Exit::Host, line));
        }
        let stored = check_stored(&folder, root, None, context.host.clock().now());
        if !stored.is_err_and(|error| error.is_local()) && !self.force {
            let line = format!("{} is whole; `--force` sets it aside all the same", folder.display());
            return Err(Failure::new(Exit::Refused, line));
        }
        // First, so that whoever was cut off here can do it again.
        let forgot = Agent::forget_seen(context.host.as_ref(), &context.folder)?;
        if !folder.exists() && !folder.is_symlink() && forgot {
            let told = serde_json::json!({ "kept": null });
            output::print(context.json, &told, || "the versions that were seen are forgotten".to_owned())?;
            return Ok(Exit::Done);
        }
        if !folder.exists() && !folder.is_symlink() {
            return Err(Failure::new(Exit::Refused, format!("there is no {}", folder.display())));
        }
        let kept = folder.with_extension("damaged");
        remove(&kept)?;
        set_aside(&folder, &kept)?;
        let told = serde_json::json!({ "kept": kept });
        output::print(context.json, &told, || format!("the old metadata is kept as {}", kept.display()))?;
        Ok(Exit::Done)
    }
}

/// Removes what an earlier reset kept.
fn remove(kept: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Write { path: kept.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
