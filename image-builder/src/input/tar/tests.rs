//! Archives of every kind, whole and broken.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use super::testing::{Archive, Draft, header, sign};
use super::{Reader, Rules, TarError};
use crate::input::testing::{refusal, take, take_bytes};
use crate::tree::testing::Scratch;

#[test]
fn everything_arrives_as_it_was() {
    let device = |kind, name, device| Draft { kind, name, device, mode: 0o600, ..Draft::default() };
    let archive = Archive::default()
        .directory(b"./", 0o755)
        .directory(b"./tmp/", 0o1777)
        .add(&Draft { name: b"./bin/su", mode: 0o104755, data: b"su", ..Draft::default() })
        .hard_link(b"./bin/sg", b"./bin/su")
        .symlink(b"./sh", b"bin/su")
        .add(&device(b'3', b"dev/null", (1, 3)))
        .add(&device(b'4', b"dev/sda", (8, 0xfffff)))
        .add(&device(b'6', b"dev/pipe", (0, 0)))
        .file(b"caf\xe9", b"")
        .end();
    let taken = take_bytes(&archive).expect("taken");
    assert_eq!(
        taken.list(),
        [
            "d 755 0:0 /",
            "d 755 0:0 /bin",
            "f2 4755 0:0 /bin/sg",
            "f2 4755 0:0 /bin/su",
            "f0 644 0:0 /caf\\xe9",
            "d 755 0:0 /dev",
            "c1:3 600 0:0 /dev/null",
            "p 600 0:0 /dev/pipe",
            "b8:1048575 600 0:0 /dev/sda",
            "l>bin/su 777 0:0 /sh",
            "d 1777 0:0 /tmp",
        ]
    );
    assert_eq!(taken.tree.paths[&b"bin/su"[..]], taken.tree.paths[&b"bin/sg"[..]]);
    assert_eq!(taken.content(b"bin/sg"), b"su");
    assert_eq!(taken.newest, 1_600_000_000);
}

#[test]
fn extended_records_go_over_the_header() {
    // a capability with a newline in it, as libcap writes it for cap_net_raw and cap_dac_read_search
    let capability = b"\x01\0\0\x02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::default()
        .pax(&[
            ("path", "longer/than/the/header/é".as_bytes()),
            ("uid", b"4000000000"),
            ("gid", b"100000"),
            ("mtime", b"1700000000.25"),
            ("size", b"4"),
            ("SCHILY.xattr.security.capability", capability),
        ])
        .add(&Draft { name: b"short", data: b"data", size: Some(0), ..Draft::default() })
        .pax(&[("linkpath", b"longer/than/the/header/\xc3\xa9"), ("hdrcharset", b"BINARY")])
        .hard_link(b"link", b"short")
        .end();
    let taken = take_bytes(&archive).expect("taken");
    let inode = taken.tree.inode("longer/than/the/header/é".as_bytes()).expect("a file");
    assert_eq!((inode.uid, inode.gid), (4_000_000_000, 100_000));
    assert_eq!(inode.xattrs[&b"security.capability"[..]], capability);
    assert_eq!(taken.tree.inode(b"link"), Some(inode));
    assert_eq!(taken.content(b"link"), b"data");
    assert_eq!(taken.newest, 1_700_000_000);
}

#[test]
fn global_records_hold_until_they_are_replaced() {
    let archive = Archive::default()
        .add(&Draft { kind: b'g', name: b"g", data: b"8 uid=7\n", ..Draft::default() })
        .file(b"a", b"")
        .pax(&[("uid", b"8")])
        .file(b"b", b"")
        .end();
    let uids = |taken: &crate::input::testing::Taken| {
        [&b"a"[..], b"b"].map(|path| taken.tree.inode(path).expect("a file").uid)
    };
    assert_eq!(uids(&take_bytes(&archive).expect("taken")), [7, 8]);
}

