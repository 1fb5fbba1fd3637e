//! Results that stay true as long as what they were measured on stays the same.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use upright_manifests::digest::{Digest, Digester};

/// A folder of results, each with the hash of what decided it: command lines, programs and input.
#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    inputs: Digest,
    result: T,
}

impl Kept {
    /// The results in `folder`, which is made when it is needed.
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The result called `name`, if the last one was of the same `inputs`; a new one otherwise.
    pub(super) fn or<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        inputs: &[String],
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let path = self.0.join(format!("{name}.json"));
        let inputs = Digest::of(inputs.join("\n").as_bytes());
        if let Some(result) = read(&path, inputs) {
            return Ok(result);
        }
        let result = make()?;
        let entry = Entry { inputs, result };
        fs::create_dir_all(&self.0).with_context(|| format!("making {}", self.0.display()))?;
        let bytes = serde_json::to_vec_pretty(&entry)?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(entry.result)
    }

    /// Drops the result called `name`: what it told of is no longer there.
    pub(super) fn forget(&self, name: &str) -> Result<()> {
        let path = self.0.join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// A result that cannot be read, or is of something else, is none.
fn read<T: DeserializeOwned>(path: &Path, inputs: Digest) -> Option<T> {
    let entry: Entry<T> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (entry.inputs == inputs).then_some(entry.result)
}

/// The SHA-256 of the first `size` bytes of a file, or of all of it.
pub(super) fn sha256(path: &Path, size: Option<u64>) -> Result<Digest> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut file = file.take(size.unwrap_or(u64::MAX));
    let mut digester = Digester::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))? {
            0 => return Ok(digester.finish()),
            count => digester.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_until_its_inputs_change() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(&folder.path().join("results"));
        let get = |input: &str, new| kept.or("it", &[input.to_owned()], || Ok::<u64, _>(new)).unwrap();
        assert_eq!(get("a", 1), 1);
        assert_eq!(get("a", 2), 1);
        assert_eq!(get("b", 3), 3);
        assert_eq!(get("a", 4), 4);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        assert!(kept.or("it", &[], || Err::<u64, _>(anyhow::anyhow!("no"))).is_err());
        assert_eq!(kept.or("it", &[], || Ok::<u64, _>(1)).unwrap(), 1);
    }
}
