//! Writes a FAT32 file system with the files given, each in one run of clusters.
//!
//! Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03. Sectors have 512 bytes.
//!
//! ```text
//! sector 0      boot sector, its copy in sector 6
//! sector 1      FSInfo, its copy in sector 7
//! RESERVED      two copies of the FAT
//!               clusters, from number 2 on: folders first, then files
//! ```

mod names;
mod plan;

use std::path::Path;

use jiff::civil::DateTime;

use super::DiskError;
use super::sparse::Target;
use plan::{Geometry, Layout, Node};

const SECTOR: u64 = 512;

/// The end of a chain of clusters.
const END: u32 = 0x0fff_ffff;

/// A file system to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volume {
    /// Where it starts on the disk, in bytes.
    pub(super) offset: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The volume's serial number.
    pub(super) serial: u32,
    /// What every file's times are.
    pub(super) time: DateTime,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum FileSource<'a> {
    /// It is here.
    Bytes(&'a [u8]),
    /// It is in a file.
    Path(&'a Path),
}

/// How many bytes of clusters a file system of that size has.
pub(super) fn capacity(size: u64) -> Result<u64, DiskError> {
    let geometry = Geometry::new(size)?;
    // The root folder takes one.
    Ok(u64::from(geometry.clusters - 1) * geometry.cluster_size)
}

/// Writes the file system. Paths are relative, with `/` between ASCII names.
pub(super) fn write(
    volume: &Volume,
    files: &[(&str, FileSource<'_>)],
    target: Target<'_>,
) -> Result<(), DiskError> {
    let geometry = Geometry::new(volume.size)?;
    let layout = Layout::new(&geometry, files)?;
    let put = |sector: u64, bytes: &[u8]| target.write(volume.offset + sector * SECTOR, bytes);
    for copy in [0, 6] {
        put(copy, &boot_sector(volume, &geometry))?;
        put(copy + 1, &fs_info(&geometry, layout.used))?;
    }
    let table = layout.table();
    for copy in 0..2 {
        put(geometry.reserved + copy * geometry.fat_sectors, &table)?;
    }
    for node in &layout.nodes {
        let at = volume.offset + geometry.position(node.start());
        match node {
            Node::Folder(folder) => {
                target.write(at, &names::folder_bytes(folder, &layout.nodes, volume.time)?)?;
            }
            Node::File { source: FileSource::Bytes(bytes), .. } => target.write(at, bytes)?,
            Node::File { source: FileSource::Path(path), .. } => {
                target.copy(path, at, |_| Ok(()))?;
            }
        }
    }
    Ok(())
}

fn boot_sector(volume: &Volume, geometry: &Geometry) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let hidden = u32::try_from(volume.offset / SECTOR).unwrap_or(0);
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"MSWIN4.1");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[geometry.sectors_per_cluster]);
    put(14, &(geometry.reserved as u16).to_le_bytes());
    put(16, &[2]);
    put(21, &[0xf8]);
    put(24, &63u16.to_le_bytes());
    put(26, &255u16.to_le_bytes());
    put(28, &hidden.to_le_bytes());
    put(32, &(geometry.sectors as u32).to_le_bytes());
    put(36, &(geometry.fat_sectors as u32).to_le_bytes());
    put(44, &2u32.to_le_bytes());
    put(48, &1u16.to_le_bytes());
    put(50, &6u16.to_le_bytes());
    put(64, &[0x80, 0, 0x29]);
    put(67, &volume.serial.to_le_bytes());
    put(71, names::LABEL);
    put(82, b"FAT32   ");
    put(510, &[0x55, 0xaa]);
    bytes
}

fn fs_info(geometry: &Geometry, used: u32) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &(geometry.clusters - used).to_le_bytes());
    put(492, &(2 + used).to_le_bytes());
    put(510, &[0x55, 0xaa]);
    bytes
}
