//! The firmware's variables: Linux's efivarfs.
//!
//! Source: Linux `Documentation/filesystems/efivarfs.rst`. A file is 4 bytes of attributes and the value, and is written by one call
//! of `write`, which is one `SetVariable`. Those that are used here may be changed without taking an immutable flag away.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use upright_manifests::boot::load_option::MAX_OPTION;

use crate::boot::esp::in_path;
use crate::efivars;

/// `EFI_GLOBAL_VARIABLE`.
const VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Kept without power, seen by boot loaders and by a running system.
const ATTRIBUTES: [u8; efivars::ATTRIBUTES] = [7, 0, 0, 0];

/// The global variables.
pub(in crate::boot) trait Variables {
    /// A variable's value.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Sets a variable, in one step.
    fn set(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Removes a variable.
    fn delete(&self, name: &str) -> io::Result<()>;
    /// The numbers of all boot options.
    fn options(&self) -> io::Result<Vec<u16>>;
}

/// efivarfs, mounted at a folder.
#[derive(Debug)]
pub(in crate::boot) struct Efivarfs(PathBuf);

impl Efivarfs {
    /// The one that is mounted at `folder`.
    pub(in crate::boot) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}-{VENDOR}"))
    }
}

impl Variables for Efivarfs {
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        efivars::read(&path, ATTRIBUTES.len() + MAX_OPTION)
            .map_err(|error| in_path("cannot read", &path, &error))
    }

    fn set(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let bytes = [&ATTRIBUTES, value].concat();
        let set = || {
            let mut variable = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            match variable.write(&bytes)? {
                written if written == bytes.len() => Ok(()),
                _ => Err(io::Error::from(io::ErrorKind::WriteZero)),
            }
        };
        set().map_err(|error: io::Error| in_path("cannot set", &path, &error))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(in_path("cannot remove", &path, &error))
            }
            _ => Ok(()),
        }
    }

    fn options(&self) -> io::Result<Vec<u16>> {
        let listed = fs::read_dir(&self.0).map_err(|error| in_path("cannot list", &self.0, &error))?;
        let mut numbers = Vec::new();
        for entry in listed {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The number of a boot option's file.
fn number(file: &str) -> Option<u16> {
    let digits = file.strip_suffix(VENDOR)?.strip_suffix('-')?.strip_prefix("Boot")?;
    let valid = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    u16::from_str_radix(digits, 16).ok().filter(|_| valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_its_attributes_and_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let variables = Efivarfs::new(folder.path());
        assert_eq!(variables.get("BootNext").unwrap(), None);
        variables.set("BootNext", &[3, 0]).unwrap();
        let file = folder.path().join("BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        assert_eq!(fs::read(file).unwrap(), [7, 0, 0, 0, 3, 0]);
        assert_eq!(variables.get("BootNext").unwrap(), Some(vec![3, 0]));
        variables.delete("BootNext").unwrap();
        variables.delete("BootNext").unwrap();
        for name in ["Boot0001", "Boot00AF", "Boot00af", "BootOrder", "Boot12345"] {
            variables.set(name, &[]).unwrap();
        }
        assert_eq!(variables.options().unwrap(), [1, 0xaf]);
    }
}
