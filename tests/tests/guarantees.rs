//! `docs/guarantees.md` lists nothing without a test: every one that it names is there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

#[test]
fn every_test_that_the_guarantees_name_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/guarantees.md"))?;
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| guarantee "));
    let mut named = 0;
    for row in rows {
        let (file, test) = row
            .split('`')
            .find_map(|text| text.split_once(".rs::"))
            .with_context(|| format!("no test proves {row:?}"))?;
        let path = root.join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        assert!(source.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
        named += 1;
    }
    assert!(named > 15, "{named} guarantees are listed");
    Ok(())
}
