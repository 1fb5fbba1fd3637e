//! Whatever the trees, and whatever happens on the way: a host ends up with exactly what was signed, or with what it had.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use upright_image_builder::repo::build::Build;
use upright_manifests::digest::Digest;
use upright_tests::fixture::{Fixture, file, kernel, noise, system};
use upright_tests::programs::{folder, upright};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

/// What a file holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Noise,
    Text,
    Gzip,
}

/// What becomes of a file in the newer release.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Byte,
    Longer(usize),
    Shorter,
    Moved,
    Gone,
    Other,
}

#[derive(Debug, Clone)]
struct File {
    seed: u64,
    size: usize,
    kind: Kind,
    change: Change,
}

/// What goes wrong before an update is asked for once more.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The agent is killed when so many thousandths of a quarter of the image's size were sent.
    Kill(u64),
    /// Each answer ends there.
    Cut(u64),
    /// This byte of payloads and deltas is another one.
    Flip(u64),
    /// This byte of what runs, and is the base of deltas and chunks.
    Source(u64),
    /// This byte of the slot that is written to.
    Target(u64),
}

fn files() -> impl Strategy<Value = Vec<File>> {
    let kind = prop_oneof![Just(Kind::Noise), Just(Kind::Text), Just(Kind::Gzip)];
    let change = prop_oneof![
        4 => Just(Change::Nothing),
        2 => Just(Change::Byte),
        2 => (1_usize..9_000).prop_map(Change::Longer),
        1 => Just(Change::Shorter),
        1 => Just(Change::Moved),
        1 => Just(Change::Gone),
        1 => Just(Change::Other),
    ];
    let size = prop_oneof![3 => 0_usize..9_000, 1 => 0_usize..400_000];
    let file = (any::<u64>(), size, kind, change);
    let file = file.prop_map(|(seed, size, kind, change)| File { seed, size, kind, change });
    prop::collection::vec(file, 0..60)
}

fn troubles() -> impl Strategy<Value = Vec<Trouble>> {
    let trouble = prop_oneof![
        3 => (0_u64..1000).prop_map(Trouble::Kill),
        2 => (0_u64..200_000).prop_map(Trouble::Cut),
        2 => (0_u64..200_000).prop_map(Trouble::Flip),
        2 => any::<u64>().prop_map(Trouble::Source),
        1 => any::<u64>().prop_map(Trouble::Target),
    ];
    prop::collection::vec(trouble, 0..4)
}

impl File {
    fn content(&self, newer: bool) -> Result<Vec<u8>> {
        let seed = if newer && matches!(self.change, Change::Other) { !self.seed } else { self.seed };
        let mut plain = match self.kind {
            Kind::Noise => noise(seed, self.size),
            Kind::Text | Kind::Gzip => noise(seed, self.size).iter().map(|byte| b'a' + byte % 8).collect(),
        };
        match self.change {
            Change::Byte if newer => plain.iter_mut().skip(self.size / 2).take(1).for_each(|byte| *byte ^= 1),
            Change::Longer(by) if newer => {
                let middle = plain.len() / 3;
                plain.splice(middle..middle, noise(!seed, by));
            }
            Change::Shorter if newer => plain.truncate(self.size / 2),
            _ => {}
        }
        let Kind::Gzip = self.kind else { return Ok(plain) };
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&plain)?;
        Ok(packed.finish()?)
    }
}

fn make_tree(tree: &Path, version: &str, files: &[File]) -> Result<()> {
    let newer = version != "1.0.0";
    system(tree, &kernel(1 + u64::from(newer), 60_000), &noise(2, 100_000))?;
    for (number, made) in files.iter().enumerate() {
        let moved = if newer && matches!(made.change, Change::Moved) { "other" } else { "share" };
        if !(newer && matches!(made.change, Change::Gone)) {
            file(tree, &format!("usr/{moved}/{number}"), &made.content(newer)?)?;
        }
    }
    Ok(())
}

/// Another byte at some place within the first `size` of a file.
fn flip(path: &Path, at: u64, size: u64) -> Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at % size)?;
    Ok(file.write_all_at(&[!byte[0]], at % size)?)
}

