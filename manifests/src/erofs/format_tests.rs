//! Round trips of the structures, and what decoding refuses.

use proptest::prelude::*;

use super::*;

fn superblock() -> Superblock {
    Superblock {
        root_nid: 1,
        inodes: 2,
        time: -3,
        blocks: 4,
        meta_block: 5,
        xattr_block: 6,
        uuid: Uuid::derive("test", b""),
    }
}

#[test]
fn superblock_round_trips_and_any_flipped_bit_is_noticed() {
    let block = superblock().to_block();
    assert_eq!(Superblock::parse(&block).unwrap(), superblock());
    for at in [SUPER_OFFSET, SUPER_OFFSET + 4, SUPER_OFFSET + 50, SUPER_OFFSET + 200, BLOCK - 1] {
        let mut damaged = block;
        damaged[at] ^= 0x10;
        assert!(Superblock::parse(&damaged).is_err(), "{at}");
    }
}

#[test]
fn device_numbers_are_split_as_the_kernel_splits_them() {
    assert_eq!(encode_device(8, 1), 0x801);
    assert_eq!(encode_device(0xfff, 0xf_ffff), u32::MAX);
    assert_eq!(encode_device(1, 0x1_2345), 0x1230_0145);
    assert_eq!(decode_device(0x1230_0145), (1, 0x1_2345));
}

#[test]
fn names_of_extended_attributes_are_split_where_the_kernel_joins_them() {
    let long = [b"user.".as_slice(), &[b'x'; 255]].concat();
    for name in [b"user.a".as_slice(), b"security.capability", b"trusted.overlay.opaque", &long] {
        assert_eq!(XattrName::split(name).unwrap().join().unwrap(), name);
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        assert_eq!(XattrName::split(name.as_bytes()).unwrap().suffix, b"");
    }
    let too_long = [long.as_slice(), b"x"].concat();
    let refused =
        [b"".as_slice(), b"user.", b"user.a\0b", b"system.nfs4_acl", b"system.posix_acl_access2", &too_long];
    for name in refused {
        assert_eq!(XattrName::split(name), None, "{}", name.escape_ascii());
    }
}

fn inode() -> impl Strategy<Value = Inode> {
    let kind = prop::sample::select(FileType::ALL.map(|(kind, _)| kind).to_vec());
    let layout = prop_oneof![Just(DataLayout::Plain), Just(DataLayout::Inline)];
    let number = || prop_oneof![0u32..10, Just(0xffff), Just(0x1_0000), any::<u32>()];
    let size = prop_oneof![any::<u32>().prop_map(u64::from), any::<u64>()];
    let time = prop::option::of(any::<i64>());
    (layout, kind, 0u16..0o10000, number(), number(), number(), size, any::<(u32, u32, u16)>(), time)
        .prop_map(|(layout, kind, permissions, links, uid, gid, size, (block, ino, xattr_count), time)| {
            Inode { layout, kind, permissions, links, uid, gid, size, block, ino, xattr_count, time }
        })
}

proptest! {
    #[test]
    fn inodes_round_trip(mut inode in inode()) {
        if inode.is_extended() {
            inode.time.get_or_insert(0);
        }
        let bytes = inode.to_bytes();
        prop_assert_eq!(bytes.len(), inode.header_size());
        prop_assert_eq!(Inode::parse(7, &bytes).unwrap(), inode);
        prop_assert!(Inode::parse(7, &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn dirents_round_trip(nid: u64, name_offset: u16, kind in 1u8..8) {
        let dirent = Dirent { nid, name_offset, kind: FileType::of_dirent(kind).unwrap() };
        prop_assert_eq!(Dirent::parse(&dirent.to_bytes()), Some(dirent));
    }
}
