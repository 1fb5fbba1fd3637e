//! Pages that promise something name the test that proves it: every one that they name is there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tests that a text names, by file and function; each must be there.
fn tests_named_in(text: &str) -> Result<usize> {
    let named: Vec<_> = text.split('`').filter_map(|text| text.split_once(".rs::")).collect();
    for (file, test) in &named {
        let path = root().join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(source.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
    }
    Ok(named.len())
}

#[test]
fn every_test_that_the_trust_model_names_is_there() -> Result<()> {
    let named = tests_named_in(&fs::read_to_string(root().join("docs/trust-model.md"))?)?;
    ensure!(named > 50, "{named} tests are named");
    Ok(())
}

#[test]
fn every_guarantee_has_a_test_and_it_is_there() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/guarantees.md"))?;
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| guarantee "));
    let mut listed = 0;
    for row in rows {
        ensure!(tests_named_in(row)? > 0, "no test proves {row:?}");
        listed += 1;
    }
    ensure!(listed > 15, "{listed} guarantees are listed");
    Ok(())
}
