//! Puts another boot loader onto a disk image, as whoever sets up such a board would.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Place;

/// Where `upright-build disk` puts the ESP, in bytes.
pub(super) const ESP_AT: u64 = 1 << 20;

/// GRUB for BIOS, as Debian packages it.
const MODULES: &str = "/usr/lib/grub/i386-pc";

/// The sector behind the GPT's entries, where GRUB's core goes.
const CORE_AT: u64 = 34;

/// The code in a disk's first sector, in bytes; a signature and the partitions follow.
const BOOT_CODE: usize = 440;

/// Where the code says in which sector the core begins (GRUB, `grub-core/boot/i386/pc/boot.S`).
const CORE_SECTOR: Range<usize> = 0x5c..0x64;

/// Where the core's first sector says in which sector the rest of it begins (`diskboot.S`).
const REST_SECTOR: Range<usize> = 0x1f4..0x1fc;

/// The boot loader of a story's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Loader {
    /// What disk images have.
    #[default]
    SystemdBoot,
    /// GRUB with the configuration in `dist/grub`.
    Grub,
    /// The same on a machine with a BIOS.
    GrubBios,
    /// None: the firmware's own boot options.
    Efi,
}

/// Makes the boot loader that of the disk image, on which `uki` (a path on the ESP) starts slot a.
pub(super) fn install(loader: Loader, place: &Place, disk: &Path, uki: &str) -> Result<()> {
    if loader == Loader::SystemdBoot {
        return Ok(());
    }
    let esp = Esp { image: format!("{}@@{ESP_AT}", disk.display()) };
    let taken = place.work.join("a.efi");
    esp.run("mcopy", [OsStr::new("-o"), format!("::{uki}").as_ref(), taken.as_os_str()])?;
    esp.run("mdeltree", ["::EFI/Linux", "::EFI/systemd", "::loader"])?;
    esp.run("mmd", ["::EFI/upright"])?;
    esp.put(&taken, "EFI/upright/a.efi")?;
    match loader {
        Loader::SystemdBoot => {}
        Loader::Grub => grub(place, &esp)?,
        Loader::GrubBios => grub_on_bios(place, disk, &esp)?,
        // What firmware without any boot option starts; from then on the agent makes options.
        Loader::Efi => esp.put(&taken, "EFI/BOOT/BOOTX64.EFI")?,
    }
    fs::remove_file(&taken).context("removing a.efi")
}

fn grub(place: &Place, esp: &Esp) -> Result<()> {
    let shipped = place.project.join("dist/grub");
    let image = place.work.join("grub.efi");
    standalone(&shipped, &image)?;
    esp.put(&image, "EFI/BOOT/BOOTX64.EFI")?;
    configure(&shipped, esp)?;
    fs::remove_file(&image).context("removing grub.efi")
}

/// What choosing and counting needs.
fn configure(shipped: &Path, esp: &Esp) -> Result<()> {
    for file in ["grub.cfg", "grubenv"] {
        esp.put(&shipped.join(file), &format!("EFI/upright/{file}"))?;
    }
    Ok(())
}

/// What `grub-install --target=i386-pc --boot-directory=ESP DISK` does, which would have to mount the ESP: modules and configuration on
/// the ESP, the core in a partition of its own, and in the disk's first sector what loads it.
fn grub_on_bios(place: &Place, disk: &Path, esp: &Esp) -> Result<()> {
    let shipped = place.project.join("dist/grub");
    configure(&shipped, esp)?;
    esp.put(&place.work.join("workspace/builds/1.0.0/uki.cfg"), "EFI/upright/a.cfg")?;
    for folder in ["::grub", "::grub/i386-pc"] {
        esp.run("mmd", [folder])?;
    }
    esp.put(&shipped.join("embedded.cfg"), "grub/grub.cfg")?;
    for file in fs::read_dir(MODULES).with_context(|| format!("listing {MODULES}"))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if [".mod", ".lst"].iter().any(|end| name.ends_with(end)) {
            esp.put(&file.path(), &format!("grub/i386-pc/{name}"))?;
        }
    }
    run(Command::new("sgdisk")
        .args(["--set-alignment=1", "--new=0:34:2047", "--typecode=0:ef02"])
        .arg(disk))?;
    let core = place.work.join("core.img");
    run(Command::new("grub-mkimage")
        .args(["--format", "i386-pc", "--prefix", "(,gpt1)/grub", "--output"])
        .arg(&core)
        .args(["biosdisk", "part_gpt", "fat"]))?;
    let (boot, mut core) = (fs::read(Path::new(MODULES).join("boot.img"))?, fs::read(core)?);
    let mut boot = boot.get(..BOOT_CODE).context("boot.img is too short")?.to_vec();
    boot[CORE_SECTOR].copy_from_slice(&CORE_AT.to_le_bytes());
    core.get_mut(REST_SECTOR).context("core.img is too short")?.copy_from_slice(&(CORE_AT + 1).to_le_bytes());
    let disk = File::options().write(true).open(disk)?;
    disk.write_all_at(&boot, 0)?;
    disk.write_all_at(&core, CORE_AT * 512).context("writing GRUB's core")
}

/// GRUB in one file, with the configuration inside that is shipped for that.
pub(super) fn standalone(shipped: &Path, image: &Path) -> Result<()> {
    let embedded = format!("boot/grub/grub.cfg={}", shipped.join("embedded.cfg").display());
    run(Command::new("grub-mkstandalone")
        .args(["--format", "x86_64-efi", "--modules", "part_gpt fat", "--output"])
        .arg(image)
        .arg(embedded))
}

/// The ESP of a disk image.
pub(super) struct Esp {
    pub(super) image: String,
}

impl Esp {
    /// Copies a file to it.
    pub(super) fn put(&self, file: &Path, name: &str) -> Result<()> {
        self.run("mcopy", [OsStr::new("-o"), file.as_os_str(), format!("::{name}").as_ref()])
    }

    /// Runs one of mtools' programs on it.
    pub(super) fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        run(Command::new(program).args(["-i", &self.image]).args(arguments))
    }
}

/// Runs a program that must succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?}: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
