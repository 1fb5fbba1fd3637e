//! The folder of boot entries on a FAT32, changed as Linux' vfat and as the firmware's driver do it, sector by sector.
//!
//! What matters is which sectors are written, and which of them a sync covers (Linux 6.1, `fs/fat/{file,dir,namei_vfat}.c`):
//! names go to the folder's sectors at once, and a file's start and length to its name's sector when the file is synced. A
//! sync of a file covers its content, the table of clusters and that one sector; a sync of the folder its sectors and the table. All
//! else may be written back at any time, or never.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use upright_updater::boot::Medium;

use super::super::disk::Content;
use super::super::event::SECTOR;
use super::super::fat::{DELETED, ENTRY, Fat, FatError, UNIT_AT};
use super::tape::Tape;

const CLUSTER: u64 = 2048;
const TABLE_AT: u64 = 8 * SECTOR;
/// Clusters that there are numbers for, in a table of two sectors.
const CLUSTERS: u32 = 256;
/// Clusters that lie one behind the other before a file goes on in the other half, and its chain in the other sector of the table.
const RUN: u32 = 8;
const CLUSTERS_AT: u64 = TABLE_AT + CLUSTERS as u64 * 4;
/// The folders `/`, `/EFI` and `/EFI/Linux`, of a cluster each.
const FOLDERS: [u32; 3] = [2, 3, 4];
const END: u32 = 0x0fff_ffff;

/// How many bytes of the disk, from its start, are the file system's.
pub(super) const SIZE: u64 = CLUSTERS_AT + (CLUSTERS as u64 - 2) * CLUSTER;

/// A file system that is mounted.
pub struct Vfat {
    tape: Tape,
    nodes: Mutex<BTreeMap<String, Node>>,
}

/// A file as the kernel knows it, which may be more than the disk does.
#[derive(Debug, Clone)]
struct Node {
    /// Its entries in the folder, the short name last.
    slots: Range<usize>,
    chain: Vec<u32>,
    size: u64,
}

/// The bytes of a new file system, with so many entries in use before the first free one.
pub(super) fn format(foreign: usize) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    let mut put =
        |at: u64, field: &[u8]| bytes[at as usize..at as usize + field.len()].copy_from_slice(field);
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[(CLUSTER / SECTOR) as u8]);
    put(14, &((TABLE_AT / SECTOR) as u16).to_le_bytes());
    put(16, &[1]);
    put(32, &((SIZE / SECTOR) as u32).to_le_bytes());
    put(36, &(CLUSTERS * 4 / SECTOR as u32).to_le_bytes());
    put(44, &FOLDERS[0].to_le_bytes());
    put(510, &[0x55, 0xaa]);
    for cluster in FOLDERS {
        put(TABLE_AT + u64::from(cluster) * 4, &END.to_le_bytes());
    }
    put(cluster_at(FOLDERS[0]), &short_entry(b"EFI        ", 0x10, FOLDERS[1], 0));
    for (index, entry) in entries("Linux", 0x10, FOLDERS[2]).iter().enumerate() {
        put(cluster_at(FOLDERS[1]) + (index * ENTRY) as u64, entry);
    }
    for number in 0..foreign {
        let name = format!("OTHER{number:03}TXT");
        let name: [u8; 11] = name.as_bytes().first_chunk().copied().unwrap_or(*b"OTHER   TXT");
        put(cluster_at(FOLDERS[2]) + (number * ENTRY) as u64, &short_entry(&name, 0x20, 0, 0));
    }
    bytes
}

impl Vfat {
    /// Mounts what the disk starts with.
    pub fn mount(tape: &Tape) -> io::Result<Self> {
        let disk = tape.disk();
        let damaged = |error: FatError| io::Error::other(error.to_string());
        let files = Fat::open(&disk).and_then(|fat| fat.as_linux().folder("EFI/Linux")).map_err(damaged)?;
        let mut nodes = BTreeMap::new();
        for file in files.unwrap_or_default() {
            let chain = chain(&disk, file.start);
            nodes.insert(file.name, Node { slots: file.slots, chain, size: u64::from(file.size) });
        }
        Ok(Self { tape: tape.clone(), nodes: Mutex::new(nodes) })
    }

