//! The layout beside an image: JSON under zstd.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use upright_manifests::digest::Digest;

use super::record::LAYOUT;
use crate::erofs::Layout;
use crate::repo::error::{Error, Result};

/// The longest layout that is read, in bytes.
const MAX: u64 = 256 << 20;

const LEVEL: i32 = 9;

/// Reads the layout in a build's folder.
pub fn read(folder: &Path) -> Result<Layout> {
    read_with_digest(folder).map(|(layout, _)| layout)
}

/// The same, with the SHA-256 of its JSON.
pub fn read_with_digest(folder: &Path) -> Result<(Layout, Digest)> {
    let path = folder.join(LAYOUT);
    let file = File::open(&path).map_err(Error::file("open", &path))?;
    let mut text = Vec::new();
    zstd::Decoder::new(file)
        .and_then(|decoder| decoder.take(MAX).read_to_end(&mut text))
        .map_err(Error::file("read", &path))?;
    let layout = serde_json::from_slice(&text).map_err(|error| {
        let path = path.display();
        Error::Unverified(format!(
            "{path} is not a layout: {error}; remove the build's folder and build it again"
        ))
    })?;
    Ok((layout, Digest::of(&text)))
}

/// Writes a layout; equal layouts give equal bytes.
pub fn write(path: &Path, layout: &Layout) -> Result<()> {
    let text = serde_json::to_vec(layout)
        .map_err(|error| Error::Failed(format!("cannot write {}: {error}", path.display())))?;
    let packed = zstd::bulk::compress(&text, LEVEL).map_err(Error::file("compress", path))?;
    fs::write(path, packed).map_err(Error::file("write", path))
}