#[test]
fn gnu_long_names_and_wide_numbers() {
    let long = [b'n'; 200].to_vec();
    let deep = [&long[..], b"/", &long].concat();
    let mut wide = header(&Draft { name: b"wide", data: b"", ..Draft::default() });
    wide[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0]);
    let mut archive = Archive::default()
        .add(&Draft {
            kind: b'L',
            name: b"././@LongLink",
            data: &[&deep[..], b"\0"].concat(),
            ..Draft::default()
        })
        .add(&Draft {
            kind: b'K',
            name: b"././@LongLink",
            data: &[&deep[..], b"\0"].concat(),
            ..Draft::default()
        })
        .symlink(b"short", b"short");
    archive.0.extend_from_slice(&sign(wide));
    let taken = take_bytes(&archive.end()).expect("taken");
    assert_eq!(taken.tree.inode(b"wide").expect("a file").uid, 4_000_000_000);
    assert_eq!(
        taken.tree.inode(&deep).map(|inode| &inode.kind),
        Some(&crate::tree::Kind::Symlink(deep.clone()))
    );
}

/// Runs GNU tar on a folder; the archive.
fn gnu_tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new("tar").args(arguments).args(["-C"]).arg(folder).args(["-cf", "-", "."]).output();
    let output = output.expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn sparse_files_in_every_way_of_writing_them() {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new();
    let file = std::fs::File::create(scratch.path().join("sparse")).expect("a file");
    let mut expected = vec![0; (12 << 20) + 5];
    // more runs than an old header and its first extension hold
    for run in 0..60_usize {
        let at = run * 192 * 1024 + 64 * 1024;
        let data = format!("run {run}").into_bytes();
        file.write_all_at(&data, at as u64).expect("written");
        expected[at..at + data.len()].copy_from_slice(&data);
    }
    file.set_len(expected.len() as u64).expect("a length");
    for arguments in [
        &["--sparse", "--format=gnu"][..],
        &["--sparse", "--format=pax", "--sparse-version=0.0"],
        &["--sparse", "--format=pax", "--sparse-version=0.1"],
        &["--sparse", "--format=pax", "--sparse-version=1.0"],
        &["--format=ustar"],
    ] {
        let archive = gnu_tar(scratch.path(), arguments);
        assert!(arguments.len() == 1 || archive.len() < 2 << 20, "{arguments:?} is not sparse");
        let taken = take_bytes(&archive).expect("taken");
        assert!(taken.content(b"sparse") == expected, "{arguments:?}");
        assert_eq!(taken.paths(), ["", "sparse"], "{arguments:?}");
    }
}

#[test]
fn all_formats_of_gnu_tar_make_one_tree() {
    let scratch = Scratch::new();
    let root = scratch.path().join("root");
    std::fs::create_dir_all(root.join("d/empty")).expect("folders");
    std::fs::write(root.join("d/f"), "content").expect("written");
    std::fs::hard_link(root.join("d/f"), root.join("d/g")).expect("linked");
    std::os::unix::fs::symlink("f", root.join("d/l")).expect("linked");
    let trees = ["v7", "oldgnu", "gnu", "ustar", "pax"]
        .map(|format| take_bytes(&gnu_tar(&root, &[&format!("--format={format}")])).expect("taken").tree);
    for tree in &trees {
        assert_eq!(*tree, trees[0]);
    }
    let folder = take(&root).expect("taken");
    assert_eq!(folder.tree, trees[0]);
    assert_eq!(folder.tree.paths[&b"d/f"[..]], folder.tree.paths[&b"d/g"[..]]);
}