    /// Renames as the firmware does (EDK2, `FatPkg`): the file keeps its start and length, and all is written before it goes on.
    pub fn rename_at_boot(&self, from: &str, to: &str) -> io::Result<()> {
        let node = self.node(from)?;
        self.clear(&node.slots)?;
        let slots = self.add(to, node.chain.first().copied().unwrap_or(0), node.size)?;
        self.nodes().remove(from);
        self.nodes().insert(to.to_owned(), Node { slots, ..node });
        self.tape.sync(0..SIZE)
    }

    /// What `fsck.fat -a` does before the ESP is mounted: of two files that share clusters the second becomes empty, and clusters
    /// of no file are freed. FAT has no order of writes that never leaves either.
    pub fn check(&self) -> io::Result<()> {
        let mut files: Vec<(String, Node)> = self.nodes().clone().into_iter().collect();
        files.sort_by_key(|(_, node)| node.slots.start);
        let mut owned: Vec<u32> = FOLDERS.to_vec();
        for (name, node) in &mut files {
            let shares = node.chain.iter().any(|cluster| owned.contains(cluster));
            if shares || node.chain.len() as u64 * CLUSTER < node.size {
                (node.chain, node.size) = (Vec::new(), 0);
                self.nodes().insert(name.clone(), node.clone());
                let mut entry = [0; ENTRY];
                self.tape.read(&mut entry, slot_at(node.slots.end - 1))?;
                (entry[20..22]).fill(0);
                (entry[26..]).fill(0);
                self.put(&entry, slot_at(node.slots.end - 1))?;
            }
            owned.extend(&node.chain);
        }
        let mut table = self.table()?;
        for cluster in (2..CLUSTERS).filter(|cluster| !owned.contains(cluster)) {
            table[cluster as usize] = 0;
        }
        self.put_table(&table)?;
        self.tape.sync(0..SIZE)
    }

    /// Clusters that are in use and belong to no file.
    pub fn lost(&self) -> io::Result<usize> {
        let used = self.table()?.iter().skip(2).filter(|link| **link != 0).count();
        let mut owned: Vec<u32> = self.nodes().values().flat_map(|node| node.chain.clone()).collect();
        owned.sort_unstable();
        owned.dedup();
        Ok(used.saturating_sub(owned.len() + FOLDERS.len()))
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, file: &str) -> io::Result<Node> {
        self.nodes().get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Changes bytes of metadata, a sector at a time.
    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let start = sector * SECTOR;
            let mut whole = [0; SECTOR as usize];
            self.tape.read(&mut whole, start)?;
            let (from, to) = (offset.max(start), end.min(start + SECTOR));
            whole[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            self.tape.write(&whole, start)?;
        }
        Ok(())
    }

    /// Puts a name into the first gap that is large enough, in one go for each sector.
    fn add(&self, name: &str, start: u32, size: u64) -> io::Result<Range<usize>> {
        let mut entries = entries(name, 0x20, start);
        if let Some(short) = entries.last_mut() {
            short[28..].copy_from_slice(&(size as u32).to_le_bytes());
        }
        let mut folder = [0; CLUSTER as usize];
        self.tape.read(&mut folder, cluster_at(FOLDERS[2]))?;
        let is_free = |slot: usize| matches!(folder[slot * ENTRY], 0 | DELETED);
        let mut starts = 0..=CLUSTER as usize / ENTRY - entries.len();
        let at = starts.find(|at| (*at..at + entries.len()).all(is_free));
        let at = at.ok_or(io::ErrorKind::StorageFull)?;
        self.put(&entries.concat(), slot_at(at))?;
        Ok(at..at + entries.len())
    }

    /// Marks entries as deleted, in one go for each sector.
    fn clear(&self, slots: &Range<usize>) -> io::Result<()> {
        let start = slot_at(slots.start);
        let mut bytes = vec![0; slots.len() * ENTRY];
        self.tape.read(&mut bytes, start)?;
        bytes.iter_mut().step_by(ENTRY).for_each(|byte| *byte = DELETED);
        self.put(&bytes, start)
    }

    /// The table of clusters: for each the next of its chain, 0 if it is free.
    fn table(&self) -> io::Result<Vec<u32>> {
        let mut bytes = [0; CLUSTERS as usize * 4];
        self.tape.read(&mut bytes, TABLE_AT)?;
        Ok(bytes.as_chunks().0.iter().map(|link| u32::from_le_bytes(*link)).collect())
    }

