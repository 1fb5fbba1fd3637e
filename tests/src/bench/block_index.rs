//! What RAUC's adaptive updates fetch, computed: an index with the SHA-256 of each block of 4 KiB, and those blocks that the host
//! does not have.
//!
//! The file is the number of blocks, the index, then the missing blocks in the order in which the index first names them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;

const BLOCK: usize = 4096;
const HASH: usize = 32;

/// Writes what is fetched to get from `old` to `new`.
pub fn make(old: &Path, new: &Path, out: &Path) -> Result<()> {
    let mut have: HashSet<Digest> = positions(old)?.into_keys().collect();
    let mut missing = Vec::new();
    let mut out = BufWriter::new(create(out)?);
    out.write_all(&(open(new)?.metadata()?.len() / BLOCK as u64).to_le_bytes())?;
    each_block(new, |number, block| {
        let hash = Digest::of(block);
        out.write_all(hash.as_bytes())?;
        if have.insert(hash) {
            missing.push(number);
        }
        Ok(())
    })?;
    let new = open(new)?;
    let mut block = [0; BLOCK];
    for number in missing {
        new.read_exact_at(&mut block, number * BLOCK as u64)?;
        out.write_all(&block)?;
    }
    Ok(out.flush()?)
}

/// Rebuilds the image from `old` and what was fetched, checking each block that comes from either.
pub fn apply(old: &Path, fetched: &Path, out: &Path) -> Result<()> {
    let have = positions(old)?;
    let (old, mut index) = (open(old)?, BufReader::new(open(fetched)?));
    let mut count = [0; 8];
    index.read_exact(&mut count).context("reading the number of blocks")?;
    let blocks = u64::from_le_bytes(count);
    let mut more = BufReader::with_capacity(1 << 20, open(fetched)?);
    more.seek(SeekFrom::Start(8 + blocks * HASH as u64))?;
    let mut new: HashMap<Digest, u64> = HashMap::new();
    let out = create(out)?;
    let (mut hash, mut block) = ([0; HASH], [0; BLOCK]);
    for number in 0..blocks {
        index.read_exact(&mut hash).context("reading the index")?;
        let hash = Digest::from(hash);
        match (have.get(&hash), new.get(&hash)) {
            (Some(at), _) => old.read_exact_at(&mut block, at * BLOCK as u64)?,
            (_, Some(at)) => out.read_exact_at(&mut block, at * BLOCK as u64)?,
            _ => {
                more.read_exact(&mut block).context("reading a block")?;
                new.insert(hash, number);
            }
        }
        ensure!(Digest::of(&block) == hash, "block {number} is not what the index says");
        out.write_all_at(&block, number * BLOCK as u64)?;
    }
    Ok(())
}

/// Where each block of a file stands first.
fn positions(path: &Path) -> Result<HashMap<Digest, u64>> {
    let mut found = HashMap::new();
    each_block(path, |number, block| {
        found.entry(Digest::of(block)).or_insert(number);
        Ok(())
    })?;
    Ok(found)
}

fn each_block(path: &Path, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let file = open(path)?;
    let blocks = file.metadata()?.len() / BLOCK as u64;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut block = [0; BLOCK];
    for number in 0..blocks {
        reader.read_exact(&mut block).with_context(|| format!("reading {}", path.display()))?;
        take(number, &block)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    file.with_context(|| format!("creating {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::noise;

    #[test]
    fn an_image_comes_back_and_only_what_is_missing_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let old = noise(1, 8 * BLOCK);
        // Two blocks are new, one of them twice; the rest has moved.
        let mut new = old[BLOCK..].to_vec();
        new.extend([noise(2, BLOCK), noise(3, BLOCK), noise(2, BLOCK)].concat());
        std::fs::write(at("old"), &old).unwrap();
        std::fs::write(at("new"), &new).unwrap();
        make(&at("old"), &at("new"), &at("fetched")).unwrap();
        assert_eq!(std::fs::metadata(at("fetched")).unwrap().len(), (8 + 10 * HASH + 2 * BLOCK) as u64);
        apply(&at("old"), &at("fetched"), &at("out")).unwrap();
        assert!(std::fs::read(at("out")).unwrap() == new);
        std::fs::write(at("old"), noise(4, 8 * BLOCK)).unwrap();
        assert!(apply(&at("old"), &at("fetched"), &at("out")).is_err());
    }
}
