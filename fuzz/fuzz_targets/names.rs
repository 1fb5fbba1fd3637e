//! Names and other short texts: those of boot entries, versions, paths, digests, and the kernel's command line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::bls::EntryName;
use upright_manifests::digest::Digest;
use upright_manifests::name::{ChannelName, OsName, RepoPath};
use upright_manifests::state::{Declarations, Kind, check_versioned, is_within};
use upright_manifests::uuid::Uuid;
use upright_manifests::version::Version;

fuzz_target!(|text: &str| {
    in_proportion(text.as_bytes(), 20, || {
        if let Ok(entry) = text.parse::<EntryName>() {
            let named = entry.to_string();
            assert!(!named.contains(['/', '\0']));
            assert_eq!(named.parse(), Ok(entry));
        }
        if let Ok(path) = text.parse::<RepoPath>() {
            let leads_out = |part: &str| matches!(part, "" | "." | "..");
            assert!(!path.as_str().split('/').any(leads_out));
        }
        if let Ok(os) = text.parse::<OsName>() {
            assert!(!os.as_str().contains(['/', '_', '\0']));
        }
        if let Ok(channel) = text.parse::<ChannelName>() {
            assert!(!channel.as_str().contains(['/', '\0']));
        }
        let _ = (text.parse::<Digest>(), text.parse::<Uuid>());
        order(text);
        declarations(text);
        let _ = upright_updater::fuzzing::command_line(text);
    });
});

/// No declaration leads out of `/etc` and `/var`, and what is versioned is not in each other.
fn declarations(text: &str) {
    let mut declared = Declarations::default();
    declared.add(text.as_bytes());
    let versioned = declared.versioned();
    for path in &versioned {
        assert_eq!(check_versioned(path), Ok(()));
        assert_eq!(versioned.iter().filter(|other| is_within(path, other)).count(), 1);
    }
    for kind in [Kind::Sticky, Kind::Identity, Kind::Accounts] {
        for path in declared.of(kind) {
            assert!(!path.split('/').any(|part| matches!(part, "" | "." | "..")));
            let _ = declared.follows(path.as_bytes());
        }
    }
}

/// The order of versions holds both ways.
fn order(text: &str) {
    let Some((left, right)) = text.split_once(' ') else { return };
    if let (Ok(left), Ok(right)) = (left.parse::<Version>(), right.parse::<Version>()) {
        assert!(!(left.is_newer_than(&right) && right.is_newer_than(&left)));
        assert!(!left.is_newer_than(&left));
    }
}
