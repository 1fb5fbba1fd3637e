//! `docs/trust-model.md` promises a test for each attack: every one that it names is there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

#[test]
fn every_test_that_the_trust_model_names_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/trust-model.md"))?;
    let named: Vec<_> = page.split('`').filter_map(|text| text.split_once(".rs::")).collect();
    assert!(named.len() > 50, "{} tests are named", named.len());
    for (file, test) in named {
        let path = root.join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        assert!(source.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
    }
    Ok(())
}