/// Asks for an update and kills the agent when so much was sent, if it did not end before.
fn killed(host: &Path, fixture: &Fixture, sent: u64) -> Result<()> {
    fixture.server.reset_counts();
    let mut agent = Command::new(folder()?.join("upright"))
        .arg("--root")
        .arg(host)
        .arg("update")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while !fixture.server.until_sent(sent, Duration::from_millis(20)) && agent.try_wait()?.is_none() {}
    agent.kill()?;
    agent.wait()?;
    Ok(())
}

fn prefix(host: &Path, slot: &str, size: u64) -> Result<Digest> {
    let mut bytes = vec![0; usize::try_from(size)?];
    fs::File::open(host.join("dev").join(slot))?.read_exact_at(&mut bytes, 0)?;
    Ok(Digest::of(&bytes))
}

/// An update through all of that, and one that nothing is in the way of.
fn lead(files: &[File], troubles: &[Trouble], without: &str) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let make = |tree: &Path, version: &str| make_tree(tree, version, files);
    let fixture = Fixture::of(temporary.path(), &["1.0.0", "1.1.0"], make)?;
    fixture.build(&["publish", "1.1.0"])?;
    let build = |version: &str| -> Result<Build> {
        Build::read(&fixture.workspace().join("builds").join(version))?.context("a build")
    };
    let (old, new) = (build("1.0.0")?, build("1.1.0")?);
    let more = format!("[limits]\nwithout = [{without}]\npatience = \"1s\"\n");
    let host = &fixture.host_with("host", &more, Sizes::default())?;
    // The first command starts a simulated host, whose initrd reads the whole image; a real one finds out when it reads a block.
    assert_eq!(upright(host, &["status"])?.status, 0);
    let mut spoilt = false;
    for trouble in troubles {
        match *trouble {
            Trouble::Kill(share) => killed(host, &fixture, new.root.size * share / 4000)?,
            Trouble::Source(at) => {
                flip(&host.join("dev/root-a"), at, old.root.size)?;
                spoilt = true;
            }
            Trouble::Target(at) => flip(&host.join("dev/root-b"), at, new.root.size)?,
            Trouble::Cut(at) => {
                fixture.server.spoil_times("", Fault::Cut(at), 3);
                fixture.server.spoil_times("deltas/", Fault::Cut(at), 3);
            }
            Trouble::Flip(at) => {
                fixture.server.spoil("deltas/", Fault::Flip(at));
                fixture.server.spoil("payloads/", Fault::Flip(at));
            }
        }
        let ran = upright(host, &["update"])?;
        assert!([0, 4, 5].contains(&ran.status), "{trouble:?}: {ran:?}");
        if !spoilt {
            assert_eq!(prefix(host, "root-a", old.root.size)?, old.root.sha256, "{trouble:?}");
        }
        if ran.status == 0 {
            break;
        }
        let entries = fs::read_dir(host.join("esp/EFI/Linux"))?.count();
        assert_eq!(entries, 1, "no boot entry of what failed: {trouble:?}");
        fixture.server.mend();
    }
    fixture.server.mend();
    let ran = upright(host, &["update"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(prefix(host, "root-b", new.root.size)?, new.root.sha256);
    let uki = fs::read_dir(host.join("esp/EFI/Linux"))?.find_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with("acme_1.1.0+").then_some(path)
    });
    assert_eq!(Digest::of(&fs::read(uki.context("no boot entry")?)?), new.uki.sha256);
    Ok(())
}

proptest! {
    // Each case builds and publishes two releases.
    #![proptest_config(ProptestConfig {
        cases: 24, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_update_through_any_trouble_ends_in_the_exact_release(
        files in files(),
        troubles in troubles(),
        without in prop_oneof![3 => Just(""), 1 => Just("\"delta\""), 1 => Just("\"delta\", \"chunks\"")],
    ) {
        let led = lead(&files, &troubles, without);
        prop_assert!(led.is_ok(), "{:#}", led.err().map_or_else(String::new, |error| format!("{error:#}")));
    }
}
