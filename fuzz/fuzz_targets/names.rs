//! Names and other short texts: those of boot entries, versions, paths, digests, and the kernel's command line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::bls::EntryName;
use upright_manifests::digest::Digest;
use upright_manifests::name::{ChannelName, OsName, RepoPath};
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
        let _ = upright_updater::fuzzing::command_line(text);
    });
});

/// The order of versions holds both ways.
fn order(text: &str) {
    let Some((left, right)) = text.split_once(' ') else { return };
    if let (Ok(left), Ok(right)) = (left.parse::<Version>(), right.parse::<Version>()) {
        assert!(!(left.is_newer_than(&right) && right.is_newer_than(&left)));
        assert!(!left.is_newer_than(&left));
    }
}
