//! Exports of a repository: which files are in them, and where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::archive::{Contents, MAX_MEMBERS, MAX_PATH, head, read};

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 20, || {
        let mut most = 0;
        let found = read(bytes.len() as u64, &mut |buffer, at| {
            most += 1;
            let start = usize::try_from(at).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
            let part = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
            Ok(())
        });
        // Each header is read once, with what it announces.
        assert!(most <= bytes.len() / 256 + 2);
        found.iter().for_each(|contents| check(contents, bytes.len() as u64));
    });
});

/// All files are inside of the export, and could have been put there.
fn check(contents: &Contents, length: u64) {
    assert!(contents.files().count() <= MAX_MEMBERS);
    for (path, range) in contents.files() {
        assert!(range.start <= range.end && range.end <= length);
        assert!(path.len() <= MAX_PATH && head(path, range.end - range.start, 0).is_some());
    }
}
