//! What boot loaders keep their choice of a system in.
//!
//! systemd-boot's is in file names: [`crate::bls`].

pub mod grub_env;
pub mod grub_uki;
pub mod load_option;
pub mod uboot_env;