#[test]
fn compressed_archives_are_recognised() {
    let archive = Archive::default().file(b"a", b"content").end();
    let plain = take_bytes(&archive).expect("taken").tree;
    let zstd = zstd::encode_all(&archive[..], 1).expect("compressed");
    // two members, as parallel compressors write them
    let (start, rest) = archive.split_at(512);
    let gzip = [start, rest].map(|part| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, part).expect("compressed");
        gzip.finish().expect("compressed")
    });
    let gzip = gzip.concat();
    for bytes in [&zstd, &gzip] {
        assert_eq!(take_bytes(bytes).expect("taken").tree, plain);
        for length in [bytes.len() - 1, bytes.len() / 2] {
            assert!(take_bytes(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let mut damaged = bytes.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 1;
        assert!(take_bytes(&damaged).is_err());
    }
}

#[test]
fn truncated_archives_are_refused() {
    let archive = Archive::default().file(b"a", &[1; 600]).file(b"b", b"x").end();
    assert_eq!(
        refusal(&archive[..100]),
        "it is not a tar archive: expected a folder, a tar (plain, gzip, zstd), or an OCI image"
    );
    assert_eq!(
        refusal(b""),
        "it is not a tar archive: expected a folder, a tar (plain, gzip, zstd), or an OCI image"
    );
    assert_eq!(
        refusal(&archive[..600]),
        "/a claims 600 bytes, more than the archive has left; make or copy the archive again"
    );
    assert_eq!(
        refusal(&archive[..512 + 1024]),
        "it is truncated: it has no end mark; make or copy the archive again"
    );
    assert_eq!(
        refusal(&archive[..512 + 1024 + 100]),
        "it is truncated: it has no end mark; make or copy the archive again"
    );
    let zstd = zstd::encode_all(&archive[..600], 1).expect("compressed");
    assert_eq!(refusal(&zstd), "it is truncated: it ends inside /a; make or copy the archive again");
}

#[test]
fn archives_of_something_else_are_refused() {
    assert_eq!(
        refusal(&[7; 2048]),
        "it is not a tar archive: expected a folder, a tar (plain, gzip, zstd), or an OCI image"
    );
    let mut damaged = Archive::default().file(b"a", b"").file(b"b", b"").end();
    damaged[600] ^= 1;
    assert_eq!(
        refusal(&damaged),
        "it is damaged: the header at byte 512 has a wrong checksum; make or copy the archive again"
    );
    let odd = Archive::default().add(&Draft { kind: b'M', name: b"a", ..Draft::default() }).end();
    assert_eq!(refusal(&odd), "/a has the entry type M, which is no kind of file");
    let joined =
        [Archive::default().file(b"a", b"").end(), Archive::default().file(b"b", b"").end()].concat();
    assert_eq!(
        refusal(&joined),
        "it has data behind its end mark, at byte 1024: archives that were joined are read in part only"
    );
}

#[test]
fn sizes_beyond_the_archive_are_refused_before_anything_is_stored() {
    let claim = |size| {
        Archive::default().add(&Draft { name: b"a", data: b"x", size: Some(size), ..Draft::default() })
    };
    for size in [1 << 20, 1 << 40, u64::MAX] {
        let archive = claim(size).end();
        assert_eq!(
            refusal(&archive),
            format!("/a claims {size} bytes, more than the archive has left; make or copy the archive again")
        );
    }
    let zstd = zstd::encode_all(&claim(1 << 40).end()[..], 1).expect("compressed");
    assert_eq!(refusal(&zstd), "/a is 1099511627776 bytes long: at most 68719476736 are taken");
    let pax =
        Archive::default().add(&Draft { kind: b'x', name: b"x", size: Some(1 << 30), ..Draft::default() });
    assert_eq!(refusal(&pax.end()), "an extended header claims 1073741824 bytes: at most 1048576 are read");
    let sparse = Archive::default()
        .pax(&[("GNU.sparse.size", b"18446744073709551615"), ("GNU.sparse.map", b"0,0")])
        .file(b"a", b"");
    assert_eq!(
        refusal(&sparse.end()),
        "/a is 18446744073709551615 bytes long: at most 68719476736 are taken"
    );
}

#[test]
fn maps_of_sparse_files_must_fit() {
    let map = |map: &[u8]| {
        Archive::default().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", map)]).file(b"a", b"data")
    };
    let taken = take_bytes(&map(b"1,2,5,2,10,0").end()).expect("taken");
    assert_eq!(taken.content(b"a"), b"\0da\0\0ta\0\0\0");
    for bad in [
        &b"1,2,2,2"[..],
        b"1,2,5,1",
        b"1,2,5,3",
        b"7,4",
        b"1,4,5",
        b"5,2,1,2",
        b"1,-4",
        b"18446744073709551615,4",
    ] {
        assert_eq!(
            refusal(&map(bad).end()),
            "the map of a sparse file is malformed",
            "{}",
            bad.escape_ascii()
        );
    }
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    for bad in [&b"99999999999\n"[..], b"x\n", b"1\n0\n18446744073709551615\n", &[b'1'; 512]] {
        let mut block = bad.to_vec();
        block.resize(512, 0);
        let archive = Archive::default().pax(&records).file(b"a", &block);
        assert!(take_bytes(&archive.end()).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn paths_that_lead_out_of_the_tree_are_refused() {
    let file = |name| refusal(&Archive::default().symlink(b"l", b"/etc").file(name, b"").end());
    assert_eq!(
        file(b"/etc/passwd"),
        "/etc/passwd is absolute: archive it with relative paths, for instance with tar -C TREE ."
    );
    assert_eq!(
        file(b"a/../../b"),
        "a/../../b has a .. part, which could lead out of the tree: archive it with plain relative paths"
    );
    assert_eq!(
        file(b"l/passwd"),
        "/l/passwd goes through the symbolic link /l: archive it under the directory's real path"
    );
    let link = |target| refusal(&Archive::default().hard_link(b"a", target).end());
    assert_eq!(
        link(b"../../etc/shadow"),
        "../../etc/shadow has a .. part, which could lead out of the tree: archive it with plain relative paths"
    );
    assert_eq!(link(b"etc/shadow"), "hard link /a names /etc/shadow, which is not there before it");
    let deep = b"a/".repeat(100_000);
    let deep = refusal(&Archive::default().pax(&[("path", &deep)]).file(b"a", b"").end());
    assert!(deep.ends_with("/a... has more than 4095 bytes"), "{deep}");
    let nul = Archive::default().pax(&[("path", b"a\0b")]).file(b"a", b"");
    assert_eq!(refusal(&nul.end()), "a\\u{0}b has a NUL byte");
}

#[test]
fn a_path_that_is_there_twice_is_refused() {
    let twice = "/a/b is there twice: archive each path once";
    assert_eq!(refusal(&Archive::default().file(b"a/b", b"1").file(b"./a/b", b"2").end()), twice);
    assert_eq!(refusal(&Archive::default().symlink(b"a/b", b"x").file(b"a//b", b"2").end()), twice);
    assert_eq!(refusal(&Archive::default().directory(b"a/b/", 0o755).directory(b"a/b", 0o755).end()), twice);
}

#[test]
fn numbers_that_linux_cannot_hold_are_refused() {
    let pax = |key, value: &[u8]| refusal(&Archive::default().pax(&[(key, value)]).file(b"a", b"").end());
    assert_eq!(pax("uid", b"5000000000"), "/a has a malformed uid");
    assert_eq!(pax("gid", b"x"), "the value of its record gid is malformed");
    let device = Draft { kind: b'3', name: b"a", device: (4096, 0), ..Draft::default() };
    assert_eq!(
        refusal(&Archive::default().add(&device).end()),
        "device /a is 4096:0: at most 12 bits for the first and 20 for the second number are allowed"
    );
    let empty = refusal(&Archive::default().symlink(b"a", b"").end());
    assert_eq!(empty, "symbolic link /a has a target of 0 bytes: 1 to 4095 without a NUL are allowed");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    /// Whatever is done to an archive, it is read or refused in one line, without a panic.
    #[test]
    fn damage_never_panics(at in 0_usize..4096, value: u8, cut in 0_usize..4096) {
        let mut archive = Archive::default()
            .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"1,2,5,2"), ("SCHILY.xattr.user.a", b"\n")])
            .file(b"a", b"data")
            .symlink(b"l", b"a")
            .end();
        let (length, at) = (archive.len(), at % archive.len());
        archive[at] = value;
        let start = at - at % 512;
        let mut header = [0; 512];
        header.copy_from_slice(&archive[start..start + 512]);
        archive[start..start + 512].copy_from_slice(&sign(header));
        archive.truncate(length - cut % length);
        let length = Some(archive.len() as u64);
        let mut reader = Reader::new(&archive[..], Rules { length, end_mark: true });
        let mut read = || -> Result<(), TarError> {
            while let Some(entry) = reader.next()? {
                let mut content = Vec::new();
                reader.content().take(1 << 20).read_to_end(&mut content).map_err(TarError::Io)?;
                assert_eq!(content.len() as u64, entry.size.min(1 << 20));
            }
            Ok(())
        };
        if let Err(error) = read() {
            proptest::prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
