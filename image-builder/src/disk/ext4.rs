//! The state partition: an ext4 file system with the folders that a first boot needs.
//!
//! e2fsprogs takes the time it writes everywhere from `E2FSPROGS_FAKE_TIME`; with the UUIDs given, its output is
//! the same on every run. The features are named, since a machine's `mke2fs.conf` would choose them otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use super::sparse::Target;
use super::{DiskError, Plan, disk_uuid};
use crate::tools::Tool;

const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// The agent's state is nobody else's business.
const FOLDERS: &str = "mkdir lib\nmkdir lib/upright\nset_inode_field lib/upright mode 040700\n";

/// The smallest file system that has a journal and room for anything, in bytes.
const MIN_SIZE: u64 = 16 << 20;

/// Writes the state partition at `offset`.
pub(super) fn write(plan: &Plan<'_>, target: Target<'_>, offset: u64) -> Result<(), DiskError> {
    let size = plan.sizes.var;
    if size < MIN_SIZE {
        return Err(DiskError::Size { label: "var", size, expected: "16MiB or more" });
    }
    let beside = |kind: &str| {
        let mut name = target.path.as_os_str().to_owned();
        name.push(kind);
        PathBuf::from(name)
    };
    let (image, script) = (beside(".var"), beside(".script"));
    let made = make(plan, size, &image, &script).and_then(|()| target.copy(&image, offset, |_| Ok(())));
    for scratch in [&image, &script] {
        // Missing if making it failed, and that is what counts.
        let _ = fs::remove_file(scratch);
    }
    made.map(|_| ())
}

fn make(plan: &Plan<'_>, size: u64, image: &Path, script: &Path) -> Result<(), DiskError> {
    // Time 0 would mean "now".
    let seconds = plan.time.as_second().max(1).to_string();
    let environment = [("E2FSPROGS_FAKE_TIME", seconds.as_str()), ("MKE2FS_CONFIG", "/dev/null")];
    let uuid = disk_uuid(plan, "var file system").to_string();
    let extended =
        format!("hash_seed={},root_owner=0:0,lazy_itable_init=0,nodiscard", disk_uuid(plan, "var hash seed"));
    let blocks = (size / 4096).to_string();
    let options = ["-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-e", "remount-ro"];
    let more = ["-L", "var", "-O", FEATURES, "-U", &uuid, "-E", &extended];
    let arguments = options.into_iter().chain(more).map(AsRef::as_ref);
    Tool::Mke2fs.run(arguments.chain([image.as_os_str(), blocks.as_ref()]), &environment)?;
    fs::write(script, FOLDERS).map_err(|source| DiskError::Write { path: script.to_owned(), source })?;
    let arguments = ["-w".as_ref(), "-f".as_ref(), script.as_os_str(), image.as_os_str()];
    Tool::Debugfs.run(arguments, &environment)?;
    Ok(())
}
