//! Names of boot entries with boot counting: `<os>_<version>+<left>-<done>.efi`.
//!
//! Source: UAPI.1 Boot Loader Specification, "Boot counting"; systemd-boot keeps the counter in the
//! file's name and takes one try off at each start.
