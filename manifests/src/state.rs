//! What a release declares about the state of its hosts: the files in [`FOLDER`] of its image.
//!
//! ```text
//! # a comment
//! sticky /etc/localtime            follows the host from slot to slot, whichever runs
//! identity /etc/ssh/ssh_host_*     the same, and what a factory reset keeps if asked
//! accounts /etc/passwd             the same, line by line: users that only the image knows are added
//! versioned /var/lib/app           each slot has its own copy
//! ```
//!
//! A path is absolute and plain; `*` and `?` may stand in the last part of those that are sticky or identity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the declarations are in an image, in files that end in [`ENDING`].
pub const FOLDER: &str = "usr/lib/upright/state.d";

/// The end of their names.
pub const ENDING: &str = ".conf";

/// The largest such file, in bytes.
pub const MAX_FILE: usize = 64 << 10;

/// The most declarations that are used.
pub const MOST: usize = 1000;

/// The longest path, in bytes.
const MAX_PATH: usize = 1024;

/// The agent's own folder below `/var`, which belongs to no slot.
const OWN: &str = "lib/upright";

/// What is declared about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It follows the host.
    Sticky,
    /// It follows the host, and is what makes it this host.
    Identity,
    /// It follows the host, line by line.
    Accounts,
    /// Each slot has its own.
    Versioned,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declaration {
    /// What is declared.
    pub kind: Kind,
    /// The path below `/etc`, or below `/var` if it is versioned; no `/` at either end.
    pub path: String,
}

/// A line that says nothing that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.number, self.reason)
    }
}

/// All that an image declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declarations(Vec<Declaration>);

impl Declarations {
    /// Adds what a file says, and gives the lines that are bad.
    pub fn add(&mut self, file: &[u8]) -> Vec<BadLine> {
        let mut bad = Vec::new();
        for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            match parse_line(line) {
                Ok(Some(_)) if self.0.len() >= MOST => {
                    bad.push(BadLine { number, reason: "more declarations than are used" });
                    break;
                }
                Ok(declared) => self.0.extend(declared),
                Err(_) if bad.len() >= MOST => break,
                Err(reason) => bad.push(BadLine { number, reason }),
            }
        }
        bad
    }

    /// What is declared of this kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |declared| declared.kind == kind).map(|declared| declared.path.as_str())
    }

    /// The versioned paths below `/var`, none of which is in another.
    pub fn versioned(&self) -> Vec<String> {
        outermost(self.of(Kind::Versioned).map(str::to_owned))
    }

    /// How a path below `/etc` follows the host, if it does.
    pub fn follows(&self, path: &[u8]) -> Option<Kind> {
        let found = self
            .0
            .iter()
            .find(|declared| declared.kind != Kind::Versioned && covers(declared.path.as_bytes(), path));
        found.map(|declared| declared.kind)
    }
}

/// These paths without those that are in another of them, sorted.
pub fn outermost(paths: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in paths {
        if !found.iter().any(|other| is_within(&path, other)) {
            found.retain(|other| !is_within(other, &path));
            insert(&mut found, path);
        }
    }
    found
}

/// Puts a path where it belongs in a sorted list, once.
pub fn insert(sorted: &mut Vec<String>, path: String) {
    if let Err(at) = sorted.binary_search(&path) {
        sorted.insert(at, path);
    }
}

/// Whether `path` is `folder` or below it.
pub fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks the path below `/var` of a versioned path that was declared elsewhere than in such a file.
pub fn check_versioned(path: &str) -> Result<(), &'static str> {
    plain(path, "a path below /var is wanted").and_then(|()| not_own(path))
}

fn not_own(path: &str) -> Result<(), &'static str> {
    match is_within(path, OWN) || is_within(OWN, path) {
        true => Err("what the agent keeps in /var/lib/upright belongs to no slot"),
        false if path.contains(['*', '?']) => Err("a versioned path has no * or ?"),
        false => Ok(()),
    }
}

fn parse_line(line: &[u8]) -> Result<Option<Declaration>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (word, path) = line.split_once([' ', '\t']).ok_or("a word and a path are wanted")?;
    let kind = match word {
        "sticky" => Kind::Sticky,
        "identity" => Kind::Identity,
        "accounts" => Kind::Accounts,
        "versioned" => Kind::Versioned,
        _ => return Err("sticky, identity, accounts or versioned is wanted"),
    };
    let path = path.trim();
    let (top, wanted) = match kind {
        Kind::Versioned => ("/var/", "a path below /var is wanted"),
        _ => ("/etc/", "a path below /etc is wanted"),
    };
    let path = path.strip_prefix(top).ok_or(wanted)?;
    plain(path, wanted)?;
    let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
    match kind {
        Kind::Versioned => not_own(path)?,
        Kind::Accounts if path.contains(['*', '?']) => return Err("an accounts path has no * or ?"),
        _ if folder.contains(['*', '?']) => return Err("* and ? may stand in the last part only"),
        _ => {}
    }
    Ok(Some(Declaration { kind, path: path.to_owned() }))
}

