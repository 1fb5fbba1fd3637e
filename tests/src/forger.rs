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
        let [of_targets, of_snapshot, of_timestamp] = keys;
        let timestamp = self.body("timestamp.json")?;
        let name = format!("{}.snapshot.json", timestamp["meta"]["snapshot.json"]["version"]);
        let mut snapshot = self.body(&name)?;
        let name = format!("{}.targets.json", snapshot["meta"]["targets.json"]["version"]);
        let mut targets = self.body(&name)?;
        increase(&mut targets["version"]);
        change(&mut targets);
        let version = targets["version"].clone();
        let bytes = self.write(&format!("{version}.targets.json"), targets, &[of_targets])?;
        snapshot["meta"]["targets.json"] = listed(&version, &bytes);
        increase(&mut snapshot["version"]);
        let version = snapshot["version"].clone();
        let bytes = self.write(&format!("{version}.snapshot.json"), snapshot, &[of_snapshot])?;
        self.timestamp(&[of_timestamp], |timestamp| {
            timestamp["meta"]["snapshot.json"] = listed(&version, &bytes);
        })
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

fn increase(version: &mut Value) {
    *version = json!(version.as_u64().unwrap_or_default() + 1);
}

fn listed(version: &Value, bytes: &[u8]) -> Value {
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": Digest::of(bytes) } })
}
