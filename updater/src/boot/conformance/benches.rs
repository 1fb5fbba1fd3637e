//! A machine with each boot loader, on which 1.0.0 runs from slot a, proven.

use std::fs;
use std::path::Path;
use std::time::Duration;

use upright_manifests::boot::grub_env::GrubEnv;
use upright_manifests::boot::load_option::Partition;
use upright_manifests::boot::uboot_env::UbootEnv;

use super::super::custom::Custom;
use super::super::efi::{Efi, Efivarfs};
use super::super::esp::EntryFolder;
use super::super::grub::Grub;
use super::super::per_slot::{FOLDER, PerSlot, Register};
use super::super::systemd_boot::SystemdBoot;
use super::super::uboot::{Places, Uboot};
use super::super::{BootLoader, SlotNames};
use super::{Bench, Fuse, folder, loaders, uki};

/// The environment's size in the benches of U-Boot, in bytes.
pub(super) const UBOOT_SIZE: usize = 0x1000;

/// Where in a region the first copy begins, in bytes.
pub(super) const REGION: usize = 0x2000;

/// The block and the environment of our scripts, on the ESP.
pub(super) const GRUB_BLOCK: &str = "EFI/upright/grubenv";
pub(super) const UBOOT_FILE: &str = "EFI/upright/uboot.env";

/// Slot a's UKI on the ESP, and a register that `make` makes for a folder.
fn bench<R: Register + 'static>(start: fn(&Path) -> String, make: impl FnOnce(&Path, Fuse) -> R) -> Bench {
    let root = folder();
    let fuse = Fuse::default();
    let ukis = root.path().join(FOLDER);
    fs::create_dir_all(&ukis).unwrap();
    fs::write(ukis.join("a.efi"), uki("1.0.0")).unwrap();
    let register = make(root.path(), fuse.clone());
    let boot = Box::new(PerSlot::new(root.path(), register, fuse.clone()));
    Bench { root, boot, fuse, start }
}

fn with_file_names(start: fn(&Path) -> String) -> Bench {
    let root = folder();
    let esp = root.path().join("esp");
    let entries = esp.join("EFI/Linux");
    fs::create_dir_all(&entries).unwrap();
    fs::write(entries.join("acme_1.0.0.efi"), uki("1.0.0")).unwrap();
    let fuse = Fuse::default();
    let boot = SystemdBoot::in_folder(EntryFolder::at(entries, fuse.clone()));
    Bench { root, boot: Box::new(boot) as Box<dyn BootLoader>, fuse, start }
}

pub(super) fn systemd_boot() -> Bench {
    with_file_names(loaders::systemd_boot)
}

/// What simulated hosts have in a boot loader's place.
pub(super) fn simulated() -> Bench {
    with_file_names(loaders::simulated)
}

fn grub_of(start: fn(&Path) -> String, variables: &[(&str, &str)]) -> Bench {
    bench(start, |root, fuse| {
        let block = root.join("grubenv");
        let mut env = GrubEnv::default();
        variables.iter().for_each(|(name, value)| env.set(name, value));
        fs::write(&block, env.to_bytes().unwrap()).unwrap();
        Grub::new(&block, SlotNames::default(), fuse)
    })
}

/// The block that comes with our script.
pub(super) fn grub() -> Bench {
    grub_of_ours(false)
}

/// The same, started by BIOS firmware.
pub(super) fn grub_on_bios() -> Bench {
    grub_of_ours(true)
}

fn grub_of_ours(bios: bool) -> Bench {
    let shipped = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/grub/grubenv")).unwrap();
    bench(loaders::grub, |root, fuse| {
        let block = root.join(GRUB_BLOCK);
        fs::write(&block, shipped).unwrap();
        fs::write(root.join(FOLDER).join("a.cfg"), "as the installation left it").unwrap();
        Grub::new(&block, SlotNames::default(), fuse).ours(true).bios(bios)
    })
}

pub(super) fn grub_with_another_updaters_script() -> Bench {
    grub_of(
        loaders::grub_of_another_updater,
        &[("B_TRY", "0"), ("B_OK", "0"), ("A_TRY", "0"), ("A_OK", "1"), ("ORDER", "A B")],
    )
}