    /// Writes the sectors of the table that differ.
    fn put_table(&self, table: &[u32]) -> io::Result<()> {
        let bytes = |table: &[u32]| -> Vec<u8> { table.iter().flat_map(|link| link.to_le_bytes()).collect() };
        let (old, new) = (bytes(&self.table()?), bytes(table));
        let sectors = old.chunks(SECTOR as usize).zip(new.chunks(SECTOR as usize));
        for (index, (_, new)) in sectors.enumerate().filter(|(_, (old, new))| old != new) {
            self.tape.write(new, TABLE_AT + index as u64 * SECTOR)?;
        }
        Ok(())
    }

    /// Gives chains another length: the first free clusters are taken, so that what was just freed is used again.
    fn resize(&self, chain: &mut Vec<u32>, length: usize) -> io::Result<()> {
        let mut table = self.table()?;
        for cluster in chain.drain(length.min(chain.len())..) {
            table[cluster as usize] = 0;
        }
        while chain.len() < length {
            let free =
                (0..CLUSTERS).map(scattered).find(|cluster| *cluster > 1 && table[*cluster as usize] == 0);
            let free = free.ok_or(io::ErrorKind::StorageFull)?;
            if let Some(last) = chain.last() {
                table[*last as usize] = free;
            }
            table[free as usize] = END;
            chain.push(free);
        }
        if let Some(last) = chain.last() {
            table[*last as usize] = END;
        }
        self.put_table(&table)
    }
}

impl Medium for Vfat {
    fn path(&self) -> PathBuf {
        "/efi/EFI/Linux".into()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.nodes().keys().cloned().collect())
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        Ok(self.node(file)?.size)
    }

    fn read_at(&self, file: &str, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let node = self.node(file)?;
        let length = node.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut filled = 0;
        while filled < length {
            let at = offset + filled as u64;
            let cluster = node.chain.get((at / CLUSTER) as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
            let part = ((CLUSTER - at % CLUSTER) as usize).min(length - filled);
            self.tape.read(&mut buffer[filled..filled + part], cluster_at(*cluster) + at % CLUSTER)?;
            filled += part;
        }
        Ok(length)
    }

    fn open(&self, file: &str) -> io::Result<Box<dyn Read>> {
        let mut bytes = vec![0; self.length(file)? as usize];
        self.read_at(file, &mut bytes, 0)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn make(&self) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, file: &str) -> io::Result<()> {
        let slots = self.add(file, 0, 0)?;
        self.nodes().insert(file.to_owned(), Node { slots, chain: Vec::new(), size: 0 });
        Ok(())
    }

    fn write_at(&self, file: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut node = self.node(file)?;
        let end = offset + bytes.len() as u64;
        let clusters = end.div_ceil(CLUSTER) as usize;
        if clusters > node.chain.len() {
            self.resize(&mut node.chain, clusters)?;
        }
        node.size = node.size.max(end);
        self.nodes().insert(file.to_owned(), node.clone());
        let mut at = offset;
        while at < end {
            // As far as clusters lie one behind the other.
            let first = (at / CLUSTER) as usize;
            let run = node.chain[first..].windows(2).take_while(|pair| pair[1] == pair[0] + 1).count() + 1;
            let part = ((first + run) as u64 * CLUSTER).min(end) - at;
            let start = cluster_at(node.chain[first]) + at % CLUSTER;
            let sectors = start / SECTOR * SECTOR..(start + part).div_ceil(SECTOR) * SECTOR;
            let mut whole = vec![0; (sectors.end - sectors.start) as usize];
            self.tape.read(&mut whole, sectors.start)?;
            let (into, from) = ((start - sectors.start) as usize, (at - offset) as usize);
            whole[into..into + part as usize].copy_from_slice(&bytes[from..from + part as usize]);
            self.tape.write(&whole, sectors.start)?;
            at += part;
        }
        Ok(())
    }

    fn set_length(&self, file: &str, length: u64) -> io::Result<()> {
        let mut node = self.node(file)?;
        let clusters = length.div_ceil(CLUSTER) as usize;
        if clusters != node.chain.len() {
            self.resize(&mut node.chain, clusters)?;
        }
        node.size = length;
        self.nodes().insert(file.to_owned(), node);
        Ok(())
    }

    fn sync_file(&self, file: &str) -> io::Result<()> {
        let node = self.node(file)?;
        let short = slot_at(node.slots.end - 1);
        let start = node.chain.first().copied().unwrap_or(0);
        let mut entry = [0; ENTRY];
        self.tape.read(&mut entry, short)?;
        let mut now = entry;
        now[20..22].copy_from_slice(&((start >> 16) as u16).to_le_bytes());
        now[26..28].copy_from_slice(&(start as u16).to_le_bytes());
        now[28..].copy_from_slice(&(node.size as u32).to_le_bytes());
        if now != entry {
            self.put(&now, short)?;
        }
        let mut clusters = node.chain.clone();
        clusters.sort_unstable();
        for run in clusters.chunk_by(|a, b| *b == *a + 1) {
            let start = cluster_at(run[0]);
            self.tape.sync(start..start + run.len() as u64 * CLUSTER)?;
        }
        self.tape.sync(TABLE_AT..CLUSTERS_AT)?;
        self.tape.sync(short..short + ENTRY as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.tape.sync(cluster_at(FOLDERS[2])..cluster_at(FOLDERS[2]) + CLUSTER)?;
        self.tape.sync(TABLE_AT..CLUSTERS_AT)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let node = self.node(from)?;
        let slots = self.add(to, 0, 0)?;
        self.clear(&node.slots)?;
        self.nodes().remove(from);
        self.nodes().insert(to.to_owned(), Node { slots, ..node });
        Ok(())
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let mut node = self.node(file)?;
        self.clear(&node.slots)?;
        self.nodes().remove(file);
        self.resize(&mut node.chain, 0)
    }

    fn free(&self) -> io::Result<(u64, u64)> {
        let free = self.table()?.iter().skip(2).filter(|link| **link == 0).count();
        Ok((free as u64 * CLUSTER, CLUSTER))
    }
}

/// The order in which clusters are taken: runs of one half and of the other in turn, as on a file system that was in use for long.
fn scattered(index: u32) -> u32 {
    let run = index / RUN;
    (run % 2) * CLUSTERS / 2 + run / 2 * RUN + index % RUN
}

fn cluster_at(cluster: u32) -> u64 {
    CLUSTERS_AT + u64::from(cluster - 2) * CLUSTER
}

/// Where an entry of the folder of boot entries is.
fn slot_at(slot: usize) -> u64 {
    cluster_at(FOLDERS[2]) + (slot * ENTRY) as u64
}

fn link(disk: &Vec<u8>, cluster: u32) -> u32 {
    let mut bytes = [0; 4];
    // Memory cannot fail to be read.
    let _ = disk.read_at(&mut bytes, TABLE_AT + u64::from(cluster) * 4);
    u32::from_le_bytes(bytes) & END
}

fn chain(disk: &Vec<u8>, start: u32) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut at = start;
    while (2..CLUSTERS).contains(&at) && chain.len() < CLUSTERS as usize {
        chain.push(at);
        at = link(disk, at);
    }
    chain
}

