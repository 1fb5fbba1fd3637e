//! Where kernel and initrd are inside of a UKI, for a GRUB that cannot start EFI programs (BIOS).
//!
//! GRUB takes a file for a disk (`loopback`) and a range of sectors for a file (`(disk)FIRST+COUNT`), and a UKI's sections start at
//! sectors. So the same UKI boots on BIOS as well, with two lines beside it that GRUB's script reads once it has made the UKI the
//! disk `uki`:
//!
//! ```text
//! linux (uki)16+20480 'console=ttyS0' ...
//! initrd (uki)20496+40960
//! ```
//!
//! Source: GRUB manual, "loopback" and "Block list syntax".

use crate::pe::Headers;

/// What GRUB counts in, in bytes.
const SECTOR: u64 = 512;

/// The lines for a UKI with those headers; `None` if it has no kernel or no initrd at a sector's start.
pub fn lines(headers: &Headers, command_line: &str) -> Option<String> {
    let range = |name| {
        let (offset, length) = headers.section(name)?.content();
        (offset % SECTOR == 0).then(|| format!("(uki){}+{}", offset / SECTOR, length.div_ceil(SECTOR)))
    };
    let words = command_line.trim_end_matches('\0').split_whitespace().map(quoted);
    let words = words.map(|word| format!(" {word}")).collect::<String>();
    Some(format!("linux {}{words}\ninitrd {}\n", range(".linux")?, range(".initrd")?))
}

/// A word that GRUB's shell takes as it stands: nothing is special between single quotes but the quote that ends them.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
