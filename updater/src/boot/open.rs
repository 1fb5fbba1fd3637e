//! The back end that a host's configuration asks for, or that its boot loader needs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use upright_manifests::boot::load_option::Partition;

use super::custom::Custom;
use super::detect::{FW_ENV_CONFIG, Loader, detect, grub_block, look};
use super::efi::{Efi, Efivarfs};
use super::fuse::Fuse;
use super::grub::Grub;
use super::per_slot::{FOLDER, PerSlot};
use super::systemd_boot::SystemdBoot;
use super::uboot::{Places, Uboot};
use super::{BootLoader, SlotNames};
use crate::config;

/// Why a boot loader cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// GRUB's environment block is nowhere.
    #[error(
        "GRUB's environment block is in none of the usual places; set `environment` in [boot] to its path, or make one as \
         docs/bootloaders.md says"
    )]
    NoBlock,
    /// Where U-Boot's environment is cannot be read.
    #[error(
        "U-Boot's environment cannot be found: {0}; set `environment` in [boot] to a file as of fw_printenv"
    )]
    Uboot(io::Error),
    /// The ESP's partition cannot be told.
    #[error("the partition that {} is on cannot be told: {source}; boot options need an ESP on a GPT disk", esp.display())]
    Partition {
        /// Where the ESP is mounted.
        esp: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// No program was named.
    #[error(
        "loader = \"custom\" needs `command` in [boot], the program with the five verbs of docs/bootloaders.md"
    )]
    NoCommand,
}

/// The boot loader of a machine with its root at `root` and its ESP at `esp`.
pub fn open(config: &config::Boot, root: &Path, esp: &Path) -> Result<Box<dyn BootLoader>, OpenError> {
    let loader = config.loader.unwrap_or_else(|| detect(&look(root, esp)));
    let names = config.slots.clone().unwrap_or_default();
    let fuse = Fuse::default();
    Ok(match loader {
        Loader::SystemdBoot => Box::new(SystemdBoot::of_machine(root, esp)),
        Loader::Grub => {
            let block =
                config.environment.clone().or_else(|| grub_block(root, esp)).ok_or(OpenError::NoBlock)?;
            let ours = is_ours(&block, "grubenv", esp, &names);
            let bios = !root.join("sys/firmware/efi").exists();
            let grub = Grub::new(&block, names, fuse.clone()).ours(ours).bios(bios);
            Box::new(PerSlot::new(esp, grub, fuse))
        }
        Loader::UBoot => {
            let places = uboot_places(config, root)?;
            let ours = match places.all() {
                [at] => at.offset == 0 && is_ours(&at.path, "uboot.env", esp, &names),
                _ => false,
            };
            let uboot = Uboot::new(places, names, fuse.clone()).ours(ours);
            Box::new(PerSlot::new(esp, uboot, fuse))
        }
        Loader::Efi => {
            let partition = partition_of(root, esp);
            let partition =
                partition.map_err(|source| OpenError::Partition { esp: esp.to_owned(), source })?;
            let variables = Efivarfs::new(&root.join("sys/firmware/efi/efivars"));
            Box::new(PerSlot::new(esp, Efi::new(variables, partition, fuse.clone()), fuse))
        }
        Loader::Custom => {
            let custom = custom(config, names, fuse.clone())?.once_a_boot(root.join("run/upright/came-up"));
            Box::new(PerSlot::new(esp, custom, fuse))
        }
    })
}

/// Whether a file is the one that the shipped script looks for by its name, in a folder on the ESP that nothing else has anything in. A
/// script for other names of the slots is not the shipped one.
fn is_ours(file: &Path, name: &str, esp: &Path, names: &SlotNames) -> bool {
    let place = |folder: &Path| fs::canonicalize(folder).ok();
    let is_there =
        file.parent().and_then(place).is_some_and(|folder| Some(folder) == place(&esp.join(FOLDER)));
    is_there && file.file_name().is_some_and(|found| found == name) && *names == SlotNames::default()
}

pub(super) fn uboot_places(config: &config::Boot, root: &Path) -> Result<Places, OpenError> {
    let path = config.environment.clone().unwrap_or_else(|| root.join(FW_ENV_CONFIG));
    Places::read(&path).map_err(OpenError::Uboot)
}

fn custom(config: &config::Boot, names: SlotNames, fuse: Fuse) -> Result<Custom, OpenError> {
    match config.command.is_empty() {
        true => Err(OpenError::NoCommand),
        false => Ok(Custom::new(config.command.clone(), config.timeout.0, names, fuse)),
    }
}

