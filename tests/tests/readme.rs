//! The walk-through in README.md: its commands work as they stand, and print what it says they print.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use upright_tests::fixture::make_tree;
use upright_tests::programs::folder;

/// Between what one command prints and the next.
const MARK: &str = "@@next";

#[test]
fn the_walk_through_works_as_it_stands() -> Result<()> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let work = TempDir::new()?;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        make_tree(&work.path().join(version), version, port)?;
    }
    let steps = steps(&readme)?;
    ensure!(steps.len() > 15, "the walk-through has {} commands only", steps.len());
    let script: String = steps.iter().map(|(command, _)| format!("{command}\necho {MARK}\n")).collect();
    let script = script.replace("upright-build serve", &format!("upright-build serve --port {port}"));
    let path = format!("{}:{}", folder()?.display(), std::env::var("PATH")?);
    let ran = Command::new("bash")
        .args(["-c", &format!("trap 'kill $(jobs -p)' EXIT\nexec 2>&1\n{script}")])
        .current_dir(&work)
        .env("PATH", path)
        .output()
        .context("cannot run bash")?;
    let printed = String::from_utf8(ran.stdout)?.replace(&port.to_string(), "8080");
    let printed: Vec<&str> = printed.split(&format!("{MARK}\n")).collect();
    ensure!(printed.len() > steps.len(), "the walk-through ended early:\n{}", printed.join("\n"));
    for ((command, expected), printed) in steps.iter().zip(printed) {
        assert_eq!(shape(printed), shape(expected), "$ {command}\n{printed}");
    }
    Ok(())
}

/// The commands of the walk-through that are to be typed, each with what it prints.
fn steps(readme: &str) -> Result<Vec<(&str, String)>> {
    let begin = readme.find("## A walk through").context("README.md has no walk-through")?;
    let section = &readme[begin + 2..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let mut steps: Vec<(&str, String)> = Vec::new();
    for block in section.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push((command, String::new())),
                (None, Some((_, printed))) => printed.extend([line, "\n"]),
                (None, None) => {}
            }
        }
    }
    Ok(steps)
}

/// How many of these lines there are depends on how long things take, and on who runs this.
fn is_progress(shape: &str) -> bool {
    shape.ends_with("%)") || shape.ends_with(" in # s") || shape.starts_with("note: every file belongs to ")
}

/// What must be the same each time: words and versions; not times, sizes and hashes.
fn shape(text: &str) -> String {
    let is_version = |word: &str| word.split('.').filter(|part| part.parse::<u8>().is_ok()).count() == 3;
    let is_hash = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match () {
            () if is_version(bare) => word.to_owned(),
            () if is_hash(bare) => word.replace(bare, "#"),
            () => word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect(),
        }
    };
    let number = |word: &String| word.trim_start_matches('(').bytes().all(|byte| b"#.".contains(&byte));
    let line = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let words: Vec<&str> = words.iter().map(|word| if number(word) { "#" } else { word }).collect();
        words.join(" ")
    };
    let lines = text.trim().lines().map(line);
    lines.filter(|line| !line.is_empty() && !is_progress(line)).collect::<Vec<_>>().join("\n")
}
