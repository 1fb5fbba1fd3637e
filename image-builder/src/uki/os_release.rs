//! The os-release of a UKI: the tree's, with the release's identity.
//!
//! systemd-boot sorts UKIs by `IMAGE_ID`, then by `IMAGE_VERSION`, newest first
//! (`bootspec_pick_name_version_sort_key`), and keeps the first of two equal keys out of its sight: each is set once, here.

use std::fmt::Write as _;
use std::io::Read;

use upright_manifests::name::OsName;
use upright_manifests::pe::MAX_TEXT;
use upright_manifests::version::Version;

use super::UkiError;
use super::find::{lookup, shown};
use crate::tree::{Contents, Tree};

/// Where os-release(5) says the file is; the first one that exists counts.
const PATHS: [&[u8]; 2] = [b"etc/os-release", b"usr/lib/os-release"];

/// The text of the `.osrel` section.
pub(super) fn compose(
    tree: &Tree,
    contents: &dyn Contents,
    os: &OsName,
    version: &Version,
) -> Result<String, UkiError> {
    let Some((path, text)) = read(tree, contents)? else {
        return Ok(with_identity(&format!("ID={os}\nNAME={os}\n"), os, version));
    };
    match image_id(&text).filter(|id| *id != os.as_str()) {
        None => Ok(with_identity(&text, os, version)),
        Some(id) => {
            let found = id.chars().take(80).collect::<String>().escape_debug().to_string();
            Err(UkiError::OtherOs { path, found, os: os.clone() })
        }
    }
}

/// The identity that the tree has already, if it has one. `ID` is another matter: images are often named otherwise than the
/// distribution that they are made of.
fn image_id(text: &str) -> Option<&str> {
    // As in a shell, the last one counts.
    let value = text.lines().rev().find_map(|line| line.strip_prefix("IMAGE_ID="))?;
    Some(value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

fn with_identity(text: &str, os: &OsName, version: &Version) -> String {
    let is_ours = |line: &&str| line.starts_with("IMAGE_ID=") || line.starts_with("IMAGE_VERSION=");
    let mut result = String::new();
    text.lines().filter(|line| !is_ours(line)).for_each(|line| result.extend([line, "\n"]));
    // Writing to a String cannot fail. Versions may hold `~`, which os-release wants quoted.
    let _ = write!(result, "IMAGE_ID={os}\nIMAGE_VERSION=\"{version}\"\n");
    result
}

/// The file's path and text.
fn read(tree: &Tree, contents: &dyn Contents) -> Result<Option<(String, String)>, UkiError> {
    let Some((path, content)) = PATHS.iter().find_map(|path| lookup(tree, path)) else { return Ok(None) };
    let unusable = |reason: &str| UkiError::OsRelease { path: shown(&path), reason: reason.to_owned() };
    if content.size > MAX_TEXT / 2 {
        return Err(unusable(&format!(
            "it has {} bytes, more than the {} allowed",
            content.size,
            MAX_TEXT / 2
        )));
    }
    let reading = |source| UkiError::Content { path: shown(&path), source };
    let mut text = String::new();
    match contents.open(&content).map_err(reading)?.take(content.size).read_to_string(&mut text) {
        Ok(_) => Ok(Some((shown(&path), text))),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(unusable("it is not UTF-8")),
        Err(error) => Err(reading(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_is_set_is_found_as_a_shell_would() {
        for (text, found) in [
            ("ID=debian\n", None),
            ("IMAGE_ID=\n", None),
            ("IMAGE_ID=acme\n", Some("acme")),
            ("IMAGE_ID=a\nIMAGE_ID=\"acme\" \n", Some("acme")),
            ("MY_IMAGE_ID=other\n#IMAGE_ID=x\nIMAGE_ID='acme'", Some("acme")),
        ] {
            assert_eq!(image_id(text), found, "{text}");
        }
    }

    #[test]
    fn the_releases_identity_replaces_the_trees() {
        let text = "NAME=\"Acme\"\nIMAGE_ID=other\nID=acme\nIMAGE_VERSION=7";
        let (os, version) = ("acme".parse().unwrap(), "1.0~rc1".parse().unwrap());
        let expected = "NAME=\"Acme\"\nID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=\"1.0~rc1\"\n";
        assert_eq!(with_identity(text, &os, &version), expected);
    }
}
