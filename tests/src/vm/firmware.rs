//! OVMF, the UEFI firmware for QEMU, as Debian packages it.

/// The firmware's code.
pub(super) const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// The firmware's variables as they are delivered; a machine gets a copy of its own.
pub(super) const VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The code that keeps its variables from the guest's kernel, and enforces Secure Boot.
pub(super) const SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd";

/// Variables with [`SECURE_BOOT_KEY`]'s certificate enrolled as PK, KEK and db.
pub(super) const SECURE_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";

/// The private key, encrypted with [`SECURE_BOOT_PASSPHRASE`].
pub(super) const SECURE_BOOT_KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";

/// Everybody knows it.
pub(super) const SECURE_BOOT_PASSPHRASE: &str = "snakeoil";

/// The certificate.
pub(super) const SECURE_BOOT_CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";

/// What the firmware writes to the serial line each time it starts a boot loader.
pub(super) const BOOT_LINE: &str = "BdsDxe: starting";

/// What SeaBIOS writes.
pub(super) const BIOS_BOOT_LINE: &str = "Booting from Hard Disk";

/// What U-Boot, which is firmware and boot loader, writes when it starts.
pub(super) const U_BOOT_LINE: &str = "U-Boot 2";
