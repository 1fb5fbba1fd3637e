//! Where a tree comes from: a directory, a tar, an OCI image, an OSTree ref.
//!
//! Each input feeds its entries, in its own order, to one [`TreeBuilder`](crate::tree::TreeBuilder), and streams the
//! content of files into the store as it goes. None needs root.

mod compress;
mod detect;
mod dir;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod oci;
mod ostree;
mod tar;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use upright_keys::PublicKey;
use upright_manifests::name::Arch;

pub use error::{InputError, ReadError};

use crate::tree::{Batch, Repeat, Tree, TreeBuilder};

/// The largest file that is taken, in bytes, holes included.
const MAX_FILE: u64 = 1 << 36;

/// Where a tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder that holds a root file system.
    Directory(PathBuf),
    /// An archive of a root file system: tar, plain or compressed with gzip or zstd.
    Tar(PathBuf),
    /// A folder that is an OCI image layout.
    OciLayout(PathBuf),
    /// A tar of an OCI image layout.
    OciArchive(PathBuf),
    /// A ref or commit in a local OSTree repository.
    Ostree {
        /// The repository.
        repository: PathBuf,
        /// The ref, or a commit's checksum.
        reference: String,
        /// One of these must have signed the commit, if there are any.
        keys: Vec<PublicKey>,
    },
}

/// A tree and the newest modification time in its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The tree.
    pub tree: Tree,
    /// Seconds since 1970; zero when the input knows no times.
    pub newest: u64,
}

impl Source {
    /// What the input is called in messages.
    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Tar(path) | Self::OciLayout(path) | Self::OciArchive(path) => path,
            Self::Ostree { repository, .. } => repository,
        }
    }
}

/// Reads `source` and stores its files in `batch`; of an image for several architectures, that for `arch`.
pub fn read(source: &Source, arch: Arch, batch: &Batch<'_>) -> Result<Imported, ReadError> {
    let imported = match source {
        Source::Directory(path) => dir::read(path, batch),
        Source::Tar(path) => read_tar(path, batch),
        Source::OciLayout(path) => oci::read_layout(path, arch, batch),
        Source::OciArchive(path) => oci::read_archive(path, arch, batch),
        Source::Ostree { repository, reference, keys } => ostree::read(repository, reference, keys, batch),
    };
    imported.map_err(|reason| ReadError { input: source.path().to_owned(), reason })
}

/// The length of an archive that is not compressed, whose files are about as long together.
pub fn plain_length(source: &Source) -> Option<u64> {
    match source {
        Source::Tar(path) => compress::open(path).ok()?.1,
        _ => None,
    }
}

fn read_tar(path: &Path, batch: &Batch<'_>) -> Result<Imported, InputError> {
    let (plain, length) = compress::open(path)?;
    let mut builder = TreeBuilder::new(Repeat::Refuse);
    let newest = tar::read(plain, tar::Rules { length, end_mark: true }, &mut builder, batch)?;
    Ok(Imported { tree: builder.finish()?, newest })
}
