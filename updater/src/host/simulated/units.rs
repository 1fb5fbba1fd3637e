//! Simulated systemd units: one is active if the program that its file in the booted image starts is in that image.

use jiff::Timestamp;
use upright_manifests::erofs::{ErofsError, Reader};
use upright_manifests::name::Slot;

use super::Files;
use crate::health::Probed;
use crate::host::{Access, BlockDevice, Part, Slots};
use crate::slot::Image;

/// Where units are in an image.
const FOLDERS: [&str; 3] = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// The longest unit that is read, in bytes.
const MAX_UNIT: usize = 64 << 10;

/// Looks at a unit of the image in `slot`.
pub(super) fn look(files: &Files, slot: Slot, unit: &str) -> Probed {
    let failed = |message: String| Probed { message, ..Probed::default() };
    let found = files
        .open(slot, Part::Root, Access::Read)
        .map_err(|error| error.to_string())
        .and_then(|device| program_of(device.as_ref(), unit).map_err(|error| error.to_string()));
    match found {
        Err(error) => failed(format!("slot {slot} cannot be read: {error}")),
        Ok(None) => failed(format!("{unit} is not in the image, or starts nothing")),
        Ok(Some((program, false))) => {
            failed(format!("{unit} is failed (failed, result exit-code): {program} is not in the image"))
        }
        Ok(Some((_, true))) => Probed {
            passed: true,
            message: format!("{unit} is active (running)"),
            restarts: Some(0),
            ..Probed::default()
        },
    }
}

/// When the image in `slot` was built.
pub(super) fn image_time(files: &Files, slot: Slot) -> Option<Timestamp> {
    let device = files.open(slot, Part::Root, Access::Read).ok()?;
    let image = Reader::open(Image(device.as_ref())).ok()?;
    Timestamp::from_second(image.superblock().time).ok()
}

/// The program that a unit starts, and whether it is there.
fn program_of(device: &dyn BlockDevice, unit: &str) -> Result<Option<(String, bool)>, ErofsError> {
    let image = Reader::open(Image(device))?;
    for folder in FOLDERS {
        let Some(node) = image.lookup(format!("{folder}/{unit}").as_bytes())? else { continue };
        let mut bytes = vec![0; MAX_UNIT];
        let length = image.read(&node, 0, &mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
        let Some(program) = command.and_then(|command| command.split_whitespace().next()) else { continue };
        let there = image.lookup(program.trim_start_matches('/').as_bytes())?.is_some();
        return Ok(Some((program.to_owned(), there)));
    }
    Ok(None)
}
