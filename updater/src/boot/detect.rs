//! Which boot loader a host has, where the configuration does not say.
//!
//! [`Facts`] are looked up at the edge; [`detect`] decides.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use upright_manifests::name::Slot;

use super::per_slot::{FOLDER, file_name};
use crate::efivars;

/// Where GRUB's environment block is looked for on the ESP, and then on the machine.
const GRUB_BLOCKS: [&str; 4] =
    ["EFI/upright/grubenv", "grub/grubenv", "EFI/BOOT/grubenv", "boot/grub/grubenv"];
const GRUB_BLOCKS_ELSEWHERE: [&str; 2] = ["boot/grub/grubenv", "boot/grub2/grubenv"];

/// The script that comes with the agent, where it looks for its block.
const GRUB_SCRIPT: &str = "EFI/upright/grub.cfg";

/// Where U-Boot's tools have it that its environment is.
pub(super) const FW_ENV_CONFIG: &str = "etc/fw_env.config";

/// The variable in which boot loaders name themselves (systemd's Boot Loader Interface).
const LOADER_INFO: &str = "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// More than the name of any boot loader or entry has, in bytes.
const MAX_TEXT: usize = 4096;

/// Boot loaders that an agent can work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// systemd-boot, with counters in the names of UKIs.
    SystemdBoot,
    /// GRUB, with variables in its environment block.
    Grub,
    /// U-Boot, with variables in its environment.
    UBoot,
    /// The firmware itself, with boot options.
    Efi,
    /// Whatever a program of the administrator's knows.
    Custom,
}

impl Loader {
    /// The name as it is in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SystemdBoot => "systemd-boot",
            Self::Grub => "grub",
            Self::UBoot => "u-boot",
            Self::Efi => "efi",
            Self::Custom => "custom",
        }
    }
}

/// What a machine shows of its boot loader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// What the boot loader calls itself, such as `systemd-boot 252.30`.
    pub(super) info: String,
    /// Whether there are entries of systemd-boot's on the ESP, or itself.
    pub(super) systemd_boot: bool,
    /// Whether there is a configuration of U-Boot's tools.
    pub(super) fw_env_config: bool,
    /// GRUB's environment block, if there is one that names slots.
    pub(super) grub_block: Option<PathBuf>,
    /// Whether the firmware has boot options, and a slot's UKI is where they would find it.
    pub(super) boot_options: bool,
}

/// The boot loader that the facts speak for: what it says itself first, then what only it would have. On a disk of ours without
/// a trace of any, it is systemd-boot.
pub(super) fn detect(facts: &Facts) -> Loader {
    if facts.info.starts_with("systemd-boot") {
        Loader::SystemdBoot
    } else if facts.grub_block.is_some() && !facts.fw_env_config {
        Loader::Grub
    } else if facts.fw_env_config {
        Loader::UBoot
    } else if facts.boot_options && !facts.systemd_boot {
        Loader::Efi
    } else {
        Loader::SystemdBoot
    }
}

/// Looks at the machine whose root is at `root` and whose ESP is at `esp`.
pub(super) fn look(root: &Path, esp: &Path) -> Facts {
    let efivars = root.join("sys/firmware/efi/efivars");
    Facts {
        info: text(&efivars.join(LOADER_INFO)).unwrap_or_default(),
        systemd_boot: ["EFI/systemd", "loader/loader.conf", "EFI/Linux"]
            .iter()
            .any(|path| esp.join(path).exists()),
        fw_env_config: root.join(FW_ENV_CONFIG).exists(),
        grub_block: grub_block(root, esp),
        boot_options: efivars.is_dir()
            && Slot::ALL.iter().any(|slot| esp.join(FOLDER).join(file_name(*slot)).exists()),
    }
}

/// GRUB's environment block, by its place and by what is in it. That of the shipped script is found by the script, too: it is damaged or
/// missing, and stays the one that the script looks for.
pub(super) fn grub_block(root: &Path, esp: &Path) -> Option<PathBuf> {
    if esp.join(GRUB_SCRIPT).exists() {
        return Some(esp.join(GRUB_BLOCKS[0]));
    }
    let on_esp = GRUB_BLOCKS.iter().map(|place| esp.join(place));
    let elsewhere = GRUB_BLOCKS_ELSEWHERE.iter().map(|place| root.join(place));
    on_esp.chain(elsewhere).find(|path| {
        let block =
            super::sectors::read(path, upright_manifests::boot::grub_env::MAX_SIZE).unwrap_or_default();
        block.windows(7).any(|window| window == b"\nORDER=")
    })
}

/// A variable that holds UTF-16; nothing if there is no such variable.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let bytes = efivars::read(path, MAX_TEXT)?.unwrap_or_default();
    let (units, _) = bytes.as_chunks();
    let units: Vec<u16> =
        units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0).collect();
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_boot_loader_says_counts_before_what_lies_around() {
        let block = Some(PathBuf::from("/efi/grub/grubenv"));
        let cases = [
            (Facts::default(), Loader::SystemdBoot),
            (
                Facts { info: "systemd-boot 252".into(), grub_block: block.clone(), ..Facts::default() },
                Loader::SystemdBoot,
            ),
            (Facts { systemd_boot: true, grub_block: block.clone(), ..Facts::default() }, Loader::Grub),
            (Facts { fw_env_config: true, grub_block: block, ..Facts::default() }, Loader::UBoot),
            (Facts { boot_options: true, ..Facts::default() }, Loader::Efi),
            (Facts { boot_options: true, systemd_boot: true, ..Facts::default() }, Loader::SystemdBoot),
        ];
        for (facts, expected) in cases {
            assert_eq!(detect(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_machine_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let esp = root.path().join("efi");
        let efivars = root.path().join("sys/firmware/efi/efivars");
        fs::create_dir_all(&efivars).unwrap();
        assert_eq!(look(root.path(), &esp), Facts::default());
        let text: Vec<u8> = "GRUB 2.12\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(efivars.join(LOADER_INFO), [&[6, 0, 0, 0][..], &text].concat()).unwrap();
        fs::create_dir_all(esp.join("grub")).unwrap();
        fs::write(esp.join("grub/grubenv"), "# GRUB Environment Block\nsaved_entry=0\n").unwrap();
        assert_eq!(look(root.path(), &esp), Facts { info: "GRUB 2.12".into(), ..Facts::default() });
        fs::write(esp.join("grub/grubenv"), "# GRUB Environment Block\nORDER=A B\n").unwrap();
        assert_eq!(detect(&look(root.path(), &esp)), Loader::Grub);
        fs::remove_dir_all(esp.join("grub")).unwrap();
        fs::create_dir_all(esp.join(FOLDER)).unwrap();
        fs::write(esp.join(FOLDER).join("b.efi"), "MZ").unwrap();
        assert_eq!(detect(&look(root.path(), &esp)), Loader::Efi);
        // The script goes on without its block.
        let ours = esp.join(FOLDER).join("grubenv");
        fs::write(esp.join(GRUB_SCRIPT), "").unwrap();
        for garbage in [None, Some("garbage")] {
            garbage.iter().for_each(|text| fs::write(&ours, text).unwrap());
            assert_eq!(look(root.path(), &esp).grub_block, Some(ours.clone()));
            assert_eq!(detect(&look(root.path(), &esp)), Loader::Grub);
        }
    }
}
