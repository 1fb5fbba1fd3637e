//! `upright boot-state`: what the initrd runs, from the image that boots, before anything of that does.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use sd_notify::NotifyState;
use upright_manifests::name::Slot;

use super::exit::{Exit, Failure};
use super::output;
use crate::state::{Folder, Hands, Layout, Step, carry_out_reset, prepare};

/// How much longer a step may take, and how often that is said (sd_notify(3), `EXTEND_TIMEOUT_USEC=`).
const LONGER: Duration = Duration::from_secs(300);
const OFTEN: Duration = Duration::from_secs(5);

/// Make the state ready that a slot boots with (the initrd does so)
///
/// Ends with 3 if the slot must not boot, since its release would change what the other one needs, and with 6 if the slot's
/// own data cannot be reached.
#[derive(Debug, Args)]
pub(super) struct BootState {
    /// Where the image is mounted, with the state partition at its /var
    #[arg(long, value_name = "DIR")]
    sysroot: PathBuf,

    /// The slot that boots
    #[arg(long)]
    slot: Slot,

    /// Carry out the reset that an operator asked for, and nothing else; /var is to be filled from the image afterwards
    #[arg(long)]
    reset: bool,
}

impl BootState {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let layout = Layout::of_var(&self.sysroot.join("var"));
        let last = Cell::new(Instant::now());
        let go_on = |_: Step<'_>| {
            if last.get().elapsed() > OFTEN {
                last.set(Instant::now());
                // Without systemd there is nobody who waits.
                let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(LONGER.as_micros() as u32)]);
            }
            Ok(())
        };
        let (hands, image) = (Hands::that_ask(&go_on), Folder(&self.sysroot));
        if self.reset {
            let complaints = carry_out_reset(&layout, &hands, &image, self.slot)
                .map_err(|error| Failure::new(Exit::Host, format!("cannot reset this host: {error}")))?;
            complaints.iter().for_each(|line| output::note(line));
            return Ok(Exit::Done);
        }
        let prepared = prepare(&layout, &hands, &image, self.slot).map_err(|stopped| {
            let exit = if stopped.again { Exit::Refused } else { Exit::Host };
            Failure::new(exit, format!("slot {} is not booted: {}", self.slot, stopped.reason))
        })?;
        prepared.complaints.iter().for_each(|line| output::note(line));
        for mount in &prepared.mounts {
            rustix::mount::mount_bind(&mount.from, &mount.over).map_err(|error| {
                let line =
                    format!("cannot mount {} over {}: {error}", mount.from.display(), mount.over.display());
                Failure::new(Exit::Host, line)
            })?;
        }
        Ok(Exit::Done)
    }
}
