//! What Debian has for the same job, each as command lines that a shell runs.
//!
//! A peer works on the uncompressed EROFS images that `mkfs.erofs` makes of the trees, on the trees themselves (OSTree), or
//! on kernel and initrd alone where it cannot hold more in memory (bsdiff). The clock starts where its publisher would have
//! to do something for the new release, and ends where its host has the new release.

mod bytes;
mod proof;
mod table;

use std::fs;
use std::io;

use anyhow::{Context, Result, ensure};

use super::delta_row::{DeltaRow, Measured};
use super::images::Images;
use super::kept::Kept;
use super::measure::Shell;
use super::pair::Pair;
use super::trees::Trees;

use table::PEERS;

/// How a peer makes and applies an update. In its command lines, `{old}`, `{new}` and `{pair}` are filled in; applying makes
/// `out`.
pub(super) struct Peer {
    /// Its name in the tables.
    pub(super) name: &'static str,
    /// What is there on the publisher's and the host's side before; not measured.
    prepare: &'static [&'static str],
    /// Makes the update.
    make: &'static str,
    /// Applies it.
    apply: &'static str,
    /// How many bytes the host fetches.
    bytes: fn(&Shell, Pair) -> Result<u64>,
    /// Whether what it made is what it should have made.
    proof: fn(&Shell, Pair) -> Result<bool>,
    /// Whether it updates the whole system; what does not stands apart.
    whole: bool,
    /// What to know when reading its numbers.
    note: &'static str,
}

/// Whether a method, ours or a peer's, updates the whole system.
pub(super) fn is_whole(method: &str) -> bool {
    PEERS.iter().all(|peer| peer.name != method || peer.whole)
}

impl Peer {
    /// The peers with these names; `all` and `none` are names too.
    pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Self>> {
        let is = |name: &str| names.iter().any(|given| given == name);
        let known = |name: &&String| {
            ["all", "none"].contains(&name.as_str()) || PEERS.iter().any(|peer| peer.name == **name)
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let all: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            anyhow::bail!("there is no peer {unknown:?}; there are all, none, {}", all.join(", "));
        }
        Ok(PEERS.iter().filter(|peer| is("all") || is(peer.name)).collect())
    }

    /// Makes and applies the update of a pair, once for each version of what decides the outcome.
    pub(super) fn measure(
        &self,
        shell: &Shell,
        trees: &Trees,
        images: &Images<'_>,
        kept: &Kept,
        pair: Pair,
    ) -> Result<Measured> {
        let lines = self.prepare.iter().chain([&self.make, &self.apply]);
        let mut inputs = vec![trees.hash(pair.old)?.to_string(), trees.hash(pair.new)?.to_string()];
        inputs.extend(lines.map(|line| pair.fill(line)));
        kept.or(&format!("{pair}-{}", self.name), &inputs, || {
            images.make(pair.old)?;
            images.make(pair.new)?;
            self.run(shell, pair).with_context(|| format!("{} from {} to {}", self.name, pair.old, pair.new))
        })
    }

    fn run(&self, shell: &Shell, pair: Pair) -> Result<Measured> {
        let scratch = shell.at("scratch");
        empty(&scratch)?;
        for line in self.prepare {
            shell.run(&pair.fill(line))?;
        }
        let (make, apply) = (pair.fill(self.make), pair.fill(self.apply));
        super::say(&make);
        let made = shell.measure(&make)?;
        let bytes = (self.bytes)(shell, pair)?;
        super::say(&apply);
        let applied = shell.measure(&apply)?;
        let verified = (self.proof)(shell, pair)?;
        empty(&scratch)?;
        let row = DeltaRow::new(pair, self.name, bytes, made, applied, verified);
        ensure!(row.bytes > 0, "nothing was made");
        Ok(Measured { row, make, apply, note: self.note.to_owned(), reading_cpu_s: None })
    }
}

fn empty(folder: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
    .with_context(|| format!("emptying {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(given: &[&str]) -> Result<Vec<&'static str>> {
        let given: Vec<String> = given.iter().map(|&name| name.to_owned()).collect();
        Ok(Peer::chosen(&given)?.iter().map(|peer| peer.name).collect())
    }

    #[test]
    fn peers_are_chosen_by_name() {
        assert_eq!(names(&["rdiff", "xdelta3"]).unwrap(), ["xdelta3", "rdiff"]);
        assert_eq!(names(&["all"]).unwrap().len(), PEERS.len());
        assert!(names(&["none"]).unwrap().is_empty());
        assert!(names(&["xdelta"]).unwrap_err().to_string().contains("xdelta3"));
    }
}
