//! A publisher's keys as an operator handles them: through the programs and `upright.toml` alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use upright_keys::KeyPair;
use upright_manifests::digest::Digest;

use crate::fixture::Fixture;
use crate::forger::Forger;
use crate::programs::{Ran, run, upright};
use crate::refusal::files;
use crate::simulated::Sizes;

/// A fixture, and who keeps its keys.
pub struct Custody {
    /// The OS with its releases and hosts.
    pub fixture: Fixture,
}

impl Custody {
    /// A fixture whose only channel is `stable`.
    pub fn new() -> Result<Self> {
        Ok(Self { fixture: Fixture::new()? })
    }

    /// A fixture with a channel `beta` beside `stable`, which a team signs, and which offers 1.0.0 too.
    pub fn with_team() -> Result<Self> {
        let this = Self::new()?;
        this.edit("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]")?;
        this.key("beta")?;
        let path = this.workspace().join("upright.toml");
        let team = "\n[teams.beta]\nchannels = [\"beta\"]\nkeys = [\"keys/beta.pem\"]\n";
        fs::write(&path, fs::read_to_string(&path)? + team)?;
        this.fixture.build(&["rotate"])?;
        this.fixture.build(&["promote", "1.0.0", "--from", "stable", "--to", "beta"])?;
        Ok(this)
    }

    /// The publisher's workspace.
    pub fn workspace(&self) -> PathBuf {
        self.fixture.workspace()
    }

    /// A host that follows `channel`.
    pub fn host(&self, name: &str, channel: &str) -> Result<PathBuf> {
        let more = format!("[update]\nchannel = \"{channel}\"\n");
        self.fixture.host_with(name, &more, Sizes::default())
    }

    /// Someone who can write to the repository.
    pub fn forger(&self) -> Forger {
        Forger::new(&self.workspace())
    }

    /// Replaces a part of upright.toml.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.workspace().join("upright.toml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.matches(from).count() == 1, "{from:?} is there {} times", text.matches(from).count());
        Ok(fs::write(&path, text.replace(from, to))?)
    }

    /// Makes a key in the workspace, unencrypted, and gives its id.
    pub fn key(&self, name: &str) -> Result<String> {
        let file = self.key_file(name);
        keys(&[&"new", &file, &"--unencrypted"])?;
        Ok(keys(&[&"show", &file, &"--format", &"id"])?.stdout.trim().to_owned())
    }

    /// The file of a private key in the workspace.
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.workspace().join(format!("keys/{name}.pem"))
    }

    /// A key of the workspace, opened.
    pub fn pair(&self, name: &str) -> Result<KeyPair> {
        Ok(KeyPair::load(&self.key_file(name), None)?)
    }

    /// Removes a private key; its public half stays.
    pub fn lose(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.key_file(name))?)
    }

    /// Runs `upright-build` in the workspace, whatever comes of it.
    pub fn build<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Ran> {
        let workspace = self.workspace();
        let folder = [OsStr::new("-C"), workspace.as_os_str()];
        run("upright-build", folder.into_iter().chain(arguments.iter().map(AsRef::as_ref)))
    }

    /// The metadata as it is served, by file name.
    pub fn metadata(&self) -> Result<BTreeMap<PathBuf, Digest>> {
        files(&self.workspace().join("repository/metadata"), &[])
    }

    /// Has `forge` change the repository, and `judge` see what comes of it; then both the repository and what `host`
    /// remembers are as before.
    pub fn while_forged(
        &self,
        host: &Path,
        forge: impl FnOnce(&Forger) -> Result<()>,
        judge: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let folders = [self.workspace().join("repository/metadata"), host.join("var/lib/upright")];
        let aside = tempfile::tempdir()?;
        for (number, folder) in folders.iter().enumerate() {
            copy(folder, &aside.path().join(number.to_string()))?;
        }
        forge(&self.forger())?;
        judge()?;
        for (number, folder) in folders.iter().enumerate() {
            fs::remove_dir_all(folder)?;
            copy(&aside.path().join(number.to_string()), folder)?;
        }
        Ok(())
    }
}

/// Runs `upright-keys`; it must succeed.
pub fn keys(arguments: &[&dyn AsRef<OsStr>]) -> Result<Ran> {
    let ran = run("upright-keys", arguments.iter().map(|argument| argument.as_ref()))?;
    ensure!(ran.status == 0, "{ran:?}");
    Ok(ran)
}

/// The host asks, and believes what it is told.
pub fn follows(host: &Path) -> Result<()> {
    let ran = upright(host, &["check"])?;
    ensure!(ran.status == 0, "{ran:?}");
    Ok(())
}

/// The host asks, and does not believe what it is told, for reasons that hold these words.
pub fn refuses(host: &Path, says: &[&str]) -> Result<()> {
    let ran = upright(host, &["check"])?;
    ensure!(ran.status == 4, "{ran:?}");
    let line = ran.stderr.lines().last().context("a reason")?;
    crate::refusal::contains(line, says)
}

/// The host takes what its channel points at, and is well.
pub fn updates(host: &Path) -> Result<()> {
    for arguments in [&["update", "--reboot"][..], &["health"]] {
        let ran = upright(host, arguments)?;
        ensure!(ran.status == 0, "{arguments:?}: {ran:?}");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("a name")?);
        match path.is_dir() {
            true => copy(&path, &to)?,
            false => fs::copy(&path, &to).map(drop)?,
        }
    }
    Ok(())
}
