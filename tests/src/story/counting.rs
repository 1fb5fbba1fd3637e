//! Real boot loaders count, fall back and stay, as the agent told them to, on machines whose systems only say which they are.
//!
//! The agent's back end works on a folder that is the ESP between two boots; a boot is the real boot loader on a disk that holds that
//! folder, and what the boot loader wrote is taken back into it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upright_manifests::boot::uboot_env::UbootEnv;
use upright_manifests::name::{Arch, Slot};
use upright_updater::boot::{BootLoader, Entry, Loader, Trust, open};
use upright_updater::config::Boot;

use super::loader::{ESP_AT, Esp, run, standalone};
use super::payload::{SAYS, uki};
use super::{Place, Teller};
use crate::vm::{Accelerator, Hardware, Machine, Vm, start_arm};

const OS: &str = "demo";

/// How long the firmware, the boot loader and the program may take: two seconds with nothing else to do.
const START_TIME: Duration = Duration::from_secs(180);

const DISK_BYTES: u64 = 64 << 20;
const ENV_BYTES: usize = 0x2000;

/// A machine with a boot loader.
struct Board {
    arch: Arch,
    /// What is on the ESP.
    esp: PathBuf,
    disk: PathBuf,
    work: PathBuf,
    boot: Box<dyn BootLoader>,
}

/// GRUB on a machine with UEFI firmware.
pub fn grub_counts(place: &Place, teller: Teller) -> Result<()> {
    let board = Board::new(
        place,
        Arch::X86_64,
        &Boot { loader: Some(Loader::Grub), ..Boot::default() },
        |esp, shipped| {
            let loader = esp.join("EFI/BOOT/BOOTX64.EFI");
            fs::create_dir_all(esp.join("EFI/BOOT"))?;
            standalone(&shipped.join("grub"), &loader)?;
            for file in ["grub.cfg", "grubenv"] {
                fs::copy(shipped.join("grub").join(file), esp.join("EFI/upright").join(file))?;
            }
            Ok(())
        },
    )?;
    board.live(teller)
}

/// U-Boot on an Arm machine.
pub fn uboot_counts(place: &Place, teller: Teller) -> Result<()> {
    let environment = place.work.join("fw_env.config");
    let config =
        Boot { loader: Some(Loader::UBoot), environment: Some(environment.clone()), ..Boot::default() };
    let board = Board::new(place, Arch::Arm64, &config, |esp, shipped| {
        let file = esp.join("EFI/upright/uboot.env");
        fs::write(&environment, format!("{} 0 {ENV_BYTES:#x}\n", file.display()))?;
        let mut env = UbootEnv::empty(ENV_BYTES, false);
        for (name, value) in [
            ("BOOT_ORDER", "A B"),
            ("BOOT_B_TRIES", "0"),
            ("BOOT_B_LEFT", "0"),
            ("BOOT_A_TRIES", "0"),
            ("BOOT_A_LEFT", "3"),
        ] {
            env.set(name, value);
        }
        fs::write(&file, env.to_bytes()?)?;
        let script = shipped.join("u-boot/boot.cmd");
        run(Command::new("mkimage")
            .args(["-A", "arm64", "-T", "script", "-d"])
            .arg(script)
            .arg(esp.join("boot.scr")))
    })?;
    board.live(teller)
}

