//! Reading and writing the commands' files.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::envelope::{Envelope, MAX_BYTES};
use crate::key_pair::{KeyPair, sync_parent};
use crate::passphrase::PassphraseSource;

/// The whole of a file, or of standard input for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limited = if path == "-" {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    limited.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{} has more than {MAX_BYTES} bytes", path.display());
    Ok(bytes)
}

/// A document to sign.
pub(super) fn read_document(path: &Path) -> anyhow::Result<Envelope> {
    Envelope::parse(&read(path)?).with_context(|| path.display().to_string())
}

/// Writes to standard output. A reader that went away, such as `head`, is not an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody can be told that this failed.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a file whole or not at all, durably; to standard output for `-`. A link that somebody left where it is written
/// aside is not followed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path == "-" {
        return io::stdout().write_all(bytes).context("cannot write to standard output");
    }
    let mut name: OsString = path.file_name().context("the output has no file name")?.to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let written = || -> io::Result<()> {
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_parent(path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// Loads key files. There is one passphrase for all of them, or one for each in their order.
pub(super) fn load_keys(paths: &[PathBuf], sources: &[PassphraseSource]) -> anyhow::Result<Vec<KeyPair>> {
    let passphrases = sources.iter().map(PassphraseSource::read).collect::<Result<Vec<_>, _>>()?;
    if passphrases.len() > 1 && passphrases.len() != paths.len() {
        bail!("{} passphrases for {} keys: give one for all or one for each", passphrases.len(), paths.len());
    }
    let passphrase = |i: usize| passphrases.get(i).or(passphrases.first());
    let load = |(i, path): (usize, &PathBuf)| Ok(KeyPair::load(path, passphrase(i))?);
    paths.iter().enumerate().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_beside_the_output_leads_no_write_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let [path, aside, precious] = ["out", "out.new", "precious"].map(|name| folder.path().join(name));
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &aside).unwrap();
        write(&path, b"bytes").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
    }
}
