//! What each boot loader does at a start: small models, written from their sources and scripts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use upright_manifests::bls::{Counter, EntryName};
use upright_manifests::boot::grub_env::GrubEnv;
use upright_manifests::boot::load_option::{LoadOption, order_bytes, parse_order};
use upright_manifests::boot::uboot_env::UbootEnv;
use upright_manifests::pe::{self, Headers};

use super::benches::{GRUB_BLOCK, REGION, UBOOT_FILE, UBOOT_SIZE};
use super::uki;
use crate::host::take_simulated_entry;

/// The version in a UKI that would start; `None` if it is not there or no EFI program.
fn try_uki(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.starts_with(b"MZ"))?;
    let headers = Headers::parse(&bytes).unwrap();
    let (offset, length) = headers.section(".cmdline").unwrap().content();
    let line = String::from_utf8(bytes[offset as usize..(offset + length) as usize].to_vec()).unwrap();
    let version = pe::argument(&line, "upright.version").unwrap().to_owned();
    assert!(bytes == uki(&version), "{} is not complete", path.display());
    Some(version)
}

/// Slot `name`'s UKI, as a script starts it: by the firmware, or by the lines beside it.
fn slot_uki(root: &Path, name: &str) -> Option<String> {
    try_uki(&root.join("EFI/upright").join(format!("{}.efi", name.to_lowercase())))
}

/// systemd-boot 252, `config_entry_compare`, `config_entry_parse_tries` and `config_entry_bump_counters`: what has no tries left is
/// counted as well.
pub(super) fn systemd_boot(root: &Path) -> String {
    let folder = root.join("esp/EFI/Linux");
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let startable = files.filter(|file| try_uki(&folder.join(file)).is_some());
    let mut entries: Vec<EntryName> = startable.map(|file| file.parse().unwrap()).collect();
    let spent = |name: &EntryName| name.counter.is_some_and(|counter| counter.left == 0);
    entries.sort_by(|a, b| spent(a).cmp(&spent(b)).then(b.version.age(&a.version)));
    let first = entries.first().expect("nothing to boot");
    let version = try_uki(&folder.join(first.to_string())).unwrap();
    if let Some(Counter { left, done }) = first.counter {
        let counter = Some(Counter { left: left.saturating_sub(1), done: done + 1 });
        let counted = EntryName { counter, ..first.clone() };
        fs::rename(folder.join(first.to_string()), folder.join(counted.to_string())).unwrap();
    }
    version
}

/// What simulated hosts do themselves.
pub(super) fn simulated(root: &Path) -> String {
    let folder = root.join("esp/EFI/Linux");
    let file = take_simulated_entry(&folder).unwrap();
    try_uki(&folder.join(file)).expect("a sealed entry was taken")
}

/// `dist/grub/grub.cfg`.
pub(super) fn grub(root: &Path) -> String {
    let path = root.join(GRUB_BLOCK);
    // What `load_env` cannot read leaves the values at the script's beginning.
    let mut env = fs::read(&path).ok().and_then(|block| GrubEnv::parse(&block).ok()).unwrap_or_else(|| {
        let mut values = GrubEnv::default();
        [("ORDER", "A B"), ("A_OK", "1"), ("B_OK", "1")]
            .iter()
            .for_each(|(name, value)| values.set(name, value));
        values
    });
    let get = |env: &GrubEnv, name: String| env.get(&name).unwrap_or("0").to_owned();
    let order = get(&env, "ORDER".to_owned());
    for slot in order.split(' ') {
        let (tried, tries) = (get(&env, format!("{slot}_TRY")), get(&env, format!("{slot}_TRIES")));
        if get(&env, format!("{slot}_OK")) != "1" {
            continue;
        }
        if tries != "0" {
            if tried.parse::<u32>().unwrap() >= tries.parse().unwrap() {
                continue;
            }
            env.set(&format!("{slot}_TRY"), &(tried.parse::<u32>().unwrap() + 1).to_string());
            fs::write(&path, env.to_bytes().unwrap()).unwrap();
        }
        if let Some(version) = slot_uki(root, slot) {
            assert!(root.join(format!("EFI/upright/{}.cfg", slot.to_lowercase())).exists());
            return version;
        }
    }
    order.split(' ').find_map(|slot| slot_uki(root, slot)).expect("nothing to boot")
}

/// A script for the same variables that knows one try alone and marks each boot, as such scripts are documented: without a
/// slot to take it clears the marks and starts the first menu entry.
pub(super) fn grub_of_another_updater(root: &Path) -> String {
    let path = root.join("grubenv");
    let mut env = GrubEnv::parse(&fs::read(&path).unwrap()).unwrap();
    let is = |env: &GrubEnv, slot: &str, variable: &str, value: &str| {
        env.get(&format!("{slot}_{variable}")).unwrap_or("0") == value
    };
    let order = env.get("ORDER").unwrap().to_owned();
    let mut chosen = "A";
    let found = order.split(' ').find(|slot| is(&env, slot, "OK", "1") && is(&env, slot, "TRY", "0"));
    match found {
        Some(slot) => {
            chosen = slot;
            env.set(&format!("{slot}_TRY"), "1");
        }
        None => ["A", "B"].iter().for_each(|slot| env.set(&format!("{slot}_TRY"), "0")),
    }
    fs::write(&path, env.to_bytes().unwrap()).unwrap();
    slot_uki(root, chosen).expect("the chosen slot does not start, and this script has no other idea")
}

/// A copy of U-Boot's environment.
struct Copy {
    file: &'static str,
    offset: usize,
}

