//! Reading the firmware's variables.
//!
//! Source: Linux `Documentation/filesystems/efivarfs.rst`. A file is 4 bytes of attributes and the value.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How many bytes of attributes come before a value.
pub(crate) const ATTRIBUTES: usize = 4;

/// The value of the variable in the file at `path`, of which at most `limit` bytes are read, attributes included; none if there is
/// no such variable.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes.split_off(bytes.len().min(ATTRIBUTES))))
}
