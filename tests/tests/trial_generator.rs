//! Which boots `upright-trial-generator` makes strict, with the script itself in a namespace that has what it looks at.

use std::fs;
use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;
use upright_tests::namespace::in_namespace;

const GENERATOR: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/systemd/system-generators/upright-trial-generator");

/// A boot as the generator sees it.
#[derive(Debug, Clone, Copy)]
struct Boot {
    /// The entry that the boot loader says it counts.
    counted: Option<&'static str>,
    /// The root hash that the agent noted.
    noted: Option<&'static str>,
}

/// Whether the boot of a release with the root hash `00aa` is strict.
fn is_strict(boot: Boot) -> Result<bool> {
    const VARIABLE: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let folder = TempDir::new()?;
    let at = folder.path();
    fs::write(at.join("cmdline"), "quiet roothash=00aa upright.version=1.0.0\n")?;
    let mut script =
        "mount -t tmpfs none /sys; mount -t tmpfs none /var/lib; mount --bind cmdline /proc/cmdline\n\
                      mkdir -p /sys/firmware/efi/efivars /var/lib/upright\n"
            .to_owned();
    if let Some(entry) = boot.counted {
        let path: Vec<u8> =
            format!("\\EFI\\Linux\\{entry}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(at.join("variable"), [&[6, 0, 0, 0][..], &path].concat())?;
        script += &format!("cp variable /sys/firmware/efi/efivars/{VARIABLE}\n");
    }
    if let Some(hash) = boot.noted {
        fs::write(at.join("note"), hash)?;
        script += "cp note /var/lib/upright/trial\n";
    }
    script += &format!("sh '{GENERATOR}' normal early late\n");
    in_namespace(at, &script)?;
    let has = |unit: &str| Path::new(at).join("early").join(unit).join("50-upright-trial.conf").exists();
    let units = ["boot-complete.target.d", "upright-health.service.d", "emergency.service.d"].map(has);
    assert!(units.iter().all(|there| *there == units[0]), "{boot:?}: {units:?}");
    Ok(units[0])
}

#[test]
fn a_boot_is_strict_while_the_release_is_on_trial_and_never_for_a_proven_one() -> Result<()> {
    let cases = [
        // Tries are left, noted or not: what was noted may be out of reach.
        (Some("acme_1.0.0+2-1.efi"), Some("00aa"), true),
        (Some("acme_1.0.0+2-1.efi"), None, true),
        (Some("acme_1.0.0+10-1.efi"), None, true),
        // The last boot of a trial.
        (Some("acme_1.0.0+0-3.efi"), Some("00aa"), true),
        (Some("acme_1.0.0+0-1.efi"), Some("00aa"), true),
        // Proven, and the way back from another one, which is on trial or was.
        (Some("acme_1.0.0+0-1.efi"), Some("00bb"), false),
        (Some("acme_1.0.0+0-1.efi"), None, false),
        (Some("acme_1.0.0+0-12.efi"), None, false),
        (Some("acme_1.0.0+0.efi"), None, false),
        // Nothing is counted, as with other boot loaders.
        (None, Some("00aa"), true),
        (None, Some("00bb"), false),
        (None, Some("00a"), false),
        (None, None, false),
    ];
    for (counted, noted, expected) in cases {
        assert_eq!(is_strict(Boot { counted, noted })?, expected, "{counted:?}, noted {noted:?}");
    }
    Ok(())
}