impl Board {
    fn new(
        place: &Place,
        arch: Arch,
        config: &Boot,
        install: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<Self> {
        let (esp, disk) = (place.work.join("esp"), place.work.join("disk.img"));
        fs::create_dir_all(esp.join("EFI/upright"))?;
        fs::write(esp.join("EFI/upright/a.efi"), uki(arch, OS, "1.0.0"))?;
        install(&esp, &place.project.join("dist"))?;
        let boot = open(config, &place.work, &esp)?;
        Ok(Self { arch, esp, disk, work: place.work.clone(), boot })
    }

    fn live(&self, teller: Teller) -> Result<()> {
        let (old, new) = (entry(Slot::A, "1.0.0")?, entry(Slot::B, "1.1.0")?);
        let name = self.boot.name();
        self.boots(&["1.0.0", "1.0.0"]).context("a proven release")?;
        self.boot.remove_others(&old)?;
        self.boot.stage(&new, &mut &uki(self.arch, OS, "1.1.0")[..])?;
        self.boots(&["1.0.0"]).context("a release that is staged")?;
        teller.say(&format!("{name}: a proven release starts, and one that is staged does not"));
        self.boot.switch(&new, 3)?;
        self.boots(&["1.1.0"]).context("the switch")?;
        ensure!(
            self.boot.trust(&new)? == Some(Trust::Trial { left: 2, done: 1 }),
            "one boot was not counted"
        );
        self.boots(&["1.1.0", "1.1.0", "1.0.0", "1.0.0"]).context("a trial that is never proven")?;
        ensure!(self.boot.trust(&new)? == Some(Trust::Bad), "it has tries left");
        teller.say(&format!(
            "{name}: a release that does not prove itself has three boots, then the old one starts"
        ));
        self.boot.switch(&new, 2)?;
        self.boots(&["1.1.0"]).context("another trial")?;
        self.boot.mark_good(&new)?;
        self.boots(&["1.1.0", "1.1.0", "1.1.0", "1.1.0"]).context("a release that has proven itself")?;
        self.boot.mark_bad(&new)?;
        self.boots(&["1.0.0", "1.0.0"]).context("a rollback")?;
        self.boot.switch(&new, 3)?;
        // Its UKI is cut off in the middle of its headers.
        File::options().write(true).open(self.esp.join("EFI/upright/b.efi"))?.set_len(100)?;
        self.boots(&["1.0.0", "1.0.0"]).context("a UKI that does not start")?;
        teller.say(&format!(
            "{name}: a proven release stays; one that is left, or does not start, is passed over"
        ));
        Ok(())
    }

    /// Switches the machine on and lets it restart; it must start those releases, one after the other.
    fn boots(&self, versions: &[&str]) -> Result<()> {
        self.write_disk()?;
        let mut vm = self.start()?;
        for (number, version) in versions.iter().enumerate() {
            vm.console().wait_for(&[SAYS], START_TIME)?;
            let (_, ran) = vm.console().wait_for(&["\r", "\n"], START_TIME)?;
            ensure!(ran == *version, "boot {number}: {ran:?} was started instead of {version}");
        }
        drop(vm);
        self.read_disk()
    }

    fn start(&self) -> Result<Vm> {
        match self.arch {
            Arch::Arm64 => start_arm(&self.disk, &self.work),
            Arch::X86_64 => Machine {
                disk: self.disk.clone(),
                folder: self.work.clone(),
                memory: 256,
                secure_boot: false,
                accelerator: Accelerator::detect(),
                recording: None,
                warm_resets: false,
                medium: None,
                hardware: Hardware::default(),
            }
            .start(),
        }
    }

    fn fat(&self) -> Esp {
        Esp { image: format!("{}@@{ESP_AT}", self.disk.display()) }
    }

    /// A disk whose only partition has what the folder has.
    fn write_disk(&self) -> Result<()> {
        File::create(&self.disk)?.set_len(DISK_BYTES)?;
        run(Command::new("sgdisk").args(["--new=1:2048:0", "--typecode=1:ef00"]).arg(&self.disk))?;
        self.fat().run("mformat", ["-F", "-T", &((DISK_BYTES - 2 * ESP_AT) / 512).to_string(), "::"])?;
        let mut all: Vec<_> = fs::read_dir(&self.esp)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
        all.insert(0, "-s".into());
        all.push("::".into());
        self.fat().run("mcopy", all)
    }

    /// Takes what a boot loader may have changed.
    fn read_disk(&self) -> Result<()> {
        for file in ["EFI/upright/grubenv", "EFI/upright/uboot.env"] {
            let path = self.esp.join(file);
            if path.exists() {
                let source = format!("::{file}");
                self.fat().run("mcopy", ["-n".as_ref(), "-o".as_ref(), source.as_ref(), path.as_os_str()])?;
            }
        }
        Ok(())
    }
}

fn entry(slot: Slot, version: &str) -> Result<Entry> {
    Ok(Entry { slot, os: OS.parse()?, version: version.parse()? })
}
