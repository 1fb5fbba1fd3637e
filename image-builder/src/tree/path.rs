//! Paths inside a tree: from an archive's spelling to a [`TreePath`], apart, and for people.

use super::TreePath;

/// The longest name of a file, in bytes (Linux `NAME_MAX`, and EROFS).
pub const MAX_NAME: usize = 255;

/// The longest path inside a tree, in bytes: what Linux can open in one go (`PATH_MAX`), which bounds its depth too.
pub const MAX_PATH: usize = 4095;

/// The longest target of a symbolic link, in bytes (Linux `PATH_MAX` without its NUL).
pub const MAX_TARGET: usize = 4095;

/// Why bytes are not a path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It starts at the root of a host.
    #[error("{0} is absolute: archive it with relative paths, for instance with tar -C TREE .")]
    Absolute(String),
    /// It climbs out of its directory.
    #[error("{0} has a .. part, which could lead out of the tree: archive it with plain relative paths")]
    ParentPart(String),
    /// It has a NUL, which no file system can hold.
    #[error("{0} has a NUL byte")]
    Nul(String),
    /// A part of it is longer than a name may be.
    #[error("{0} has a part of more than 255 bytes")]
    LongName(String),
    /// It is longer than a path may be.
    #[error("{0} has more than 4095 bytes")]
    LongPath(String),
}

/// The path that an archive spells `raw`: without `./`, `//` and a trailing `/`; the root is empty.
pub fn parse(raw: &[u8]) -> Result<TreePath, PathError> {
    if raw.starts_with(b"/") {
        return Err(PathError::Absolute(show(raw)));
    }
    let mut path = TreePath::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(PathError::ParentPart(show(raw))),
            _ if part.contains(&0) => return Err(PathError::Nul(show(raw))),
            _ if part.len() > MAX_NAME => return Err(PathError::LongName(show(raw))),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() > MAX_PATH {
        return Err(PathError::LongPath(show(raw)));
    }
    Ok(path)
}

/// The directory that holds `path`, or nothing for the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() { None } else { Some(split(path).0) }
}

/// `path` as its directory and its name; both are empty for the root.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `path` for people, with a leading `/`: one line, at most about 300 characters, `\xNN` for what is not text.
pub fn display(path: &[u8]) -> String {
    format!("/{}", show(path))
}

/// `bytes` as text on one line, with `\xNN` for what is neither UTF-8 nor printable.
pub(crate) fn show(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                _ if letter.is_control() => text.extend(letter.escape_default()),
                _ => text.push(letter),
            }
            if text.len() > MOST {
                return text + "...";
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_archives_become_paths() {
        for (raw, path) in [
            (&b"./"[..], &b""[..]),
            (b".", b""),
            (b"", b""),
            (b"./usr//bin/", b"usr/bin"),
            (b"usr/./bin", b"usr/bin"),
            (b"caf\xe9", b"caf\xe9"),
            (b"...", b"..."),
        ] {
            assert_eq!(parse(raw).as_deref(), Ok(path));
        }
    }

    #[test]
    fn what_could_leave_the_tree_is_refused() {
        let long = vec![b'a'; MAX_NAME + 1];
        let refusals: Vec<String> = [&b"/etc/passwd"[..], b"a/../../b", b"..", b"a\0b", &long]
            .iter()
            .map(|raw| parse(raw).expect_err("refused").to_string())
            .collect();
        assert_eq!(
            refusals[0],
            "/etc/passwd is absolute: archive it with relative paths, for instance with tar -C TREE ."
        );
        assert_eq!(
            refusals[1],
            "a/../../b has a .. part, which could lead out of the tree: archive it with plain relative paths"
        );
        assert_eq!(
            refusals[2],
            ".. has a .. part, which could lead out of the tree: archive it with plain relative paths"
        );
        assert_eq!(refusals[3], "a\\u{0}b has a NUL byte");
        assert!(refusals[4].ends_with("aaa has a part of more than 255 bytes"));
        assert!(parse(&long[1..]).is_ok());
        assert!(parse(&b"a/".repeat(2048)).is_ok());
        let deep = parse(&b"a/".repeat(2049)).expect_err("refused").to_string();
        assert!(deep.ends_with("/a... has more than 4095 bytes"), "{deep}");
    }

    #[test]
    fn paths_are_shown_on_one_line() {
        assert_eq!(display(b"a\nb\xff\\"), "/a\\nb\\xff\\\\");
        assert_eq!(display("é".as_bytes()), "/é");
    }

    #[test]
    fn splitting() {
        assert_eq!(split(b"usr/bin/sh"), (&b"usr/bin"[..], &b"sh"[..]));
        assert_eq!(split(b"usr"), (&b""[..], &b"usr"[..]));
        assert_eq!(parent(b"usr"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
    }
}
