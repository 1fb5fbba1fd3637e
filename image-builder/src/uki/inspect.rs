//! Whether a kernel and its initrd can boot what is built: better refused here than by the firmware of a host.

use std::io::Read;

use upright_manifests::name::Arch;
use upright_manifests::pe::{Headers, MAX_HEADERS};

use super::UkiError;
use super::find::{Kernel, shown};
use crate::tree::Contents;

/// Refuses files without content, and a kernel that the firmware of `arch` would not start.
pub(super) fn inspect(kernel: &Kernel, contents: &dyn Contents, arch: Arch) -> Result<(), UkiError> {
    let parts = [
        ("kernel", &kernel.image, "install a kernel package"),
        ("initrd", &kernel.initrd, "make one with dracut or update-initramfs"),
    ];
    for (what, (path, content), remedy) in parts {
        if content.size == 0 {
            return Err(UkiError::Empty { what, path: shown(path), remedy });
        }
    }
    let (path, content) = &kernel.image;
    let reading = |source| UkiError::Content { path: shown(path), source };
    let mut head = Vec::new();
    let opened = contents.open(content).map_err(reading)?;
    opened.take(MAX_HEADERS as u64).read_to_end(&mut head).map_err(reading)?;
    let headers = Headers::parse(&head).map_err(|reason| UkiError::NotEfi { path: shown(path), reason })?;
    match headers.machine == machine(arch) {
        true => Ok(()),
        false => Err(UkiError::OtherMachine { path: shown(path), found: name(headers.machine), arch }),
    }
}

/// The machine type in the headers of EFI programs for `arch`.
pub(super) fn machine(arch: Arch) -> u16 {
    match arch {
        Arch::X86_64 => 0x8664,
        Arch::Arm64 => 0xaa64,
    }
}

/// What a machine type is called.
fn name(machine: u16) -> String {
    let arch = [Arch::X86_64, Arch::Arm64].into_iter().find(|arch| self::machine(*arch) == machine);
    arch.map_or_else(|| format!("machine {machine:#06x}"), |arch| arch.to_string())
}
