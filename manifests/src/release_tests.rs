//! Manifests that no publisher writes.

use super::*;

/// A release of one block with a delta.
fn release() -> Release {
    let digest = Digest::of(b"");
    let blob = Blob { path: "payloads/x".parse().unwrap(), size: 1, sha256: digest };
    let (path, size) = (blob.path.clone(), blob.size);
    let parted = PartedBlob { path, size, sha256: digest, head_size: 1, head_sha256: digest, cost: None };
    let version: Version = "1.1.0".parse().unwrap();
    let verity = VerityParams {
        root_hash: digest,
        salt: digest,
        uuid: String::new(),
        data_blocks: 1,
        hash_size: 8192,
    };
    Release {
        format: FORMAT,
        os: "acme".parse().unwrap(),
        arch: Arch::X86_64,
        version: version.clone(),
        time: Timestamp::UNIX_EPOCH,
        floor: None,
        commit: None,
        base: None,
        root: RootImage { size: BLOCK_SIZE, sha256: digest, verity, full: parted.clone(), chunks: blob },
        uki: Uki { size: 1, sha256: digest, compose: parted.clone(), certificates: Vec::new() },
        deltas: vec![DeltaEdge { from: version, from_root_hash: digest, delta: parted, chunks: None }],
        versioned: Vec::new(),
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let good = release();
    assert_eq!(Release::parse(&good.to_bytes().unwrap()), Ok(good.clone()));
    let impossible: [(fn(&mut Release), _); 10] = [
        (|release| release.root.size = 0, "root image size"),
        (|release| release.root.size += 1, "root image size"),
        (|release| release.root.size += BLOCK_SIZE, "verity tree"),
        (|release| release.root.verity.data_blocks = u64::MAX, "verity tree"),
        (|release| release.uki.size = 0, "UKI size"),
        (|release| release.uki.compose.head_size = 2, "UKI delta head"),
        (|release| release.root.full.head_size = 0, "full payload head"),
        (|release| release.root.full.head_size = u64::MAX, "full payload head"),
        (|release| release.deltas[0].delta.head_size = 2, "delta head"),
        (|release| release.versioned = vec!["lib/../../etc".to_owned()], "versioned path"),
    ];
    for (change, what) in impossible {
        let mut release = good.clone();
        change(&mut release);
        assert_eq!(Release::parse(&release.to_bytes().unwrap()), Err(ReleaseError::Impossible(what)));
    }
}

#[test]
fn what_an_older_publisher_did_not_say_is_not_there() {
    let old = release();
    let text = String::from_utf8(old.to_bytes().unwrap()).unwrap();
    assert!(!text.contains("\"base\"") && text.matches("\"chunks\"").count() == 1, "{text}");
    let mut new = old.clone();
    let (version, root_hash) = (old.version.clone(), Digest::of(b""));
    new.base = Some(Base { version, root_hash, layout: root_hash });
    new.deltas[0].chunks = Some(ByChunks { size: 5, cost: Cost { memory: 6, cpu_ms: 7 } });
    assert_eq!(Release::parse(&new.to_bytes().unwrap()), Ok(new));
}

#[test]
fn a_manifest_of_another_format_or_beyond_the_limit_is_not_read_any_further() {
    assert_eq!(Release::parse(br#"{"format":2,"os":[]}"#), Err(ReleaseError::Format(2)));
    let mut long = release().to_bytes().unwrap();
    long.resize(MAX_BYTES as usize, b' ');
    Release::parse(&long).unwrap();
    long.push(b' ');
    assert_eq!(Release::parse(&long), Err(ReleaseError::TooLarge(MAX_BYTES + 1)));
}
