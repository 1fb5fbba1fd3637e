//! Which checks there are: the declared ones and the executables in `required.d` and `wanted.d`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::config::{Check, Health, Probe, Time};

/// All checks of `health`: declared ones first, then executables by name.
///
/// The layout of the folders is greenboot's: what lies in `required.d` must exit with 0 for the system to be
/// healthy, what lies in `wanted.d` is only reported.
pub fn gather(health: &Health) -> Vec<Check> {
    let mut checks = health.checks.clone();
    for folder in &health.folders {
        for (name, required) in [("required.d", true), ("wanted.d", false)] {
            checks.extend(executables(&folder.join(name)).into_iter().map(|path| executable(path, required)));
        }
    }
    checks
}

fn executables(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            fs::metadata(entry.path())
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .filter_map(|entry| entry.path().to_str().map(str::to_owned))
        .collect();
    paths.sort();
    paths
}

fn executable(path: String, required: bool) -> Check {
    Check {
        name: path.clone(),
        probe: Probe::Command(vec![path]),
        required,
        timeout: Time(Duration::from_secs(60)),
        retries: 2,
        interval: Time(Duration::from_secs(5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_both_folders_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for (path, mode) in [
            ("required.d/20-b", 0o755),
            ("required.d/10-a", 0o755),
            ("wanted.d/c", 0o755),
            ("wanted.d/README", 0o644),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let health =
            Health { folders: vec![folder.path().to_owned(), "/nowhere".into()], ..Health::default() };
        let found: Vec<_> = gather(&health)
            .into_iter()
            .map(|check| (check.name.rsplit('/').next().unwrap().to_owned(), check.required))
            .collect();
        let expected = [("10-a", true), ("20-b", true), ("c", false)];
        assert_eq!(found, expected.map(|(name, required)| (name.to_owned(), required)));
    }
}
