//! OVMF, the UEFI firmware for QEMU, as Debian packages it.

/// The firmware's code.
pub(super) const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// The firmware's variables as they are delivered; a machine gets a copy of its own.
pub(super) const VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What the firmware writes to the serial line each time it starts a boot loader.
pub(super) const BOOT_LINE: &str = "BdsDxe: starting";