/// Whether a path is neither empty nor leads out of its folder.
fn plain(path: &str, wanted: &'static str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err(wanted);
    }
    if path.len() > MAX_PATH {
        return Err("the path is too long");
    }
    if path.contains(char::is_control) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("the path is not plain: no //, . or .. in it, no / at its end, no control characters");
    }
    Ok(())
}

/// Whether a path is what a pattern names, or below it.
fn covers(pattern: &[u8], path: &[u8]) -> bool {
    let parts = |text: &[u8]| text.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (pattern, path) = (parts(pattern), parts(path));
    pattern.len() <= path.len() && pattern.iter().zip(&path).all(|(pattern, part)| matches(pattern, part))
}

/// Whether a name is what a pattern with `*` and `?` names. A `*` stands for a leading `.`, too.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where the last `*` was, and how much of the name it stands for: only that one needs to be tried again.
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    at = place + 1;
                    in_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Declarations, Vec<String>) {
        let mut declared = Declarations::default();
        let bad = declared.add(text.as_bytes()).iter().map(ToString::to_string).collect();
        (declared, bad)
    }

    #[test]
    fn a_file_says_what_follows_and_what_each_slot_has() {
        let (declared, bad) = read(
            "# users\n\naccounts /etc/shadow\n  identity\t/etc/ssh/ssh_host_*\nsticky /etc/Network Manager\n\
             versioned /var/lib/app/db\nversioned /var/lib/app\nversioned /var/lib/apple",
        );
        assert_eq!(bad, [""; 0]);
        assert_eq!(declared.versioned(), ["lib/app", "lib/apple"]);
        assert_eq!(declared.follows(b"shadow"), Some(Kind::Accounts));
        assert_eq!(declared.follows(b"ssh/ssh_host_rsa_key"), Some(Kind::Identity));
        assert_eq!(declared.follows(b"Network Manager/a/b"), Some(Kind::Sticky));
        for other in [&b"shadow-"[..], b"ssh/sshd_config", b"ssh", b"lib/app"] {
            assert_eq!(declared.follows(other), None);
        }
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        for (line, reason) in [
            ("sticky", "a word and a path are wanted"),
            ("stick /etc/a", "sticky, identity, accounts or versioned is wanted"),
            ("sticky /var/a", "a path below /etc is wanted"),
            ("sticky /etc/", "a path below /etc is wanted"),
            ("sticky etc/a", "a path below /etc is wanted"),
            ("versioned /etc/a", "a path below /var is wanted"),
            ("sticky /etc/a/../../b", "the path is not plain"),
            ("sticky /etc/a/", "the path is not plain"),
            ("sticky /etc//a", "the path is not plain"),
            ("sticky /etc/a\x07", "the path is not plain"),
            ("sticky /etc/*/b", "* and ? may stand in the last part only"),
            ("accounts /etc/pass*", "an accounts path has no * or ?"),
            ("versioned /var/lib/*", "a versioned path has no * or ?"),
            ("versioned /var/lib/upright/tuf", "what the agent keeps"),
            ("versioned /var/lib", "what the agent keeps"),
        ] {
            let (declared, bad) = read(&format!("# first\n{line}\nsticky /etc/good\n"));
            assert_eq!(bad.len(), 1, "{line}");
            assert!(bad[0].starts_with(&format!("2: {reason}")), "{line}: {bad:?}");
            assert_eq!(declared.follows(b"good"), Some(Kind::Sticky), "what is good counts");
        }
        let long = format!("sticky /etc/{}", "a".repeat(MAX_PATH + 1));
        assert_eq!(read(&long).1, ["1: the path is too long"]);
        assert_eq!(Declarations::default().add(b"sticky /etc/\xff")[0].reason, "not UTF-8");
        let many = "sticky /etc/a\n".repeat(MOST + 5);
        assert_eq!(read(&many).1, [format!("{}: more declarations than are used", MOST + 1)]);
    }

    #[test]
    fn a_pattern_names_what_a_shell_would() {
        for (pattern, name, is) in [
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*", "", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*a*b*", "xaxxbx", true),
            ("*a*b*", "xbxxax", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
        // Work in proportion to the lengths' product, and not exponential.
        let (stars, long) = ("*a".repeat(500), "a".repeat(5000) + "b");
        assert!(!matches(stars.as_bytes(), long.as_bytes()));
    }
}