const ON_ESP: [Copy; 1] = [Copy { file: UBOOT_FILE, offset: 0 }];
const FILE: [Copy; 1] = [Copy { file: "uboot.env", offset: 0 }];
const FILES: [Copy; 2] =
    [Copy { file: "uboot.env", offset: 0 }, Copy { file: "uboot-redund.env", offset: 0 }];
const COPIES: [Copy; 2] =
    [Copy { file: "mmcblk0", offset: REGION }, Copy { file: "mmcblk0", offset: REGION + UBOOT_SIZE }];

/// With no file that `env import` reads, the script goes by its own values.
pub(super) fn uboot_on_esp(root: &Path) -> String {
    let file = fs::read(root.join(UBOOT_FILE)).unwrap_or_default();
    match UbootEnv::parse(&file, false) {
        Ok(_) => uboot(root, &ON_ESP, false),
        Err(_) => ["a", "b"].iter().find_map(|slot| slot_uki(root, slot)).expect("nothing to boot"),
    }
}

pub(super) fn uboot_file(root: &Path) -> String {
    uboot(root, &FILE, false)
}

pub(super) fn uboot_redundant_files(root: &Path) -> String {
    uboot(root, &FILES, false)
}

pub(super) fn uboot_redundant_region(root: &Path) -> String {
    uboot(root, &COPIES, false)
}

pub(super) fn uboot_of_another_updater(root: &Path) -> String {
    uboot(root, &FILE, true)
}

/// `dist/u-boot/boot.cmd`; with `counts_all`, a script that counts each boot, and gives all slots their boots back when none is left.
fn uboot(root: &Path, copies: &[Copy], counts_all: bool) -> String {
    let at = |copy: &Copy| {
        let bytes = fs::read(root.join(copy.file)).unwrap();
        UbootEnv::parse(&bytes[copy.offset..copy.offset + UBOOT_SIZE], copies.len() > 1).ok()
    };
    let valid: Vec<(usize, UbootEnv)> =
        copies.iter().enumerate().filter_map(|(index, copy)| Some((index, at(copy)?))).collect();
    let best =
        valid.into_iter().reduce(|best, other| if other.1.compare(&best.1).is_gt() { other } else { best });
    let (index, mut env) = best.expect("U-Boot has lost its environment");
    let save = |env: &UbootEnv| {
        let (mut env, mut place) = (env.clone(), index);
        if copies.len() > 1 {
            env.follow();
            place = 1 - index;
        }
        let path = root.join(copies[place].file);
        let mut bytes = fs::read(&path).unwrap();
        let offset = copies[place].offset;
        bytes[offset..offset + UBOOT_SIZE].copy_from_slice(&env.to_bytes().unwrap());
        fs::write(&path, bytes).unwrap();
    };
    let number = |env: &UbootEnv, name: &str| u32::from_str_radix(env.get(name).unwrap_or("0"), 16).unwrap();
    let order = env.get("BOOT_ORDER").unwrap().to_owned();
    for slot in order.split(' ') {
        let name = format!("BOOT_{slot}_LEFT");
        let left = number(&env, &name);
        if left == 0 {
            continue;
        }
        if counts_all || number(&env, &format!("BOOT_{slot}_TRIES")) > 0 {
            env.set(&name, &format!("{:x}", left - 1));
            save(&env);
        }
        if let Some(version) = slot_uki(root, slot) {
            return version;
        }
        assert!(!counts_all, "the chosen slot does not start, and this script has no other idea");
    }
    if counts_all {
        env.set("BOOT_A_LEFT", "3");
        env.set("BOOT_B_LEFT", "3");
        save(&env);
        return uboot(root, copies, counts_all);
    }
    order.split(' ').find_map(|slot| slot_uki(root, slot)).expect("nothing to boot")
}

/// UEFI specification 2.10, section 3.1.1.
pub(super) fn efi(root: &Path) -> String {
    let folder = root.join("efivars");
    let path = |name: &str| folder.join(format!("{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c"));
    let value = |name: &str| fs::read(path(name)).map(|bytes| bytes[4..].to_vec()).unwrap_or_default();
    let next = parse_order(&value("BootNext"));
    if !next.is_empty() {
        fs::remove_file(path("BootNext")).unwrap();
    }
    let start = |number: &u16| {
        let option =
            LoadOption::parse(&value(&format!("Boot{number:04X}"))).filter(|option| option.active)?;
        assert_eq!(order_bytes(&[*number]).len(), 2);
        try_uki(&root.join(option.path.trim_start_matches('\\').replace('\\', "/")))
    };
    let order = parse_order(&value("BootOrder"));
    next.iter().chain(&order).find_map(start).expect("nothing to boot")
}

/// The boot loader of the program in [`super::benches`].
pub(super) fn custom(root: &Path) -> String {
    let text = fs::read_to_string(root.join("state")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut states: BTreeMap<&str, String> = [("A", words[1].to_owned()), ("B", words[2].to_owned())].into();
    let order = if words[0] == "A" { ["A", "B"] } else { ["B", "A"] };
    for slot in order {
        let state = states[slot].clone();
        let taken = match state.split_once(':') {
            None => state == "good",
            Some(("0", _)) => false,
            Some((left, done)) => {
                let count = |text: &str| text.parse::<u32>().unwrap();
                states.insert(slot, format!("{}:{}", count(left) - 1, count(done) + 1));
                true
            }
        };
        let line = format!("{} {} {}\n", words[0], states["A"], states["B"]);
        fs::write(root.join("state"), line).unwrap();
        if let Some(version) = slot_uki(root, slot).filter(|_| taken) {
            return version;
        }
    }
    order.iter().find_map(|slot| slot_uki(root, slot)).expect("nothing to boot")
}
