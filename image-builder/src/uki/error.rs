//! Why a UKI cannot be made.

use std::io;
use std::path::PathBuf;

use upright_manifests::name::{Arch, OsName};
use upright_manifests::pe::PeError;

use crate::tools::ToolError;

/// Why a UKI cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The tree has no kernel.
    #[error(
        "the tree has no kernel: looked for usr/lib/modules/<version>/vmlinuz and boot/vmlinuz-<version>; install a \
         kernel package into the root file system"
    )]
    NoKernel,
    /// The tree has kernels, but not the one that was asked for.
    #[error("the tree has no kernel {wanted}: looked for {looked_at}; it has {found}")]
    NotThisKernel {
        /// The version that was asked for.
        wanted: String,
        /// The paths that were looked at.
        looked_at: String,
        /// The versions that are there.
        found: String,
    },
    /// The kernel has no initrd.
    #[error(
        "the tree has no initrd for kernel {kernel}: looked for {looked_at}; make one with dracut or \
         update-initramfs in the root file system"
    )]
    NoInitrd {
        /// The kernel's version.
        kernel: String,
        /// The paths that were looked at.
        looked_at: String,
    },
    /// The kernel or the initrd has no content.
    #[error("the {what} {path} is empty; {remedy} in the root file system")]
    Empty {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// Its path in the tree.
        path: String,
        /// How to make one.
        remedy: &'static str,
    },
    /// The kernel is not an EFI program.
    #[error(
        "{path} is not an EFI kernel: {reason}; install one that was built with CONFIG_EFI_STUB, and is not compressed as a \
         whole"
    )]
    NotEfi {
        /// Its path in the tree.
        path: String,
        /// What is wrong with it.
        reason: PeError,
    },
    /// The kernel is for another architecture.
    #[error(
        "{path} is for {found}, this workspace is for {arch}; build it in a workspace of its own, or mend `arch` in upright.toml"
    )]
    OtherMachine {
        /// Its path in the tree.
        path: String,
        /// What it is for.
        found: String,
        /// The architecture of the release.
        arch: Arch,
    },
    /// The tree is one of another OS.
    #[error(
        "{path} says IMAGE_ID={found}, this workspace makes releases of {os}; build it in a workspace of its own, or take the line out"
    )]
    OtherOs {
        /// The path of the os-release file in the tree.
        path: String,
        /// What it says.
        found: String,
        /// The workspace's OS.
        os: OsName,
    },
    /// A part of systemd-boot is neither in the tree nor on this machine.
    #[error(
        "no {file}: looked for {looked_at}; install the package systemd-boot-efi on this machine or in the tree"
    )]
    NoBootFile {
        /// The file's name.
        file: &'static str,
        /// The paths that were looked at.
        looked_at: String,
    },
    /// The stub is not a usable EFI program.
    #[error("the systemd stub is unusable: {0}")]
    Stub(#[from] PeError),
    /// The stub is one that nothing can be appended to.
    #[error("the systemd stub is unusable: {0}")]
    Unsuitable(String),
    /// The stub is for another architecture.
    #[error("the systemd stub is for machine {found:#06x}, not for {arch}")]
    Machine {
        /// The machine type in its header.
        found: u16,
        /// The architecture of the release.
        arch: Arch,
    },
    /// Everything together has no place in a PE image.
    #[error("the UKI would have {0} bytes, more than an EFI program can have (4294967295)")]
    TooLarge(u64),
    /// The command line cannot be used.
    #[error("kernel command line: {0}")]
    CommandLine(String),
    /// The os-release file cannot be used.
    #[error("{path} is unusable: {reason}")]
    OsRelease {
        /// Its path in the tree.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of the tree could not be read.
    #[error("cannot read {path} of the tree: {source}")]
    Content {
        /// Its path in the tree.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A file of this machine could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The result could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The certificate for Secure Boot cannot be used.
    #[error("cannot use the certificate {path}: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The signing program failed.
    #[error("cannot sign the UKI: {0}")]
    Sign(#[from] ToolError),
}
