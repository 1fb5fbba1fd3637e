//! Commits of the tree store: signed by whoever builds, and looked at by whoever takes a tree from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use upright_tests::fixture::Fixture;
use upright_tests::programs::{Ran, build, run};
use upright_tests::refusal::line_of;

/// What another program prints.
fn output_of(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?}: {output:?}");
    Ok(output.stdout)
}

/// The only ref of a workspace's tree store that ends like this, and its commit.
fn reference(store: &Path, ending: &str) -> Result<(String, String)> {
    let repo = format!("--repo={}", store.display());
    let refs = String::from_utf8(output_of("ostree", &["refs", &repo])?)?;
    let name = refs.lines().find(|name| name.ends_with(ending)).context("a ref")?.to_owned();
    let commit = String::from_utf8(output_of("ostree", &["rev-parse", &repo, &name])?)?;
    Ok((name, commit.trim().to_owned()))
}

fn object(store: &Path, checksum: &str, kind: &str) -> PathBuf {
    store.join(format!("objects/{}/{}.{kind}", &checksum[..2], &checksum[2..]))
}

#[test]
fn a_commits_signature_is_one_that_openssl_verifies() -> Result<()> {
    let fixture = Fixture::new()?;
    let store = fixture.workspace().join("ostree");
    let (_, commit) = reference(&store, "/1.0.0")?;
    // A dictionary with one entry (GVariant specification, section 2.5): its key, and at the next multiple of 8 a variant that begins
    // with the only element of an array, the signature.
    let entry = fs::read(object(&store, &commit, "commitmeta"))?;
    let key = b"ostree.sign.ed25519\0";
    ensure!(entry.starts_with(key), "{entry:?}");
    let start = key.len().next_multiple_of(8);
    let signature = entry.get(start..start + 64).context("a signature")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("signature");
    fs::write(&file, signature)?;
    let path = |path: &Path| path.display().to_string();
    let (file, signed) = (path(&file), path(&object(&store, &commit, "commit")));
    let public = path(&fixture.workspace().join("keys/tree.pem.pub"));
    let verify =
        ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin", "-in", &signed, "-sigfile", &file];
    output_of("openssl", &verify)?;
    Ok(())
}

/// Another publisher, who takes the tree of 1.0.0 from the first one's store.
fn take(fixture: &Fixture, name: &str, keys: &[&str]) -> Result<(PathBuf, Ran)> {
    let taker = fixture.workspace().with_file_name(name);
    if !taker.exists() {
        let made = run("upright-build", ["init", &taker.display().to_string(), "--os", "acme"])?;
        ensure!(made.status == 0, "{made:?}");
    }
    let store = fixture.workspace().join("ostree");
    let source = format!("ostree:{}:{}", store.display(), reference(&store, "/1.0.0")?.0);
    let workspace = taker.display().to_string();
    let mut arguments = vec!["-C", &workspace, "build", &source, "--version", "5.0"];
    arguments.extend(keys.iter().flat_map(|key| ["--verify-key", key]));
    Ok((taker.clone(), run("upright-build", arguments)?))
}

#[test]
fn a_tree_is_taken_from_those_who_are_trusted_with_it_alone() -> Result<()> {
    let fixture = Fixture::new()?;
    let key = |workspace: &Path| workspace.join("keys/tree.pem.pub").display().to_string();
    let theirs = key(&fixture.workspace());
    let (taker, ran) = take(&fixture, "trusting", &[])?;
    ensure!(ran.status == 0, "{ran:?}");
    let other = key(&taker);
    let (taker, ran) = take(&fixture, "careful", &[&other])?;
    let line = line_of("upright-build", &ran, 4)?;
    ensure!(line.contains("has no signature of the 1 keys") && line.contains("--verify-key"), "{line}");
    ensure!(!taker.join("builds/5.0").exists(), "a build of what nobody vouches for");
    let (taker, ran) = take(&fixture, "careful", &[&other, &theirs])?;
    ensure!(ran.status == 0, "{ran:?}");
    // What it makes of the tree it signs itself.
    ensure!(reference(&taker.join("ostree"), "/5.0")?.0.starts_with("acme/"), "no ref");

    let tree = fixture.workspace().with_file_name("1.0.0").display().to_string();
    let workspace = taker.display().to_string();
    let ran = run(
        "upright-build",
        ["-C", &workspace, "build", &tree, "--version", "6.0", "--verify-key", &theirs],
    )?;
    ensure!(line_of("upright-build", &ran, 3)?.contains("--verify-key is for trees from OSTree"), "{ran:?}");
    Ok(())
}

#[test]
fn a_signed_tree_whose_files_were_changed_is_not_taken() -> Result<()> {
    let fixture = Fixture::new()?;
    let store = fixture.workspace().join("ostree");
    let theirs = fixture.workspace().join("keys/tree.pem.pub").display().to_string();
    let mut changed = 0;
    let mut folders = vec![store.join("objects")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.display().to_string();
            match path.is_dir() {
                true => folders.push(path),
                false
                    if name.ends_with(".file")
                        || name.ends_with(".dirtree")
                        || name.ends_with(".dirmeta") =>
                {
                    let good = fs::read(&path)?;
                    let Some(last) = good.len().checked_sub(1) else { continue };
                    // Not all of them belong to 1.0.0, and there are many files.
                    if name.ends_with(".file") && changed > 0 && !good.starts_with(b"ID=") {
                        continue;
                    }
                    let mut bad = good.clone();
                    bad[last] ^= 1;
                    fs::write(&path, bad)?;
                    let (taker, ran) = take(&fixture, "careful", &[&theirs])?;
                    fs::write(&path, good)?;
                    if ran.status != 0 {
                        changed += 1;
                        ensure!(line_of("upright-build", &ran, 3)?.contains("damaged"), "{name}: {ran:?}");
                    }
                    let _ = fs::remove_dir_all(taker);
                }
                false => {}
            }
        }
    }
    ensure!(changed >= 3, "{changed} objects were damaged and noticed");
    build(&fixture.workspace(), &["check"])?;
    Ok(())
}
