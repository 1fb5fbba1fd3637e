//! What systemd-boot would start, written from its source (252, `src/boot/efi/boot.c`) and not from what is tested.

use std::cmp::Ordering;

use upright_manifests::version::Version;

use super::fat::{Fat, FatError, File};

/// Where unified kernel images are.
const FOLDER: &str = "EFI/Linux";

/// How much of a file is read to find its sections.
const HEADERS: usize = 4096;

/// An entry that systemd-boot would list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The file.
    pub file: File,
    /// The boots that its name says are left.
    pub left: Option<u32>,
    /// Its sort key, `IMAGE_ID` of its os-release.
    pub os: String,
    /// Its version, `IMAGE_VERSION` of its os-release.
    pub version: String,
    /// Its kernel command line.
    pub command_line: String,
}

/// The entries, the one that is started first.
pub(super) fn entries(fat: &Fat<'_>) -> Result<Vec<Choice>, FatError> {
    let files = fat.folder(FOLDER)?.unwrap_or_default();
    let mut entries: Vec<Choice> = files.into_iter().filter_map(|file| entry(fat, file)).collect();
    entries.sort_by(order);
    Ok(entries)
}

/// What the next boot starts; `None` if there is nothing.
pub fn next_boot(fat: &Fat<'_>) -> Result<Option<Choice>, FatError> {
    Ok(entries(fat)?.into_iter().next())
}

/// `config_entry_compare`.
fn order(a: &Choice, b: &Choice) -> Ordering {
    let spent = |entry: &Choice| entry.left == Some(0);
    let newest_first = || match (a.version.parse::<Version>(), b.version.parse::<Version>()) {
        (Ok(a), Ok(b)) => b.age(&a),
        _ => b.version.cmp(&a.version),
    };
    spent(a)
        .cmp(&spent(b))
        .then_with(|| a.os.cmp(&b.os))
        .then_with(newest_first)
        .then_with(|| b.file.name.cmp(&a.file.name))
}

/// `config_entry_add_unified`: what is no EFI program, or has no os-release, is passed over.
fn entry(fat: &Fat<'_>, file: File) -> Option<Choice> {
    let name = file.name.to_ascii_lowercase();
    if file.is_folder || !name.ends_with(".efi") || name.starts_with('.') || name.starts_with("auto-") {
        return None;
    }
    let read = |range: std::ops::Range<usize>| {
        fat.read(&file, range.end).ok().and_then(|bytes| Some(bytes.get(range)?.to_vec()))
    };
    let start = fat.read(&file, HEADERS).ok()?;
    let text = |name: &str| {
        let (offset, length) = section(&start, name)?;
        String::from_utf8(read(offset..offset.checked_add(length)?)?).ok()
    };
    let release = text(".osrel")?;
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    Some(Choice {
        left: tries(&file.name),
        os: field("IMAGE_ID")?,
        version: field("IMAGE_VERSION")?,
        command_line: text(".cmdline")?.trim_end_matches('\0').trim().to_owned(),
        file,
    })
}

/// `config_entry_parse_tries`: `+LEFT` or `+LEFT-DONE` before `.efi`.
fn tries(name: &str) -> Option<u32> {
    let (_, counter) = name.strip_suffix(".efi")?.split_once('+')?;
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    };
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    number(done).and(number(left))
}

/// Where a section's content is: offset and length.
fn section(start: &[u8], name: &str) -> Option<(usize, usize)> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*start.get(at..)?.first_chunk()?) as usize);
    let u32_at = |at: usize| Some(u32::from_le_bytes(*start.get(at..)?.first_chunk()?) as usize);
    if !start.starts_with(b"MZ") {
        return None;
    }
    let header = u32_at(0x3c)?;
    if start.get(header..header + 4)? != b"PE\0\0" {
        return None;
    }
    let table = header + 24 + u16_at(header + 20)?;
    let mut sections = (0..u16_at(header + 6)?).map(|index| table + index * 40);
    let wanted = format!("{name:\0<8}");
    let at = sections.find(|at| start.get(*at..at + 8) == Some(wanted.as_bytes()))?;
    Some((u32_at(at + 20)?, u32_at(at + 8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_systemd_boot_takes_for_a_counter_is_one() {
        let cases = [
            ("acme_1.0.efi", None),
            ("acme_1.0+3.efi", Some(3)),
            ("acme_1.0+2-1.efi", Some(2)),
            ("acme_1.0+0-3.efi", Some(0)),
            ("acme_1.0+x.efi", None),
            ("ACME_1~2.EFI", None),
        ];
        for (name, left) in cases {
            assert_eq!(tries(name), left, "{name}");
        }
    }
}