/// A name's entries: the long name's parts, the last one first, then the short name, made of the long one's hash so that
/// no two are the same. A name that is a short one has no other.
fn entries(name: &str, attributes: u8, start: u32) -> Vec<[u8; ENTRY]> {
    let exact = name.split_once('.').map(|(stem, extension)| format!("{stem:8}{extension:3}"));
    if let Some(exact) = exact.filter(|exact| exact.len() == 11 && *exact == exact.to_ascii_uppercase())
        && let Some(short) = exact.as_bytes().first_chunk()
    {
        return vec![short_entry(short, attributes, start, 0)];
    }
    let hash = name.bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_uppercase();
    let text = format!("{:06X}~1{extension:3}", hash & 0xff_ffff);
    let short: [u8; 11] = text.as_bytes().first_chunk().copied().unwrap_or(*b"NONAME     ");
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts: Vec<&[u16]> = units.chunks(UNIT_AT.len()).collect();
    let long = parts.iter().enumerate().rev().map(|(index, part)| {
        let mut entry = [0; ENTRY];
        entry[0] = (index + 1) as u8 | if index + 1 == parts.len() { 0x40 } else { 0 };
        entry[11] = 0x0f;
        entry[13] = sum;
        let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in UNIT_AT.into_iter().zip(padded) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    });
    long.chain([short_entry(&short, attributes, start, 0)]).collect()
}

fn short_entry(name: &[u8; 11], attributes: u8, start: u32, size: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    entry[20..22].copy_from_slice(&((start >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(start as u16).to_le_bytes());
    entry[28..].copy_from_slice(&size.to_le_bytes());
    entry
}
