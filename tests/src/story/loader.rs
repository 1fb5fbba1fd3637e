//! Puts another boot loader onto a disk image, as whoever sets up such a board would.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Place;

/// Where `upright-build disk` puts the ESP, in bytes.
pub(super) const ESP_AT: u64 = 1 << 20;

/// The boot loader of a story's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Loader {
    /// What disk images have.
    #[default]
    SystemdBoot,
    /// GRUB with the configuration in `dist/grub`.
    Grub,
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
    for file in ["grub.cfg", "grubenv"] {
        esp.put(&shipped.join(file), &format!("EFI/upright/{file}"))?;
    }
    fs::remove_file(&image).context("removing grub.efi")
}

/// GRUB in one file, with the configuration inside that is shipped for that.
pub(super) fn standalone(shipped: &Path, image: &Path) -> Result<()> {
    let embedded = format!("boot/grub/grub.cfg={}", shipped.join("embedded.cfg").display());
    let made = Command::new("grub-mkstandalone")
        .args(["--format", "x86_64-efi", "--modules", "part_gpt fat", "--output"])
        .arg(image)
        .arg(embedded)
        .output()
        .context("cannot run grub-mkstandalone")?;
    ensure!(made.status.success(), "grub-mkstandalone: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
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
        let output = Command::new(program)
            .args(["-i", &self.image])
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
