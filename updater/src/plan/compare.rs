//! Compares what was changed in `/etc` with what a release has there, file by file.

use std::collections::BTreeMap;

use serde::Serialize;
use upright_manifests::digest::Digest;

/// A path below `/etc`.
type Path = Vec<u8>;

/// What a path is, but for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Whether it is a folder.
    pub folder: bool,
    /// Type, permissions, owner, and a file's or link's content.
    pub digest: Digest,
}

/// What the upper layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// It was deleted.
    Deleted,
    /// A folder that hides what the image has in it.
    Opaque(Fact),
    /// Something else; a folder is there together with what the image has in it.
    Here(Fact),
}

/// How a local change and a release get in each other's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
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
    Hidden {
        /// What hides it, below `/etc`.
        by: String,
    },
}

/// A local change in the way of a changed default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// How.
    #[serde(flatten)]
    pub because: Because,
}

/// What `upper` hides of the changes from the defaults `old` to `new`, by path; and the other changes that are only local.
pub fn compare(
    old: &BTreeMap<Path, Fact>,
    new: &BTreeMap<Path, Fact>,
    upper: &BTreeMap<Path, Local>,
) -> (BTreeMap<Path, Because>, Vec<Path>) {
    let (mut found, mut local) = (BTreeMap::new(), Vec::new());
    for (path, here) in upper {
        match verdict(*here, old.get(path).copied(), new.get(path).copied()) {
            Verdict::InTheWay(because) => drop(found.insert(path.clone(), because)),
            Verdict::Local => local.push(path.clone()),
            Verdict::Nothing => {}
        }
        if matches!(here, Local::Here(Fact { folder: true, .. })) {
            continue;
        }
        // Whatever is there instead of the release's folder hides all of it.
        let below = [path.as_slice(), b"/"].concat();
        let hidden = new.range(below.clone()..).take_while(|(other, _)| other.starts_with(&below));
        for (other, fact) in hidden.filter(|(other, fact)| old.get(*other) != Some(*fact)) {
            if !upper.contains_key(other) && !fact.folder {
                let by = String::from_utf8_lossy(path).into_owned();
                found.entry(other.clone()).or_insert(Because::Hidden { by });
            }
        }
    }
    (found, local)
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

    fn facts(entries: &[(&str, &str)]) -> BTreeMap<Path, Fact> {
        entries.iter().map(|(path, text)| (path.as_bytes().to_vec(), fact(text))).collect()
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
        let name = |path: &Path| String::from_utf8(path.clone()).unwrap();
        let found = found.iter().map(|(path, because)| match because {
            Because::Hidden { by } => format!("{} hidden by {by}", name(path)),
            because => format!("{} {}", name(path), format!("{because:?}").to_lowercase()),
        });
        (found.collect(), local.iter().map(name).collect())
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
    fn seen(lower: &BTreeMap<Path, Fact>, upper: &BTreeMap<Path, Local>, path: &Path) -> Option<Fact> {
        let hides = |end: usize| {
            let here = upper.get(&path[..end]);
            here.is_some_and(|here| !matches!(here, Local::Here(Fact { folder: true, .. })))
        };
        match upper.get(path) {
            Some(Local::Deleted) => None,
            Some(Local::Opaque(fact) | Local::Here(fact)) => Some(*fact),
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
            let image = |map: &BTreeMap<usize, usize>| -> BTreeMap<Path, Fact> {
                let text = |path, text: usize| if is_folder(path) { fact("folder") } else { fact(&text.to_string()) };
                let mut all: BTreeMap<_, _> =
                    map.iter().map(|(path, content)| (PATHS[*path].into(), text(*path, *content))).collect();
                all.insert(b"d".to_vec(), fact("folder"));
                all.insert(b"d/e".to_vec(), fact("folder"));
                all
            };
            let (old, new) = (image(&old), image(&new));
            let upper: BTreeMap<Path, Local> = here.iter().map(|(path, kind)| {
                let local = match (kind, is_folder(*path)) {
                    (0, _) => Local::Deleted,
                    (1, true) => Local::Opaque(fact("folder")),
                    (_, true) => Local::Here(fact("folder")),
                    (kind, false) => Local::Here(fact(&(kind - 1).to_string())),
                };
                (PATHS[*path].into(), local)
            }).collect();
            let (found, _) = compare(&old, &new, &upper);
            for (path, default) in new.iter().filter(|(_, fact)| !fact.folder) {
                let is_changed = old.get(path) != Some(default);
                let is_hidden = seen(&new, &upper, path) != Some(*default);
                prop_assert_eq!(found.contains_key(path), is_changed && is_hidden, "{:?}", path);
            }
        }
    }
}