/// The GPT partition below a file system, from what the kernel and udev say about it.
///
/// Source: Linux `Documentation/ABI/testing/sysfs-block`; `start` and `size` are in sectors of 512 bytes whatever the disk's are.
fn partition_of(root: &Path, mounted: &Path) -> io::Result<Partition> {
    const SECTOR: u64 = 512;
    let device = fs::metadata(mounted)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let sys = root.join("sys/dev/block").join(format!("{major}:{minor}"));
    let block = number(&sys.join("../queue/logical_block_size"))?.max(SECTOR);
    let in_blocks = |name| Ok::<_, io::Error>(number(&sys.join(name))?.saturating_mul(SECTOR) / block);
    let partition = number(&sys.join("partition"))?;
    Ok(Partition {
        number: u32::try_from(partition).map_err(io::Error::other)?,
        start: in_blocks("start")?,
        blocks: in_blocks("size")?,
        uuid: uuid_of(&root.join("dev/disk/by-partuuid"), device)?,
    })
}

fn uuid_of(folder: &Path, device: u64) -> io::Result<upright_manifests::uuid::Uuid> {
    for link in fs::read_dir(folder)? {
        let link = link?;
        let is_it = fs::metadata(link.path()).is_ok_and(|node| node.rdev() == device);
        let uuid = link.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(uuid)) = (is_it, uuid) {
            return Ok(uuid);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{} has no GUID of it", folder.display())))
}

fn number(path: &Path) -> io::Result<u64> {
    let read = || fs::read_to_string(path)?.trim().parse().map_err(io::Error::other);
    read().map_err(|error: io::Error| super::esp::in_path("cannot read", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the boot loader that is opened, or the error.
    fn opened(toml: &str, root: &Path) -> String {
        let config: config::Boot = toml::from_str(toml).unwrap();
        match open(&config, root, &root.join("efi")) {
            Ok(boot) => boot.name().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn damage_of_what_is_ours_alone_is_no_error_and_that_of_anything_else_is() {
        let root = tempfile::tempdir().unwrap();
        let (root, esp) = (root.path(), root.path().join("efi"));
        let ours = esp.join(FOLDER);
        fs::create_dir_all(&ours).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        let concerns = |toml: &str| {
            let config: config::Boot = toml::from_str(toml).unwrap();
            open(&config, root, &esp).unwrap().concerns()
        };
        fs::write(ours.join("grub.cfg"), "").unwrap();
        assert!(concerns("").unwrap().iter().any(|concern| concern.says.contains("grubenv")));
        let elsewhere = root.join("grubenv");
        for (block, names) in [(elsewhere.clone(), ""), (ours.join("grubenv"), "slots = [\"X\", \"Y\"]")] {
            let toml = format!("loader = \"grub\"\nenvironment = {block:?}\n{names}");
            assert!(concerns(&toml).is_err(), "{toml}");
        }
        let fw_env_config = |lines: &str| fs::write(root.join(FW_ENV_CONFIG), lines).unwrap();
        fw_env_config(&format!("{} 0 0x4000", ours.join("uboot.env").display()));
        assert!(concerns("").unwrap().iter().any(|concern| concern.says.contains("uboot.env")));
        fs::write(&elsewhere, vec![0xff; 0x8000]).unwrap();
        for place in [elsewhere.display().to_string(), ours.join("other.env").display().to_string()] {
            fw_env_config(&format!("{place} 0 0x4000"));
            assert!(concerns("").is_err(), "{place}");
        }
    }

    #[test]
    fn the_configuration_counts_and_what_it_needs_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(opened("", root), "systemd-boot");
        for (toml, expected) in [
            ("loader = \"systemd-boot\"", "systemd-boot"),
            ("loader = \"grub\"\nenvironment = \"/grubenv\"", "grub"),
            ("loader = \"grub\"", "GRUB's environment block is in none of the usual places"),
            ("loader = \"u-boot\"", "U-Boot's environment cannot be found: cannot read"),
            ("loader = \"efi\"", "the partition that "),
            ("loader = \"custom\"", "loader = \"custom\" needs `command`"),
            ("loader = \"custom\"\ncommand = [\"/usr/lib/board/boot\"]", "custom"),
        ] {
            let found = opened(toml, root);
            assert!(found.starts_with(expected), "{toml}: {found}");
        }
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join(FW_ENV_CONFIG), "/dev/mmcblk0 0x400000 0x4000\n").unwrap();
        assert_eq!(opened("", root), "u-boot");
    }
}
