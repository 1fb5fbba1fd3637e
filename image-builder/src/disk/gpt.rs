//! The GUID partition table: a protective MBR, the table, and its copy at the disk's end.
//!
//! Source: UEFI specification 2.10, section 5. Types: UAPI.2 Discoverable Partitions Specification. Sectors have 512 bytes.

use upright_manifests::name::Arch;
use upright_manifests::uuid::Uuid;

use super::DiskError;

/// Partitions start and end at multiples of this many bytes.
pub(super) const MIB: u64 = 1 << 20;

const SECTOR: u64 = 512;
const ENTRY: usize = 128;
const ENTRIES: usize = 128;
const TABLE_SECTORS: u64 = (ENTRY * ENTRIES) as u64 / SECTOR;
const HEADER: usize = 92;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    guid: [u8; 16],
    flags: u64,
}

/// "Do not mount automatically" and "read-only", as systemd has them.
const SLOT_FLAGS: u64 = 1 << 63 | 1 << 60;

impl Type {
    /// The EFI system partition.
    pub(super) const ESP: Self = Self::new(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b, 0);
    /// Variable data; mounted by its label, since its UUID is not made from a machine's identity.
    pub(super) const VAR: Self = Self::new(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d, 0);

    /// A root partition and its verity partition.
    pub(super) fn roots(arch: Arch) -> (Self, Self) {
        let (root, verity) = match arch {
            Arch::X86_64 => (0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709, 0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5),
            Arch::Arm64 => (0xb921b045_1df0_41c3_af44_4c6f280d3fae, 0xdf3300ce_d69f_4c92_978c_9bfb0f38d820),
        };
        (Self::new(root, SLOT_FLAGS), Self::new(verity, SLOT_FLAGS))
    }

    const fn new(guid: u128, flags: u64) -> Self {
        Self { guid: guid.to_be_bytes(), flags }
    }
}

/// A partition to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partition {
    /// The name in the table, ASCII, at most 36 characters.
    pub(super) label: &'static str,
    /// What it is for.
    pub(super) kind: Type,
    /// Its size in bytes, a multiple of [`MIB`].
    pub(super) size: u64,
    /// Its own UUID.
    pub(super) uuid: Uuid,
}

/// A partition table, ready to be written.
#[derive(Debug)]
pub(super) struct Table {
    /// The disk's size in bytes.
    pub(super) size: u64,
    /// Where each partition starts, in bytes.
    pub(super) offsets: Vec<u64>,
    /// What to write where, in bytes.
    pub(super) areas: Vec<(u64, Vec<u8>)>,
}

/// Places the partitions one behind the other and makes the table.
pub(super) fn lay_out(disk: Uuid, partitions: &[Partition]) -> Result<Table, DiskError> {
    let mut offsets = Vec::new();
    let mut entries = vec![0; ENTRY * ENTRIES];
    let mut at = MIB;
    for (partition, entry) in partitions.iter().zip(entries.chunks_exact_mut(ENTRY)) {
        let Partition { label, size, .. } = *partition;
        let end = at.checked_add(size).filter(|end| *end < 1 << 56);
        let expected = "a multiple of 1MiB, and the disk below 64 PiB";
        let is_whole = size > 0 && size.is_multiple_of(MIB);
        let end = end.filter(|_| is_whole).ok_or(DiskError::Size { label, size, expected })?;
        put_entry(entry, partition, at / SECTOR, end / SECTOR - 1);
        offsets.push(at);
        at = end;
    }
    // The copy of the table takes less than the MiB that is left for it.
    let size = at + MIB;
    let sectors = size / SECTOR;
    let crc = crc32(&entries);
    let first = header(disk, sectors, 1, sectors - 1, 2, crc);
    let copy_at = sectors - 1 - TABLE_SECTORS;
    let copy = header(disk, sectors, sectors - 1, 1, copy_at, crc);
    let areas = vec![
        (0, protective_mbr(sectors)),
        (SECTOR, first),
        (2 * SECTOR, entries.clone()),
        (copy_at * SECTOR, entries),
        ((sectors - 1) * SECTOR, copy),
    ];
    Ok(Table { size, offsets, areas })
}

fn put_entry(entry: &mut [u8], partition: &Partition, first: u64, last: u64) {
    entry[..16].copy_from_slice(&mixed_endian(&partition.kind.guid));
    entry[16..32].copy_from_slice(&mixed_endian(partition.uuid.as_bytes()));
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    entry[48..56].copy_from_slice(&partition.kind.flags.to_le_bytes());
    for (place, unit) in entry[56..].chunks_exact_mut(2).zip(partition.label.encode_utf16()) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

fn header(disk: Uuid, sectors: u64, here: u64, other: u64, table: u64, table_crc: u32) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"EFI PART");
    put(8, &0x0001_0000u32.to_le_bytes());
    put(12, &(HEADER as u32).to_le_bytes());
    put(24, &here.to_le_bytes());
    put(32, &other.to_le_bytes());
    put(40, &(2 + TABLE_SECTORS).to_le_bytes());
    put(48, &(sectors - 2 - TABLE_SECTORS).to_le_bytes());
    put(56, &mixed_endian(disk.as_bytes()));
    put(72, &table.to_le_bytes());
    put(80, &(ENTRIES as u32).to_le_bytes());
    put(84, &(ENTRY as u32).to_le_bytes());
    put(88, &table_crc.to_le_bytes());
    let crc = crc32(&bytes[..HEADER]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// One partition over the whole disk, for programs that know nothing of GPT.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    bytes[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    bytes[454..458].copy_from_slice(&1u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&length.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// A GUID as EFI stores it: the first three fields little-endian.
fn mixed_endian(guid: &[u8; 16]) -> [u8; 16] {
    let mut bytes = *guid;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// CRC-32 of IEEE 802.3, reflected; 16 KiB at the most, so bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn partitions_that_are_not_whole_are_refused() {
        for size in [0, 1, MIB + 512, u64::MAX - MIB + 1] {
            let partition = Partition { label: "x", kind: Type::ESP, size, uuid: Uuid::derive("x", b"") };
            assert!(lay_out(Uuid::derive("disk", b""), &[partition]).is_err(), "{size}");
        }
    }
}
