//! What the tree declares about the state of its hosts: read and checked while there is somebody who can mend it.

use upright_manifests::state::{Declarations, ENDING, FOLDER, MAX_FILE};

use super::failure;
use crate::repo::error::{Error, Result};
use crate::tree::{Contents, Kind, Tree};
use crate::uki;

/// The declarations; a line that hosts would not understand is refused.
pub(super) fn declared(tree: &Tree, contents: &dyn Contents) -> Result<Declarations> {
    let mut declared = Declarations::default();
    let folder = format!("{FOLDER}/");
    for (path, inode) in tree.paths.range(folder.clone().into_bytes()..) {
        let Some(name) = path.strip_prefix(folder.as_bytes()) else { break };
        if !name.ends_with(ENDING.as_bytes()) || name.contains(&b'/') {
            continue;
        }
        let shown = String::from_utf8_lossy(path);
        let refused = |what: &str| Err(Error::refused(format!("{shown}{what}")));
        match tree.inodes.get(*inode).map(|inode| &inode.kind) {
            Some(Kind::File(content)) if content.size <= MAX_FILE as u64 => {}
            Some(Kind::File(_)) => {
                return refused(&format!(" is longer than {MAX_FILE} bytes; hosts do not read it"));
            }
            _ => return refused(" is no regular file; hosts do not read it"),
        }
        let read = uki::read_file(tree, contents, &shown, MAX_FILE as u64).map_err(failure::uki)?;
        if let Some(bad) = declared.add(&read.unwrap_or_default()).first() {
            return refused(&format!(":{bad}; mend that line (docs/state.md has what may stand there)"));
        }
    }
    Ok(declared)
}
