//! Changes a published repository's metadata behind its publisher's back, and signs it with whatever keys are at hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use upright_keys::json::Json;
use upright_keys::{Envelope, KeyPair, Signer};
use upright_manifests::digest::Digest;

/// The repository of a workspace, in hostile hands.
pub struct Forger {
    workspace: PathBuf,
}

impl Forger {
    /// One who can write to the repository of `workspace`.
    pub fn new(workspace: &Path) -> Self {
        Self { workspace: workspace.to_owned() }
    }

    /// The publisher's own key of a role, as if it had been stolen.
    pub fn stolen(&self, role: &str) -> Result<KeyPair> {
        Ok(KeyPair::load(&self.workspace.join(format!("keys/{role}.pem")), None)?)
    }

    /// Replaces the timestamp with a changed one of the next version, signed with `keys`.
    pub fn timestamp(&self, keys: &[&KeyPair], change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut body = self.body("timestamp.json")?;
        increase(&mut body["version"]);
        change(&mut body);
        self.write("timestamp.json", body, keys).map(drop)
    }

    /// Publishes changed targets, with the snapshot and the timestamp that they need; signed with the keys of the three
    /// roles, in that order.
    pub fn targets(&self, keys: [&KeyPair; 3], change: impl FnOnce(&mut Value)) -> Result<()> {
        self.role("targets", keys, change)
    }

    /// The same for a delegated role.
    pub fn role(&self, role: &str, keys: [&KeyPair; 3], change: impl FnOnce(&mut Value)) -> Result<()> {
        let [of_role, of_snapshot, of_timestamp] = keys;
        let file = format!("{role}.json");
        let mut body = self.body(&format!("{}.{file}", self.newest_snapshot()?["meta"][&file]["version"]))?;
        increase(&mut body["version"]);
        change(&mut body);
        let version = body["version"].clone();
        let bytes = self.write(&format!("{version}.{file}"), body, &[of_role])?;
        self.snapshot([of_snapshot, of_timestamp], |snapshot| {
            snapshot["meta"][&file] = listed(&version, &bytes);
        })
    }

    /// Publishes a changed snapshot, with the timestamp that it needs; signed with the keys of the two roles, in that order.
    pub fn snapshot(&self, keys: [&KeyPair; 2], change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut snapshot = self.newest_snapshot()?;
        increase(&mut snapshot["version"]);
        change(&mut snapshot);
        let version = snapshot["version"].clone();
        let bytes = self.write(&format!("{version}.snapshot.json"), snapshot, &[keys[0]])?;
        self.timestamp(&[keys[1]], |timestamp| {
            timestamp["meta"]["snapshot.json"] = listed(&version, &bytes);
        })
    }

    /// Changes the manifest of the release that a channel points at, and lets the channel and targets name the changed one;
    /// signed with the keys of targets, snapshot and timestamp.
    pub fn release(&self, keys: [&KeyPair; 3], channel: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut files = Vec::new();
        self.targets(keys, |targets| {
            let listed = &mut targets["targets"];
            let Some(channel) = path_of(listed, |path| path.ends_with(&format!("/{channel}.json"))) else {
                return;
            };
            let Ok(mut pointer) = self.target(listed, &channel) else { return };
            let name = format!("/{}.json", pointer["version"].as_str().unwrap_or_default());
            let Some(release) =
                path_of(listed, |path| path.starts_with("releases/") && path.ends_with(&name))
            else {
                return;
            };
            let Ok(mut manifest) = self.target(listed, &release) else { return };
            change(&mut manifest);
            pointer["manifest"] = json!(Digest::of(manifest.to_string().as_bytes()));
            files = vec![(release, manifest.to_string()), (channel, pointer.to_string())];
            for (path, text) in &files {
                listed[path] =
                    json!({ "length": text.len(), "hashes": { "sha256": Digest::of(text.as_bytes()) } });
            }
        })?;
        anyhow::ensure!(!files.is_empty(), "channel {channel} points at nothing that is listed");
        for (path, text) in files {
            fs::write(self.served(&path, &Digest::of(text.as_bytes()).to_string())?, text)?;
        }
        Ok(())
    }

    /// A target as it is listed.
    fn target(&self, listed: &Value, path: &str) -> Result<Value> {
        let digest = listed[path]["hashes"]["sha256"].as_str().context("a digest")?;
        Ok(serde_json::from_slice(&fs::read(self.served(path, digest)?)?)?)
    }

    /// Where a target lies: its digest stands before its file name (TUF 1.0, 6.2).
    fn served(&self, path: &str, digest: &str) -> Result<PathBuf> {
        let (folder, name) = path.rsplit_once('/').context("a path with a folder")?;
        Ok(self.workspace.join("repository").join(folder).join(format!("{digest}.{name}")))
    }

    /// Publishes a changed root of the next version, signed with `keys`.
    pub fn root(&self, keys: &[&KeyPair], change: impl FnOnce(&mut Value)) -> Result<()> {
        let newest = (1..).take_while(|version| self.path(&format!("{version}.root.json")).exists()).last();
        let mut body = self.body(&format!("{}.root.json", newest.context("a root")?))?;
        increase(&mut body["version"]);
        change(&mut body);
        self.write(&format!("{}.root.json", body["version"]), body, keys).map(drop)
    }

    fn newest_snapshot(&self) -> Result<Value> {
        let timestamp = self.body("timestamp.json")?;
        self.body(&format!("{}.snapshot.json", timestamp["meta"]["snapshot.json"]["version"]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.join("repository/metadata").join(name)
    }

    fn body(&self, name: &str) -> Result<Value> {
        let bytes = fs::read(self.path(name)).with_context(|| name.to_owned())?;
        Ok(serde_json::from_slice::<Value>(&bytes)?["signed"].take())
    }

    fn write(&self, name: &str, body: Value, keys: &[&KeyPair]) -> Result<Vec<u8>> {
        let mut envelope = Envelope::unsigned(Json::parse(&serde_json::to_vec(&body)?)?);
        for key in keys {
            envelope.sign(*key as &dyn Signer)?;
        }
        let bytes = envelope.to_bytes();
        fs::write(self.path(name), &bytes)?;
        Ok(bytes)
    }
}

fn path_of(listed: &Value, wanted: impl Fn(&str) -> bool) -> Option<String> {
    listed.as_object()?.keys().find(|path| wanted(path)).cloned()
}

fn increase(version: &mut Value) {
    *version = json!(version.as_u64().unwrap_or_default() + 1);
}

fn listed(version: &Value, bytes: &[u8]) -> Value {
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": Digest::of(bytes) } })
}
