//! Makes simulated hosts (`upright --root DIR`) out of a build, as a first install would.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use upright_image_builder::repo::build::{Build, IMAGE, UKI};
use upright_manifests::verity::{BLOCK, SUPERBLOCK_SIZE, TreeBuilder};

/// The sizes of a simulated host's partitions, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A slot's root partition.
    pub root: u64,
    /// A slot's verity partition.
    pub verity: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { root: 64 << 20, verity: 2 << 20 }
    }
}

/// Makes a host at `host` that has the build in `build` in slot a, trusts `root_json`, and has `config` as its
/// configuration.
pub fn install(host: &Path, build: &Path, root_json: &Path, config: &str, sizes: Sizes) -> Result<()> {
    let record = Build::read(build)?.with_context(|| format!("{} holds no build", build.display()))?;
    ensure!(record.root.size <= sizes.root, "the image does not fit the simulated slot");
    for folder in ["dev", "esp/EFI/Linux", "etc/upright", "usr/share/upright", "var/lib/upright"] {
        fs::create_dir_all(host.join(folder))?;
    }
    for slot in ["a", "b"] {
        for (name, size) in
            [(format!("root-{slot}"), sizes.root), (format!("root-{slot}-verity"), sizes.verity)]
        {
            File::create(host.join("dev").join(name))?.set_len(size)?;
        }
    }
    write_slot(host, build, &record)?;
    let entry = format!("esp/EFI/Linux/{}_{}.efi", record.os, record.version);
    fs::copy(build.join(UKI), host.join(entry))?;
    fs::copy(root_json, host.join("usr/share/upright/root.json"))?;
    fs::write(host.join("etc/upright/upright.toml"), config)?;
    fs::write(host.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")?;
    Ok(())
}

fn write_slot(host: &Path, build: &Path, record: &Build) -> Result<()> {
    let mut image = File::open(build.join(IMAGE))?;
    let mut slot = File::options().write(true).open(host.join("dev/root-a"))?;
    let tree = File::options().write(true).open(host.join("dev/root-a-verity"))?;
    let sink = |offset: u64, block: &[u8; BLOCK]| tree.write_all_at(block, offset);
    let params = &record.root.verity;
    let mut builder = TreeBuilder::new(params.salt, params.data_blocks, sink)?;
    let mut buffer = vec![0; 1 << 20];
    image.seek(SeekFrom::Start(0))?;
    loop {
        let count = read_full(&mut image, &mut buffer)?;
        if count == 0 {
            break;
        }
        slot.write_all(&buffer[..count])?;
        builder.update(&buffer[..count]).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let (made, _) = builder.finish().map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(made == *params, "the image is not the one its build record describes");
    let mut superblock = [0; BLOCK];
    superblock[..SUPERBLOCK_SIZE].copy_from_slice(&params.superblock()?.to_bytes());
    Ok(tree.write_all_at(&superblock, 0)?)
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
