//! What the engine relies on: devices hold what was synced, tell the truth about errors, and are never written outside
//! of their blocks.

use std::fs;
use std::io::ErrorKind;

use std::path::Path;

use super::fake::{FakeDevice, Fault};
use super::*;
use crate::host::{Access, BlockDevice};

const BLOCK: usize = 4096;

fn make(path: &Path, size: u64) -> Partition {
    fs::File::create_new(path).unwrap().set_len(size).unwrap();
    Partition::open(path, Access::Write).unwrap()
}

#[test]
fn who_writes_has_it_to_himself_in_a_file_as_in_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot");
    let first = make(&path, BLOCK as u64);
    let second = Partition::open(&path, Access::Write).err().unwrap();
    assert_eq!(second.kind(), ErrorKind::ResourceBusy);
    assert!(second.to_string().contains("mounted or in use"), "{second}");
    Partition::open(&path, Access::Read).unwrap();
    drop(first);
    Partition::open(&path, Access::Write).unwrap();
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / BLOCK + at) as u8).collect()
}

#[test]
fn a_file_gives_back_what_was_written_from_any_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let device = make(&folder.path().join("slot"), 5 << 20);
    assert_eq!(device.size(), 5 << 20);
    let bytes = pattern(3 << 20);
    // A Vec of this size starts at 16 bytes past a page: the buffer has to be bounced.
    device.write_at(&bytes, 1 << 20).unwrap();
    let mut aligned = AlignedBuffer::new(BLOCK);
    aligned.copy_from_slice(&bytes[BLOCK..2 * BLOCK]);
    device.write_at(&aligned, 0).unwrap();
    device.sync().unwrap();
    let mut unaligned = vec![0; (3 << 20) + 1];
    device.read_at(&mut unaligned[1..], 1 << 20).unwrap();
    assert!(unaligned[1..] == bytes[..]);
    let mut read = AlignedBuffer::new(BLOCK);
    device.read_at(&mut read, 0).unwrap();
    assert!(read[..] == bytes[BLOCK..2 * BLOCK]);
}

#[test]
fn nothing_is_written_outside_of_whole_blocks_of_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot");
    let device = make(&path, 2 * BLOCK as u64);
    let block = vec![1; BLOCK];
    for (bytes, offset) in
        [(&block[..], 2 * BLOCK as u64), (&block[..], 1), (&block[..100], 0), (&block[..], u64::MAX - 4095)]
    {
        let error = device.write_at(bytes, offset).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("slot"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), vec![0; 2 * BLOCK]);
}

#[test]
fn what_is_less_than_a_block_at_the_end_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot");
    fs::write(&path, pattern(2 * BLOCK + 700)).unwrap();
    let device = Partition::open(&path, Access::Write).unwrap();
    assert_eq!(device.size(), 2 * BLOCK as u64);
}

#[test]
fn what_was_opened_for_reading_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot");
    fs::write(&path, pattern(BLOCK)).unwrap();
    let device = Partition::open(&path, Access::Read).unwrap();
    assert!(device.write_at(&[0; BLOCK], 0).is_err());
    assert_eq!(fs::read(&path).unwrap(), pattern(BLOCK));
}

#[test]
fn what_is_not_a_partition_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Partition::open(&folder.path().join("none"), Access::Read).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("none"));
    for path in ["/dev/null", "/proc"] {
        let error = Partition::open(path.as_ref(), Access::Write).err().unwrap();
        assert!(error.to_string().contains("neither a partition nor a file"), "{error}");
    }
}

#[test]
fn a_fake_loses_only_what_was_not_synced_and_tears_it() {
    let device = FakeDevice::holding(vec![0; 4 * BLOCK]);
    device.write_at(&vec![1; BLOCK], 0).unwrap();
    device.sync().unwrap();
    device.lose_power_after(2);
    device.write_at(&vec![2; 2 * BLOCK], 0).unwrap();
    assert!(device.sync().is_err());
    assert!(device.write_at(&vec![3; BLOCK], 0).is_err());
    assert_eq!(device.durable()[..BLOCK], [1; BLOCK]);
    device.restart(7);
    let bytes = device.bytes();
    let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
    assert!(sectors[..8].contains(&1) && sectors[..8].contains(&2), "torn: {sectors:?}");
    assert!(sectors[16..].iter().all(|&byte| byte == 0));
    device.write_at(&vec![4; BLOCK], 0).unwrap();
}

#[test]
fn a_fake_has_the_faults_it_was_given() {
    let device = FakeDevice::holding(vec![0; 4 * BLOCK]);
    let block = |number: u64| number * BLOCK as u64..(number + 1) * BLOCK as u64;
    device.fault(Fault::Read, block(0));
    device.fault(Fault::Write, block(1));
    device.fault(Fault::Corrupt, block(2));
    device.fault(Fault::Drop, block(3));
    let mut buffer = vec![0; BLOCK];
    assert!(device.read_at(&mut buffer, 0).is_err());
    assert!(device.write_at(&buffer, block(1).start).is_err());
    let ones = vec![1; BLOCK];
    device.write_at(&ones, block(2).start).unwrap();
    device.read_at(&mut buffer, block(2).start).unwrap();
    assert_ne!(buffer, ones);
    device.write_at(&ones, block(3).start).unwrap();
    device.read_at(&mut buffer, block(3).start).unwrap();
    assert_eq!(buffer, vec![0; BLOCK]);
}