/// The script's variables as an administrator sets them once, beside others.
fn uboot_env(redundant: bool) -> Vec<u8> {
    let mut env = UbootEnv::empty(UBOOT_SIZE, redundant);
    env.set("bootcmd", "run distro_bootcmd");
    for (name, value) in [
        ("BOOT_ORDER", "A B"),
        ("BOOT_B_TRIES", "0"),
        ("BOOT_B_LEFT", "0"),
        ("BOOT_A_TRIES", "0"),
        ("BOOT_A_LEFT", "3"),
    ] {
        env.set(name, value);
    }
    env.to_bytes().unwrap()
}

fn uboot_of(start: fn(&Path) -> String, files: &[(&str, usize)]) -> Bench {
    bench(start, |root, fuse| {
        let redundant = files.len() > 1;
        let mut config = String::new();
        for (name, offset) in files {
            let path = root.join(name);
            let mut bytes = fs::read(&path).unwrap_or_default();
            bytes.resize(*offset, 0);
            bytes.extend(uboot_env(redundant));
            fs::write(&path, bytes).unwrap();
            config += &format!("{} {offset:#x} {UBOOT_SIZE:#x}\n", path.display());
        }
        Uboot::new(Places::parse(&config).unwrap(), SlotNames::default(), fuse)
    })
}

/// The file that our script makes on the ESP.
pub(super) fn uboot_on_esp() -> Bench {
    bench(loaders::uboot_on_esp, |root, fuse| {
        let file = root.join(UBOOT_FILE);
        let mut env = UbootEnv::parse(&uboot_env(false), false).unwrap();
        env.set("bootcmd", "");
        fs::write(&file, env.to_bytes().unwrap()).unwrap();
        let config = format!("{} 0 {UBOOT_SIZE:#x}\n", file.display());
        Uboot::new(Places::parse(&config).unwrap(), SlotNames::default(), fuse).ours(true)
    })
}

pub(super) fn uboot_file() -> Bench {
    uboot_of(loaders::uboot_file, &[("uboot.env", 0)])
}

pub(super) fn uboot_redundant_files() -> Bench {
    uboot_of(loaders::uboot_redundant_files, &[("uboot.env", 0), ("uboot-redund.env", 0)])
}

pub(super) fn uboot_redundant_region() -> Bench {
    uboot_of(loaders::uboot_redundant_region, &[("mmcblk0", REGION), ("mmcblk0", REGION + UBOOT_SIZE)])
}

pub(super) fn uboot_with_another_updaters_script() -> Bench {
    uboot_of(loaders::uboot_of_another_updater, &[("uboot.env", 0)])
}

pub(super) fn efi() -> Bench {
    bench(loaders::efi, |root, fuse| {
        let variables = root.join("efivars");
        fs::create_dir(&variables).unwrap();
        let esp = Partition { number: 1, start: 2048, blocks: 4096, uuid: [7; 16].into() };
        let efi = Efi::new(Efivarfs::new(&variables), esp, fuse);
        // As the one who installed the machine would.
        efi.store(&super::super::choice::Choice {
            first: super::Slot::A,
            a: super::Trust::Good,
            b: super::Trust::Bad,
        })
        .unwrap();
        efi
    })
}

/// A boot loader whose state is four words in a file.
const PROGRAM: &str = r#"
cd "$0" && read -r first a b < state
other() { [ "$1" = A ] && echo B || echo A; }
state() { if [ "$1" = A ]; then echo "$a"; else echo "$b"; fi; }
put() { echo "$1 $2 $3" > state.new && mv state.new state; }
set_state() { if [ "$1" = A ]; then put "$first" "$2" "$b"; else put "$first" "$a" "$2"; fi; }
case $1 in
get-primary) echo "$first" ;;
set-primary) first=$2; set_state "$2" "$3:0" ;;
get-state)
    case $(state "$2") in
    good | bad) state "$2" ;;
    *) echo "trial $(state "$2" | tr : ' ')" ;;
    esac ;;
set-state) set_state "$2" "$3" ;;
*) echo "unknown verb $1" >&2; exit 2 ;;
esac
"#;

pub(super) fn custom() -> Bench {
    bench(loaders::custom, |root, fuse| {
        fs::write(root.join("state"), "A good bad\n").unwrap();
        let root = root.to_str().unwrap().to_owned();
        let command = vec!["sh".to_owned(), "-c".to_owned(), PROGRAM.to_owned(), root];
        Custom::new(command, Duration::from_secs(60), SlotNames::default(), fuse)
    })
}
