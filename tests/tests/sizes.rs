//! What an update costs, as ratios on a pair of releases that is the same each time. A change that makes these worse is seen here
//! and not only in a benchmark that takes hours.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upright_tests::fixture::{Fixture, file, kernel, noise, system};
use upright_tests::programs::upright;
use upright_tests::simulated::Sizes;

const WORDS: [&str; 16] = [
    "slot ", "image ", "release ", "the ", "a ", "is ", "of ", "block ", "root ", "hash ", "tree ", "and ",
    "kernel ", "signed ", "boots ", "host\n",
];

/// Prose of some kind.
fn prose(seed: u64, length: usize) -> Vec<u8> {
    let mut text: Vec<u8> =
        noise(seed, length / 3).iter().flat_map(|byte| WORDS[usize::from(byte % 16)].bytes()).collect();
    text.truncate(length);
    text
}

/// Something like machine code: a few forms of instructions, and calls whose relative targets all move with `base`.
fn code(seed: u64, length: usize, base: u32) -> Vec<u8> {
    let choices = noise(seed, length / 4);
    let mut code = Vec::with_capacity(length);
    for choice in choices {
        match choice % 4 {
            0 => {
                let target = base.wrapping_add(u32::from(choice) << 6).wrapping_sub(code.len() as u32);
                code.push(0xe8);
                code.extend(target.to_le_bytes());
            }
            1 => code.extend([0x48, 0x89, choice]),
            2 => code.extend([0x0f, 0x1f, 0x40, 0x00]),
            _ => code.extend([0x48, 0x8b, 0x45, choice]),
        }
    }
    code.resize(length, 0x90);
    code
}

/// One file in ten has some lines more, one program is linked anew.
fn make_tree(tree: &Path, version: &str) -> Result<()> {
    let newer = version != "1.0.0";
    system(tree, &kernel(1, 300_000), &noise(2, 500_000))?;
    for number in 0..200_u64 {
        let mut text = prose(100 + number, 3_000 + 150 * number as usize);
        if newer && number % 10 == 0 {
            let middle = text.len() / 2;
            text.splice(middle..middle, prose(9000 + number, 200));
        }
        file(tree, &format!("usr/share/text/{number}"), &text)?;
        file(tree, &format!("usr/share/man/{number}"), &text)?;
    }
    let packed = Command::new("gzip").args(["-9nr"]).arg(tree.join("usr/share/man")).status()?;
    ensure!(packed.success(), "gzip: {packed}");
    for number in 0..20_u64 {
        let base = if newer && number == 3 { 0x0040_1230 } else { 0x0040_1000 };
        file(tree, &format!("usr/bin/{number}"), &code(500 + number, 200_000, base))?;
    }
    Ok(())
}

/// What zstd makes of the newer image when it has the older one at hand.
fn patch(workspace: &Path) -> Result<u64> {
    let image = |version: &str| workspace.join("builds").join(version).join("root.erofs");
    let out = workspace.join("patch.zst");
    let made = Command::new("zstd")
        .args(["-q", "-19", "--long=27", "--patch-from"])
        .arg(image("1.0.0"))
        .arg(image("1.1.0"))
        .arg("-o")
        .arg(&out)
        .status()?;
    ensure!(made.success(), "zstd: {made}");
    Ok(fs::metadata(out)?.len())
}

#[test]
fn updates_stay_as_small_as_they_are() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let fixture = Fixture::of(temporary.path(), &["1.0.0", "1.1.0"], make_tree)?;
    fixture.build(&["publish", "1.1.0"])?;
    let manifest = fixture.manifest("1.1.0")?;
    let size = |pointer: &str| -> Result<f64> {
        manifest.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer}"))
    };
    let fetched = |name: &str, without: &str| -> Result<(f64, f64)> {
        let host =
            fixture.host_with(name, &format!("[limits]\nwithout = [{without}]\n"), Sizes::default())?;
        let image = host.join("dev/root-a");
        fs::copy(image, host.join("dev/root-b"))?;
        let hashes = host.join("dev/root-a-verity");
        fs::copy(hashes, host.join("dev/root-b-verity"))?;
        let ran = upright(&host, &["update", "--json"])?;
        ensure!(ran.status == 0, "{ran:?}");
        let way = &ran.json()?["history"]["outcome"]["way"];
        let number = |key: &str| way[key].as_f64().with_context(|| format!("no {key} in {way}"));
        Ok((number("fetched")?, number("written")?))
    };
    let (image, full) = (size("/root/size")?, size("/root/full/size")?);
    let (delta, written) = fetched("delta", "\"chunks\"")?;
    let (chunks, _) = fetched("chunks", "\"delta\"")?;
    let patch = patch(&fixture.workspace())? as f64;
    for (what, is, most) in [
        ("the delta, against zstd's patch", size("/deltas/0/delta/size")? / patch, 0.18),
        ("everything fetched, against the full payload", delta / full, 0.0125),
        ("everything fetched by chunks, against the full payload", chunks / full, 0.11),
        ("the index, against the image", size("/root/chunks/size")? / image, 0.0007),
        ("what is written, against the image", written / image, 0.07),
    ] {
        println!("{what}: {is:.4}, at most {most}");
        assert!(is <= most, "{what}: {is:.4}, at most {most}");
    }
    Ok(())
}
