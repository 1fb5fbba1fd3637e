//! Which clusters folders and files get.

use std::collections::BTreeMap;
use std::fs;

use super::super::DiskError;
use super::{END, FileSource, SECTOR, names};

/// FAT32 begins here; what has fewer clusters is read as FAT16. A margin, as the specification advises.
const MIN_CLUSTERS: u64 = 65_525 + 16;

/// The most clusters of FAT32.
const MAX_CLUSTERS: u64 = 0x0fff_fff0;

/// The first sectors, before the FAT.
const RESERVED: u64 = 32;

/// The sizes that follow from a volume's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Geometry {
    /// Sectors of the volume.
    pub(super) sectors: u64,
    /// Sectors of a cluster.
    pub(super) sectors_per_cluster: u8,
    /// Sectors before the first FAT.
    pub(super) reserved: u64,
    /// Sectors of each of the two FATs.
    pub(super) fat_sectors: u64,
    /// How many clusters there are; the first one is number 2.
    pub(super) clusters: u32,
    /// Bytes of a cluster.
    pub(super) cluster_size: u64,
}

impl Geometry {
    /// The largest clusters, up to a page, that leave enough of them for FAT32.
    pub(super) fn new(size: u64) -> Result<Self, DiskError> {
        let found = [8, 4, 2, 1].into_iter().find_map(|sectors| Self::with_clusters_of(sectors, size));
        found.ok_or(DiskError::Size { label: "esp", size, expected: "33MiB to 1TiB" })
    }

    fn with_clusters_of(sectors_per_cluster: u8, size: u64) -> Option<Self> {
        let sectors = size / SECTOR;
        u32::try_from(sectors).ok()?;
        let per_cluster = u64::from(sectors_per_cluster);
        // As if the FAT took no room: a few sectors more than it needs.
        let fat_sectors = ((sectors / per_cluster + 2) * 4).div_ceil(SECTOR);
        // Clusters begin where a page does.
        let data = (RESERVED + 2 * fat_sectors).next_multiple_of(8);
        let clusters = sectors.checked_sub(data)? / per_cluster;
        (MIN_CLUSTERS..=MAX_CLUSTERS).contains(&clusters).then_some(Self {
            sectors,
            sectors_per_cluster,
            reserved: data - 2 * fat_sectors,
            fat_sectors,
            clusters: clusters as u32,
            cluster_size: per_cluster * SECTOR,
        })
    }

    /// Where a cluster is in the volume, in bytes.
    pub(super) fn position(&self, cluster: u32) -> u64 {
        let data = (self.reserved + 2 * self.fat_sectors) * SECTOR;
        data + u64::from(cluster.saturating_sub(2)) * self.cluster_size
    }
}

/// A folder or a file with its place.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A folder.
    Folder(Folder),
    /// A file.
    File {
        /// The first cluster; 0 if it is empty.
        start: u32,
        /// The length in bytes.
        size: u32,
        /// Where its content comes from.
        source: FileSource<'a>,
    },
}

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// The first cluster.
    pub(super) start: u32,
    /// The first cluster of the folder it is in; 0 for what is in the root, and for the root itself.
    pub(super) parent: u32,
    /// What it holds: a name and a node's index.
    pub(super) entries: BTreeMap<String, usize>,
}

impl Node<'_> {
    /// The first cluster.
    pub(super) fn start(&self) -> u32 {
        match self {
            Self::Folder(folder) => folder.start,
            Self::File { start, .. } => *start,
        }
    }
}

/// All folders and files with their places; the root folder is the first node.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// The nodes, folders first.
    pub(super) nodes: Vec<Node<'a>>,
    /// Each node's chain: first cluster and number of clusters.
    chains: Vec<(u32, u32)>,
    /// How many clusters are used.
    pub(super) used: u32,
}

impl<'a> Layout<'a> {
    /// Gives each folder and file its clusters.
    pub(super) fn new(geometry: &Geometry, files: &[(&str, FileSource<'a>)]) -> Result<Self, DiskError> {
        let mut layout = Self { nodes: Vec::new(), chains: Vec::new(), used: 0 };
        layout.add_folder(geometry, 0)?;
        let mut parents = Vec::new();
        for (path, _) in files {
            parents.push(layout.folder_of(geometry, path)?);
        }
        for ((path, source), parent) in files.iter().zip(parents) {
            let name = path.rsplit('/').next().unwrap_or(path);
            let length = match source {
                FileSource::Bytes(bytes) => bytes.len() as u64,
                FileSource::Path(path) => fs::metadata(path)
                    .map_err(|source| DiskError::Read { path: path.to_path_buf(), source })?
                    .len(),
            };
            let expected = "files of less than 4GiB that fit";
            let size = u32::try_from(length);
            let size = size.map_err(|_| DiskError::Size { label: "esp", size: length, expected })?;
            let start = layout.allocate(geometry, length)?;
            layout.nodes.push(Node::File { start, size, source: *source });
            layout.enter(parent, name)?;
        }
        Ok(layout)
    }

    /// One copy of the FAT, up to the last cluster in use.
    pub(super) fn table(&self) -> Vec<u8> {
        // The first two entries hold the medium's type and that the volume was left in order.
        let mut entries = vec![0x0fff_fff8, END];
        entries.resize(2 + self.used as usize, 0);
        for &(start, length) in &self.chains {
            for cluster in start..start + length {
                let is_last = cluster + 1 == start + length;
                entries[cluster as usize] = if is_last { END } else { cluster + 1 };
            }
        }
        entries.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// The index of the folder that holds `path`, made with its parents where it is missing.
    fn folder_of(&mut self, geometry: &Geometry, path: &str) -> Result<usize, DiskError> {
        let mut at = 0;
        let Some((folders, _)) = path.rsplit_once('/') else { return Ok(at) };
        for name in folders.split('/') {
            let Node::Folder(folder) = &self.nodes[at] else { return Err(DiskError::Name(path.to_owned())) };
            at = match folder.entries.get(name) {
                Some(index) => *index,
                None => {
                    let parent = if at == 0 { 0 } else { folder.start };
                    self.add_folder(geometry, parent)?;
                    self.enter(at, name)?
                }
            };
        }
        Ok(at)
    }

    fn add_folder(&mut self, geometry: &Geometry, parent: u32) -> Result<(), DiskError> {
        let start = self.allocate(geometry, geometry.cluster_size)?;
        self.nodes.push(Node::Folder(Folder { start, parent, entries: BTreeMap::new() }));
        Ok(())
    }

    /// Enters the newest node into a folder, under a name that is new there.
    fn enter(&mut self, folder: usize, name: &str) -> Result<usize, DiskError> {
        let index = self.nodes.len() - 1;
        let refused = || DiskError::Name(name.to_owned());
        match &mut self.nodes[folder] {
            Node::Folder(folder) if names::is_name(name) => {
                match folder.entries.insert(name.to_owned(), index) {
                    None => Ok(index),
                    Some(_) => Err(refused()),
                }
            }
            _ => Err(refused()),
        }
    }

    fn allocate(&mut self, geometry: &Geometry, length: u64) -> Result<u32, DiskError> {
        let needed = length.div_ceil(geometry.cluster_size);
        let free = geometry.clusters - self.used;
        let Some(needed) = u32::try_from(needed).ok().filter(|needed| *needed <= free) else {
            let expected = "room for the files on it";
            return Err(DiskError::Size { label: "esp", size: geometry.sectors * SECTOR, expected });
        };
        if needed == 0 {
            return Ok(0);
        }
        let start = 2 + self.used;
        self.used += needed;
        self.chains.push((start, needed));
        Ok(start)
    }
}
