//! File names, target paths, and the patterns that delegate them.

use super::limits;
use super::schema::{DelegatedRole, Hashes, TOP_LEVEL};
use crate::digest::Digest;

/// Whether a delegated role may have this name: not empty, not a top-level role's, and short enough to
/// be a file name once escaped.
pub(super) fn is_role_name(name: &str) -> bool {
    !name.is_empty() && !TOP_LEVEL.contains(&name) && escape(name).len() <= limits::ROLE_NAME
}

/// A role's name in file names and addresses: all but `A-Z a-z 0-9 - . _ ~` as `%XX` (RFC 3986, section
/// 2.3), so that no name leads to another folder, carries a query or ends a path.
pub fn escape(role: &str) -> String {
    let mut escaped = String::with_capacity(role.len());
    for byte in role.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The name under which a host keeps a role's document: `<role>.json`, escaped.
pub fn stored_name(role: &str) -> String {
    format!("{}.json", escape(role))
}

/// The name under which a repository serves a role's document: `<version>.<role>.json` where it carries its
/// version (always for root, never for timestamp), escaped.
pub fn served_name(role: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{version}.{}", stored_name(role)),
        None => stored_name(role),
    }
}

/// The role, escaped, whose document a file of one of these names is.
pub(super) fn role_of(document: &str) -> Option<&str> {
    let name = document.strip_suffix(".json")?;
    let version = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Some(name.split_once('.').filter(|(first, _)| version(first)).map_or(name, |(_, role)| role))
}

/// Whether a role is one that targets delegates to.
pub fn is_delegated(role: &str) -> bool {
    !TOP_LEVEL.contains(&role)
}

/// What a publisher's configuration calls a role: a team's name follows those of OS and architecture, which have no dots.
pub fn short(role: &str) -> &str {
    role.splitn(3, '.').nth(2).unwrap_or(role)
}

/// Where a repository serves a target: under a consistent snapshot `<folder>/<hash>.<name>`, else at
/// the target path itself (section 5.7.3). None when there is no usable hash.
pub fn fetch_path(target: &str, hashes: &Hashes, consistent_snapshot: bool) -> Option<String> {
    if !consistent_snapshot {
        return Some(target.to_owned());
    }
    let hash = hashes.prefix()?;
    Some(match target.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{hash}.{name}"),
        None => format!("{hash}.{target}"),
    })
}

/// Whether `role` is asked for `target`: one of its patterns or hash prefixes matches (section 4.5).
pub(super) fn speaks_for(role: &DelegatedRole, target: &str) -> bool {
    if let Some(patterns) = &role.paths {
        return patterns.iter().any(|pattern| matches(pattern, target));
    }
    let digest = Digest::of(target.as_bytes()).to_string();
    role.path_hash_prefixes.iter().flatten().any(|prefix| digest.starts_with(prefix.as_str()))
}

/// Whether a target path matches a pattern part by part: `*` stands for any run of characters in a part, `?`
/// for one character, `[..]` for one of a set; none of them for `/` (section 4.5, as glob(7)).
pub(super) fn matches(pattern: &str, target: &str) -> bool {
    let (patterns, parts): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), target.split('/').collect());
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(p, t)| matches_part(p, t))
}

/// Tries the last `*` again with one character more whenever the rest does not fit: quadratic at worst.
fn matches_part(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = matches_one(&pattern[p..], text[t]) {
            (p, t) = (p + length, t + 1);
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            (p, t) = (after_star, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for the one character `c`; none if it does not.
fn matches_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((length, members, negated)) => (contains(members, c) != negated).then_some(length),
            // A bracket that is never closed stands for itself.
            None => (c == '[').then_some(1),
        },
        own => (*own == c).then_some(1),
    }
}

/// The set that `[..]` at the start of the pattern spells: its length, its members, whether it is negated.
fn set(pattern: &[char]) -> Option<(usize, &[char], bool)> {
    let negated = pattern.get(1) == Some(&'!');
    let start = if negated { 2 } else { 1 };
    // A `]` that comes first is a member.
    let end = (start + 1..pattern.len()).find(|i| pattern[*i] == ']')?;
    Some((end + 1, &pattern[start..end], negated))
}

fn contains(members: &[char], c: char) -> bool {
    let mut rest = members;
    while let [first, tail @ ..] = rest {
        match tail {
            ['-', last, after @ ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                rest = after;
            }
            _ => {
                if *first == c {
                    return true;
                }
                rest = tail;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_within_the_parts_of_a_path() {
        for (pattern, target, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("", "", true),
            ("*.doc", "x.doc", true),
            ("*.doc", "x/y.doc", false),
            ("releases/*/*", "releases/x/y", true),
            ("releases/*/*", "releases/x", false),
            ("foo-?.tgz", "foo-1.tgz", true),
            ("foo-?.tgz", "foo-12.tgz", false),
            ("foo-?.tgz", "foo-.tgz", false),
            ("*.md", "README.MD", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "abc", true),
            ("[a-c]x[!0-9]", "bxy", true),
            ("[a-c]x[!0-9]", "bx1", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("é?", "éü", true),
        ] {
            assert_eq!(matches(pattern, target), expected, "{pattern} {target}");
        }
    }

    #[test]
    fn no_role_name_leads_out_of_its_folder() {
        assert_eq!(stored_name("../../etc/x"), "..%2F..%2Fetc%2Fx.json");
        assert_eq!(served_name("?#%", Some(3)), "3.%3F%23%25.json");
        assert_eq!(escape("é\n"), "%C3%A9%0A");
        for bad in ["", "root", "timestamp", &"/".repeat(67)] {
            assert!(!is_role_name(bad), "{bad}");
        }
        assert!(is_role_name(&"/".repeat(66)));
    }

    #[test]
    fn a_document_tells_its_role_and_how_that_is_signed_anew() {
        use super::super::refresh_command;
        for (document, role, command) in [
            ("timestamp.json", "timestamp", "upright-build refresh"),
            ("12.root.json", "root", "upright-build refresh --role root"),
            ("targets.json", "targets", "upright-build refresh --role targets"),
            ("3.acme.x86-64.beta.json", "acme.x86-64.beta", "upright-build refresh --role beta"),
        ] {
            assert_eq!(role_of(document), Some(role));
            assert_eq!(refresh_command(role_of(document)), command);
        }
        assert_eq!(role_of("channels/acme"), None);
        assert_eq!(
            refresh_command(["timestamp", "root", "targets"]),
            "upright-build refresh --role root --role targets"
        );
    }

    #[test]
    fn the_hash_goes_before_the_file_name() {
        let hashes = Hashes([("sha256".to_owned(), "ab".to_owned())].into());
        assert_eq!(fetch_path("a/b/c.json", &hashes, true).as_deref(), Some("a/b/ab.c.json"));
        assert_eq!(fetch_path("c.json", &hashes, true).as_deref(), Some("ab.c.json"));
        assert_eq!(fetch_path("a/c.json", &hashes, false).as_deref(), Some("a/c.json"));
        let evil = Hashes([("sha256".to_owned(), "../x".to_owned())].into());
        assert_eq!(fetch_path("c.json", &evil, true), None);
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_itself_alone(text in "[a-c/.]{0,9}", other in "[a-c/.]{0,9}") {
            prop_assert_eq!(matches(&text, &other), text == other);
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in "[\\[\\]!a*?/-]{0,12}", text in "[\\[\\]!a/-]{0,12}") {
            let _ = matches(&pattern, &text);
        }
    }
}
