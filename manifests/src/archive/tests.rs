use std::io;

use proptest::prelude::*;

use super::format::{EXTENDED, KIND, MAGIC, SUM, sum};
use super::*;

fn find(bytes: &[u8]) -> Result<Contents, ArchiveError> {
    read(bytes.len() as u64, &mut |buffer, at| {
        let bytes = bytes.get(at as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    })
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, content) in files {
        bytes.extend(head(path, content.len() as u64, 7).unwrap());
        bytes.extend(*content);
        bytes.resize(bytes.len() + padding(content.len() as u64), 0);
    }
    bytes.extend(END);
    bytes
}

/// The same header with other bytes in a field and the right sum.
fn forged(mut bytes: Vec<u8>, at: usize, field: &[u8]) -> Vec<u8> {
    bytes[at..at + field.len()].copy_from_slice(field);
    let header: &mut [u8; RECORD] = bytes.first_chunk_mut().unwrap();
    let sum = format!("{:06o}\0 ", sum(header));
    header[SUM].copy_from_slice(sum.as_bytes());
    bytes
}

#[test]
fn what_is_written_is_found_however_long_its_path() {
    let long = format!("releases/{}/{}.json", "a".repeat(120), "b".repeat(90));
    let longer = format!("releases/{}.json", "c".repeat(300));
    let files: [(&str, &[u8]); 4] =
        [("metadata/1.root.json", b"root"), (&long, b""), (&longer, &[5; 513]), ("payloads/x", &[6; 512])];
    let bytes = archive(&files);
    let contents = find(&bytes).unwrap();
    assert_eq!(contents.files().count(), files.len());
    for (path, content) in files {
        let range = contents.find(path).unwrap();
        assert_eq!(&bytes[range.start as usize..range.end as usize], content, "{path}");
    }
    assert_eq!(contents.find("metadata"), None);
}

#[test]
fn a_length_beyond_the_header_is_an_attribute() {
    let size = 9 << 30;
    let bytes = head("payloads/large", size, 0).unwrap();
    let mut read_some = |buffer: &mut [u8], at: u64| {
        let from = bytes.get(at as usize..at as usize + buffer.len());
        buffer.copy_from_slice(from.unwrap_or(&vec![0; buffer.len()]));
        Ok(())
    };
    let contents = read(size + bytes.len() as u64 + 1024, &mut read_some).unwrap();
    let range = contents.find("payloads/large").unwrap();
    assert_eq!((range.start, range.end - range.start), (bytes.len() as u64, size));
    assert!(matches!(read(size, &mut read_some), Err(ArchiveError::Truncated(_))));
}

#[test]
fn what_no_export_has_is_refused() {
    let one = archive(&[("a/b", b"x")]);
    let refused = |bytes: &[u8]| find(bytes).unwrap_err().to_string();
    assert!(matches!(find(b""), Err(ArchiveError::Magic)));
    assert!(matches!(find(&[0; 4096]), Err(ArchiveError::Magic)));
    assert!(matches!(find(&forged(one.clone(), MAGIC.start, b"ustar  \0")), Err(ArchiveError::Magic)));
    for path in ["/etc/passwd", "../a", "a/../b", "a//b", "./a", "a\\b", "a b", "a/"] {
        assert!(head(path, 0, 0).is_none(), "{path}");
        let mut name = [0; 100];
        name[..path.len()].copy_from_slice(path.as_bytes());
        assert!(refused(&forged(one.clone(), 0, &name)).contains("leads out"), "{path}");
    }
    for kind in *b"12345678LKgS" {
        assert!(refused(&forged(one.clone(), KIND, &[kind])).contains("something else"), "{kind}");
    }
    assert!(refused(&archive(&[("a", b""), ("a", b"")])).contains("twice"));
    assert!(refused(&forged(one.clone(), 124, b"80000000000\0")).contains("no length"));
    assert!(refused(&forged(one.clone(), 124, &[0x80; 12])).contains("no length"));
    for length in 512..one.len() - 512 {
        assert!(matches!(find(&one[..length]), Err(ArchiveError::Truncated(_))), "{length}");
    }
    // An extended header for nothing, or for another one.
    let extended = forged(one.clone(), KIND, &[EXTENDED]);
    assert!(refused(&extended).contains("malformed attributes"));
    let long = head(&"c".repeat(300), 0, 0).unwrap();
    assert!(find(&[&long[..1024], &long[..1024], &END[..]].concat()).is_err());
    assert!(find(&[&long[..1024], &END[..]].concat()).is_err());
}

#[test]
fn no_more_files_are_taken_than_there_may_be() {
    let mut bytes = Vec::new();
    for number in 0..=MAX_MEMBERS {
        bytes.extend(head(&number.to_string(), 0, 0).unwrap());
    }
    let most = [&bytes[..MAX_MEMBERS * RECORD], &END[..]].concat();
    assert_eq!(find(&most).unwrap().files().count(), MAX_MEMBERS);
    bytes.extend(END);
    assert!(matches!(find(&bytes), Err(ArchiveError::TooMany)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        flips in prop::collection::vec((0usize..4096, any::<u8>()), 0..6),
        fields in prop::collection::vec((0usize..500, any::<[u8; 12]>()), 0..3),
    ) {
        let mut bytes = archive(&[(&"c".repeat(300), b"abc"), ("b", &[1; 600])]);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        for (at, field) in fields {
            bytes = forged(bytes, at.min(499), &field);
        }
        if let Ok(contents) = find(&bytes) {
            for (_, range) in contents.files() {
                prop_assert!(range.start <= range.end && range.end <= bytes.len() as u64);
            }
        }
    }
}
