//! What the firmware demands of boot entries: whether Secure Boot is enforced, and whose signatures it takes.
//!
//! Source: UEFI specification 2.10, sections 3.3 ("Globally Defined Variables"), 32.4.1 ("Signature Database") and 32.6.1.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use upright_manifests::digest::Digest;

use crate::efivars;

/// Set to 1 while Secure Boot is enforced.
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The signatures and certificates that are accepted.
const DB: &str = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// `EFI_CERT_X509_GUID`, as it is in memory.
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];

/// The largest variable that is read, in bytes.
const MAX_VARIABLE: usize = 1 << 20;

/// The SHA-256 of each certificate (DER) that the firmware whose variables are in `folder` takes; none if it takes everything.
pub(super) fn accepted(folder: &Path) -> io::Result<Option<BTreeSet<Digest>>> {
    let variable = |name| efivars::read(&folder.join(name), MAX_VARIABLE);
    match variable(SECURE_BOOT)?.as_deref() {
        Some([1, ..]) => Ok(Some(certificates(&variable(DB)?.unwrap_or_default()))),
        _ => Ok(None),
    }
}

/// The certificates in a sequence of `EFI_SIGNATURE_LIST`s; what is cut off or makes no sense ends it.
fn certificates(mut lists: &[u8]) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    while let Some((header, _)) = lists.split_at_checked(28) {
        let number = |at: usize| {
            let bytes = header[at..at + 4].iter().rev();
            bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        let (size, skipped, each) = (number(16), number(20), number(24));
        let body = lists.get(28..size).and_then(|body| body.get(skipped..));
        let (Some(body), Some(rest)) = (body, lists.get(size..)) else { break };
        // Each is preceded by the 16 bytes of who put it there.
        if header[..16] == X509 && each > 16 {
            found.extend(body.chunks_exact(each).map(|signature| Digest::of(&signature[16..])));
        }
        lists = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn list(kind: [u8; 16], header: &[u8], each: usize, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_vec();
        for number in [28 + header.len() + body.len(), header.len(), each] {
            bytes.extend((number as u32).to_le_bytes());
        }
        [&bytes, header, body].concat()
    }

    #[test]
    fn certificates_are_found_among_other_signatures() {
        let certificate = |byte: u8| [[9; 16].as_slice(), &[byte; 5]].concat();
        let lists = [
            list([7; 16], &[], 48, &[1; 96]),
            list(X509, &[1, 2, 3], 21, &certificate(4)),
            list(X509, &[], 21, &[certificate(5), certificate(6)].concat()),
        ]
        .concat();
        let expected: BTreeSet<_> = [[4; 5], [5; 5], [6; 5]].iter().map(|bytes| Digest::of(bytes)).collect();
        assert_eq!(certificates(&lists), expected);
    }

    #[test]
    fn only_a_firmware_that_enforces_it_demands_anything() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(accepted(folder.path()).unwrap(), None);
        fs::write(folder.path().join(SECURE_BOOT), [6, 0, 0, 0, 0]).unwrap();
        assert_eq!(accepted(folder.path()).unwrap(), None);
        fs::write(folder.path().join(SECURE_BOOT), [6, 0, 0, 0, 1]).unwrap();
        assert_eq!(accepted(folder.path()).unwrap(), Some(BTreeSet::new()));
        let db = [vec![7, 0, 0, 0], list(X509, &[], 18, &[[9; 16].as_slice(), b"me"].concat())].concat();
        fs::write(folder.path().join(DB), db).unwrap();
        assert_eq!(accepted(folder.path()).unwrap(), Some([Digest::of(b"me")].into()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 0u32..80) {
            let mut bytes = bytes;
            if bytes.len() >= 28 {
                bytes[..16].copy_from_slice(&X509);
                bytes[16..20].copy_from_slice(&size.to_le_bytes());
                bytes[24..28].copy_from_slice(&20u32.to_le_bytes());
            }
            certificates(&bytes);
        }
    }
}
