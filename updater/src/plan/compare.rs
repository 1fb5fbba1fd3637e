//! Compares what was changed in `/etc` with what a release has there, file by file.

use std::collections::BTreeMap;

use serde::Serialize;
use upright_manifests::digest::Digest;

/// What a path is, but for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Whether it is a folder.
    pub folder: bool,
    /// Type, permissions, owner, and a file's or link's content.
    pub digest: Digest,
}

/// What is at a path of an upper layer, or of an image, which has nothing but the last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// It was deleted.
    Deleted,
    /// A folder that hides what the image has in it.
    Opaque(Fact),
    /// Something else; a folder is there together with what the image has in it.
    Here(Fact),
}

/// Files by path.
pub type Files = BTreeMap<Vec<u8>, Local>;

/// How a local change and a release get in each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// It was changed here, and by the release.
    Changed,
    /// It was deleted here, and the release changes or brings it.
    Deleted,
    /// It was added here, and the release brings one of its own.
    Added,
    /// It was changed here, and the release has it no more.
    Removed,
    /// The release changes or brings it, below something that was put in the place of its folder here.
    Hidden,
}

/// A local change in the way of a changed default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path.
    pub path: Vec<u8>,
    /// How.
    pub because: Because,
    /// What hides it, if it is hidden.
    pub by: Option<Vec<u8>>,
}

/// What `upper` hides of the changes from the defaults `old` to `new`; and the paths of the other changes, which are only local.
pub fn compare(old: &Files, new: &Files, upper: &Files) -> (Vec<Found>, Vec<Vec<u8>>) {
    let (mut found, mut local) = (Vec::new(), Vec::new());
    let mut judge =
        |path: &Vec<u8>, here: Local, default: Option<Fact>| match verdict(here, fact_at(old, path), default)
        {
            Verdict::InTheWay(because) => found.push(Found { path: path.clone(), because, by: None }),
            Verdict::Local => local.push(path.clone()),
            Verdict::Nothing => {}
        };
    for (path, here) in upper {
        judge(path, *here, fact_at(new, path));
    }
    for path in new.keys().filter(|path| !upper.contains_key(*path)) {
        let default = fact_at(new, path);
        if default == fact_at(old, path) || default.is_some_and(|fact| fact.folder) {
            continue;
        }
        if let Some(by) = hides(upper, path) {
            found.push(Found { path: path.clone(), because: Because::Hidden, by: Some(by.to_vec()) });
        }
    }
    (found, local)
}

/// What an image has at a path.
fn fact_at(image: &Files, path: &[u8]) -> Option<Fact> {
    match image.get(path) {
        Some(Local::Here(fact)) => Some(*fact),
        _ => None,
    }
}

/// The nearest thing above a path that hides what the image has there: whatever is in the place of a folder, but a folder that
/// is merged with it.
fn hides<'a>(upper: &Files, path: &'a [u8]) -> Option<&'a [u8]> {
    let ends = (0..path.len()).rev().filter(|end| path.get(*end) == Some(&b'/'));
    let mut above = ends.filter_map(|end| path.get(..end));
    above.find(|folder| match upper.get(*folder) {
        None | Some(Local::Here(Fact { folder: true, .. })) => false,
        Some(_) => true,
    })
}

enum Verdict {
    InTheWay(Because),
    Local,
    /// A folder that only leads to a change, or what is the same as the release's.
    Nothing,
}

