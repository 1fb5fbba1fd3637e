//! What programs read: every document of `upright` and `upright-build` has keys in one style.

use anyhow::{Result, ensure};
use serde_json::Value;
use upright_tests::fixture::Fixture;
use upright_tests::programs::{build, upright};

/// Maps whose keys are names of roles or files.
const NAMED: [&str; 2] = ["metadata_good_until", "keys"];

/// Fails where a key is not in snake_case.
fn check(value: &Value, what: &str) -> Result<()> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| check(value, what)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let snake =
                key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            ensure!(snake, "{what} has the key {key:?}");
            if NAMED.contains(&key.as_str()) { Ok(()) } else { check(value, what) }
        }),
        _ => Ok(()),
    }
}

#[test]
fn the_keys_of_every_document_are_in_snake_case() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let host = &fixture.host("host")?;
    let tree = workspace.with_file_name("1.1.0").display().to_string();
    let publisher: [&[&str]; 9] = [
        &["build", &tree, "--version", "1.1.0", "--time", "2026-01-01T00:00:00Z"],
        &["publish", "1.1.0", "--dry-run"],
        &["publish", "1.1.0", "--wave", "5%@2030-01-01T00:00:00Z"],
        &["list"],
        &["diff", "1.0.0", "1.1.0"],
        &["check"],
        &["refresh"],
        &["rollout", "stable"],
        &["rotate", "--dry-run"],
    ];
    for arguments in publisher {
        check(&build(workspace, &[arguments, &["--json"]].concat())?.json()?, &format!("{arguments:?}"))?;
    }
    // In the order of a host's life, with a wave to wait for, and a release that is left in the end.
    let operator: [&[&str]; 21] = [
        &["status"],
        &["check"],
        &["update"],
        &["update", "--now", "--dry-run"],
        &["update", "--now", "--reboot"],
        &["status"],
        &["health"],
        &["verify"],
        &["plan"],
        &["reset", "--yes"],
        &["reset", "--cancel"],
        &["rollback", "--dry-run"],
        &["rollback"],
        &["status"],
        &["update", "--now"],
        &["run", "--once"],
        &["doctor"],
        &["history"],
        &["why"],
        &["channel"],
        &["channel", "--default"],
    ];
    for arguments in operator {
        let ran = upright(host, &[arguments, &["--json"]].concat())?;
        check(&ran.json()?, &format!("{arguments:?}"))?;
    }
    Ok(())
}
