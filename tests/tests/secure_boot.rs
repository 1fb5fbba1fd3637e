//! A host that enforces Secure Boot takes no release that its firmware would not start.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use upright_manifests::digest::Digest;
use upright_tests::fixture::Fixture;
use upright_tests::programs::upright;

/// Makes a key and a certificate in `folder`, and gives the certificate as the firmware has it.
fn key(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = |kind: &str| folder.join(format!("{name}.{kind}"));
    let openssl = |arguments: &[&str]| -> Result<()> {
        let ran = Command::new("openssl").args(arguments).output().context("cannot run openssl")?;
        ensure!(ran.status.success(), "openssl: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    };
    let (key, pem, der) = (path("key"), path("crt"), path("der"));
    let text = |path: &Path| path.display().to_string();
    let new = ["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout"];
    openssl(&[new.as_slice(), &[&text(&key), "-out", &text(&pem)]].concat())?;
    openssl(&["x509", "-in", &text(&pem), "-outform", "DER", "-out", &text(&der)])?;
    Ok(fs::read(der)?)
}

/// Variables of a firmware that takes signatures with these certificates alone.
fn enroll(host: &Path, certificates: &[&[u8]]) -> Result<()> {
    let folder = host.join("efivars");
    fs::create_dir_all(&folder)?;
    let x509 =
        [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
    let mut db = vec![0x27, 0, 0, 0];
    for certificate in certificates {
        let each = 16 + certificate.len() as u32;
        db.extend(x509);
        [28 + each, 0, each].iter().for_each(|number| db.extend(number.to_le_bytes()));
        db.extend([0; 16]);
        db.extend(*certificate);
    }
    fs::write(folder.join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"), [6, 0, 0, 0, 1])?;
    Ok(fs::write(folder.join("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"), db)?)
}

#[test]
fn only_a_release_with_an_accepted_signature_is_taken() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = fixture.workspace();
    let ours = key(&workspace.join("keys"), "db")?;
    let theirs = key(&workspace.join("keys"), "other")?;
    fixture.build(&["publish", "1.1.0"])?;

    let host = &fixture.host("host")?;
    enroll(host, &[&theirs, &ours])?;
    let root = Digest::of(&fs::read(host.join("dev/root-b"))?);
    let unsigned = upright(host, &["update"])?;
    assert_eq!(unsigned.status, 3, "{unsigned:?}");
    assert!(
        unsigned.stderr.contains("enforces Secure Boot, and its UKI is not signed; nothing was changed"),
        "{unsigned:?}"
    );
    assert_eq!(Digest::of(&fs::read(host.join("dev/root-b"))?), root);

    // The same content as 1.1.0, signed.
    let settings = workspace.join("upright.toml");
    let text = fs::read_to_string(&settings)?;
    let section = "[secure-boot]\nkey = \"keys/db.key\"\ncertificate = \"keys/db.crt\"\n\n[roles.root]";
    fs::write(&settings, text.replacen("[roles.root]", section, 1))?;
    let tree = workspace.join("../1.1.0");
    let tree = tree.to_str().context("a path that is UTF-8")?;
    fixture.build(&["build", tree, "--version", "1.1.1", "--time", "2026-01-02T00:00:00Z"])?;
    fixture.build(&["publish", "1.1.1"])?;
    enroll(host, &[&theirs])?;
    let foreign = upright(host, &["update"])?;
    assert_eq!(foreign.status, 3, "{foreign:?}");
    assert!(foreign.stderr.contains("not among the firmware's"), "{foreign:?}");
    enroll(host, &[&theirs, &ours])?;
    let taken = upright(host, &["update"])?;
    assert_eq!(taken.status, 0, "{taken:?}");
    Ok(())
}