fn verdict(here: Local, old: Option<Fact>, new: Option<Fact>) -> Verdict {
    let fact = match here {
        Local::Deleted => {
            return match (old, new) {
                (old, Some(_)) if old != new => Verdict::InTheWay(Because::Deleted),
                _ => Verdict::Local,
            };
        }
        Local::Opaque(fact) | Local::Here(fact) => fact,
    };
    match (old, new) {
        (_, Some(new)) if new == fact && !matches!(here, Local::Opaque(_)) => Verdict::Nothing,
        (Some(old), Some(new)) if old != new => Verdict::InTheWay(Because::Changed),
        (None, Some(_)) => Verdict::InTheWay(Because::Added),
        // A folder that is left over hides nothing, and what is in it has a line of its own.
        (Some(_), None) if !fact.folder => Verdict::InTheWay(Because::Removed),
        (_, None) if fact.folder => Verdict::Nothing,
        (Some(old), Some(_)) if old == fact && fact.folder && !matches!(here, Local::Opaque(_)) => {
            Verdict::Nothing
        }
        _ => Verdict::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fact(text: &str) -> Fact {
        Fact { folder: text.starts_with("folder"), digest: Digest::of(text.as_bytes()) }
    }

    fn facts(entries: &[(&str, &str)]) -> Files {
        entries.iter().map(|(path, text)| (path.as_bytes().to_vec(), Local::Here(fact(text)))).collect()
    }

    /// `-` stands for a deletion, `!` before a folder for an opaque one.
    fn told(
        old: &[(&str, &str)],
        new: &[(&str, &str)],
        upper: &[(&str, &str)],
    ) -> (Vec<String>, Vec<String>) {
        let upper = upper.iter().map(|(path, text)| {
            let local = match text.strip_prefix('!') {
                Some(folder) => Local::Opaque(fact(folder)),
                None if *text == "-" => Local::Deleted,
                None => Local::Here(fact(text)),
            };
            (path.as_bytes().to_vec(), local)
        });
        let (found, local) = compare(&facts(old), &facts(new), &upper.collect());
        let name = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
        let found = found.iter().map(|Found { path, because, by }| match by {
            Some(by) => format!("{} hidden by {}", name(path), name(by)),
            None => format!("{} {}", name(path), format!("{because:?}").to_lowercase()),
        });
        let mut found: Vec<String> = found.collect();
        found.sort();
        (found, local.iter().map(name).collect())
    }

    #[test]
    fn each_way_to_be_in_the_way_is_told_and_what_is_only_local_is_not() {
        let none: [(&str, &str); 0] = [];
        let one = |text| [("a", text)];
        for (old, new, upper, says) in [
            (&one("1")[..], &one("2")[..], "x", "a changed"),
            (&one("1"), &one("2"), "1", "a changed"),
            (&one("1"), &one("2"), "-", "a deleted"),
            (&none, &one("2"), "-", "a deleted"),
            (&none, &one("2"), "x", "a added"),
            (&one("1"), &none, "x", "a removed"),
            (&one("folder"), &one("2"), "folder", "a changed"),
            (&one("1"), &one("1"), "x", "local"),
            (&one("1"), &one("1"), "-", "local"),
            (&one("1"), &none, "-", "local"),
            (&none, &none, "x", "local"),
            (&one("1"), &one("2"), "2", ""),
            (&none, &one("2"), "2", ""),
            (&one("folder"), &one("folder"), "folder", ""),
            (&one("folder"), &none, "folder", ""),
            (&one("folder 0700"), &one("folder"), "folder 0700", "a changed"),
            (&one("folder"), &one("folder"), "folder 0700", "local"),
        ] {
            let (found, local) = told(old, new, &one(upper));
            let expected: Vec<&str> =
                [says].into_iter().filter(|says| !matches!(*says, "" | "local")).collect();
            assert_eq!(found, expected, "{old:?} {new:?} {upper}");
            assert_eq!(local.len(), usize::from(says == "local"), "{old:?} {new:?} {upper}");
        }
    }

    #[test]
    fn what_is_put_in_the_place_of_a_folder_hides_what_the_release_changes_in_it() {
        let old = [("d", "folder"), ("d/same", "1"), ("d/changed", "1"), ("d/mine", "1"), ("dd", "1")];
        let new = [
            ("d", "folder"),
            ("d/same", "1"),
            ("d/changed", "2"),
            ("d/mine", "2"),
            ("d/new", "1"),
            ("dd", "2"),
        ];
        for here in ["!folder", "-", "a file"] {
            let (found, _) = told(&old, &new, &[("d", here), ("d/mine", "x")]);
            let expected = ["d/changed hidden by d", "d/mine changed", "d/new hidden by d"];
            assert_eq!(found, expected, "{here}");
        }
        let (found, _) = told(&old, &new, &[("d", "folder"), ("d/mine", "x")]);
        assert_eq!(found, ["d/mine changed"], "a folder that is merged hides nothing");
    }

    /// What a host sees at a path: the upper layer's, or the image's unless something above hides it.
    fn seen(lower: &Files, upper: &Files, path: &[u8]) -> Option<Local> {
        let hides = |end: usize| {
            let here = upper.get(&path[..end]);
            here.is_some_and(|here| !matches!(here, Local::Here(Fact { folder: true, .. })))
        };
        match upper.get(path) {
            Some(Local::Deleted) => None,
            Some(Local::Opaque(fact) | Local::Here(fact)) => Some(Local::Here(*fact)),
            None if (0..path.len()).any(|end| path[end] == b'/' && hides(end)) => None,
            None => lower.get(path).copied(),
        }
    }

    proptest! {
        /// A file that the release changes and that the host does not see as the release has it is told, and no other.
        #[test]
        fn exactly_those_changes_are_told_that_a_host_would_not_see(
            old in proptest::collection::btree_map(0usize..8, 0usize..3, 0..8),
            new in proptest::collection::btree_map(0usize..8, 0usize..3, 0..8),
            here in proptest::collection::btree_map(0usize..8, 0usize..5, 0..6),
        ) {
            // Folders are folders in every image, so that the paths below them make sense.
            const PATHS: [&str; 8] = ["a", "b", "d", "d/1", "d/2", "d/e", "d/e/3", "d/e/4"];
            let is_folder = |path: usize| matches!(PATHS[path], "d" | "d/e");
            let image = |map: &BTreeMap<usize, usize>| -> Files {
                let text = |path, text: usize| Local::Here(if is_folder(path) { fact("folder") } else { fact(&text.to_string()) });
                let mut all: BTreeMap<_, _> =
                    map.iter().map(|(path, content)| (PATHS[*path].into(), text(*path, *content))).collect();
                all.insert(b"d".to_vec(), Local::Here(fact("folder")));
                all.insert(b"d/e".to_vec(), Local::Here(fact("folder")));
                all
            };
            let (old, new) = (image(&old), image(&new));
            let upper: Files = here.iter().map(|(path, kind)| {
                let local = match (kind, is_folder(*path)) {
                    (0, _) => Local::Deleted,
                    (1, true) => Local::Opaque(fact("folder")),
                    (_, true) => Local::Here(fact("folder")),
                    (kind, false) => Local::Here(fact(&(kind - 1).to_string())),
                };
                (PATHS[*path].into(), local)
            }).collect();
            let (found, _) = compare(&old, &new, &upper);
            let is_file = |here: &Local| matches!(here, Local::Here(Fact { folder: false, .. }));
            for (path, default) in new.iter().filter(|(_, here)| is_file(here)) {
                let is_changed = old.get(path) != Some(default);
                let is_hidden = seen(&new, &upper, path) != Some(*default);
                let told = found.iter().filter(|found| found.path == *path).count();
                prop_assert_eq!(told, usize::from(is_changed && is_hidden), "{:?}", path);
            }
        }
    }
}
