//! Makes the C library give memory back when it is freed.
//!
//! glibc keeps what is freed for later, for each thread, and once a block of some MiB was freed it keeps blocks up to that length,
//! too: what compressors and decompressors took one after the other would stand beside each other in the end. How it is to
//! behave is read from the environment when a program starts (glibc's manual, "Memory Allocation Tunables"), also by a static one,
//! or set by `mallopt`, which is not for safe code.
//!
//! So the program starts itself anew. `Environment=` in the unit would do for the service, but not for an operator's
//! `upright update`, which has the same bounds. Nothing is open, locked or running yet, and the process stays the same one: its number,
//! which systemd knows it by, its standard streams and its arguments. It happens once: what marks it is a variable of our own, because
//! the loader drops glibc's where privileges change (`AT_SECURE`). Where it cannot be done, the update takes more memory.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What glibc reads.
pub const TUNABLES: &str = "GLIBC_TUNABLES";

/// Set for the program that was started anew: it is not to do so again, whatever became of the other variable.
pub const STARTED: &str = "UPRIGHT_STARTED";

/// Blocks from 128 KiB on are mapped for themselves, whatever was freed before; in large pages where the kernel has some, which
/// the tables of compressors are searched faster in.
const MAPPED: &str = "glibc.malloc.mmap_threshold=131072:glibc.malloc.hugetlb=1";

/// Starts the program anew in its own place, with the same arguments, so that it gives memory back. Returns if that is done, or
/// the environment says otherwise, or it cannot be done.
pub fn give_back() {
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set(STARTED) || is_set(TUNABLES) {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let Ok(program) = std::env::current_exe() else { return };
    let error = Command::new(program)
        .arg0(name.as_deref().unwrap_or(OsStr::new("upright")))
        .args(arguments)
        .env(TUNABLES, MAPPED)
        .env(STARTED, "1")
        .exec();
    tracing::debug!("cannot start anew: {error}; this takes more memory");
}
