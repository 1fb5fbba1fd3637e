//! `upright.toml`: what a publisher settles once for an OS.

mod team;
mod template;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use upright_manifests::name::{Arch, ChannelName, OsName};

pub use team::Team;
pub use template::template;
pub use upright_manifests::size::Size;

use super::error::{Error, Result};

/// The largest `upright.toml` that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What `upright.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The OS that this workspace makes releases of.
    pub os: OsName,
    /// The architecture they run on.
    pub arch: Arch,
    /// The channels there are; the first is the default.
    #[serde(default = "default_channels")]
    pub channels: Vec<ChannelName>,
    /// How many former releases of a channel a new one gets deltas from.
    #[serde(default = "default_edges")]
    pub edges: usize,
    /// How many bytes all deltas to one release may have together; any number if not set.
    #[serde(default)]
    pub delta_budget: Option<Size>,
    /// How many releases stay published beside those that channels point at or offer deltas from.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// How hard releases are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The partitions a release must fit in.
    #[serde(default)]
    pub disk: Disk,
    /// What is special about the kernel's start.
    #[serde(default)]
    pub kernel: Kernel,
    /// The key that signs UKIs; without it they are not signed.
    #[serde(default)]
    pub secure_boot: Option<SecureBoot>,
    /// The keys that sign the trees' commits.
    #[serde(default)]
    pub tree: TreeKeys,
    /// Who signs, by TUF role.
    pub roles: Roles,
    /// Teams that sign channels with keys of their own.
    #[serde(default)]
    pub teams: BTreeMap<String, Team>,
}

/// How hard releases are compressed: zstd levels from 1, which is quick, to 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Compression {
    /// That of full payloads.
    pub payload: i32,
    /// That of deltas.
    pub delta: i32,
}

impl Default for Compression {
    fn default() -> Self {
        Self { payload: 19, delta: 19 }
    }
}

/// The smallest partitions that hosts of this OS have; new disk images get exactly these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Disk {
    /// A slot's root partition.
    pub slot: Size,
    /// A slot's verity partition.
    pub verity: Size,
    /// The EFI system partition; it holds a UKI for each slot.
    pub esp: Size,
    /// The state partition of a new disk image; it grows at the first boot where there is room.
    pub var: Size,
}

impl Default for Disk {
    fn default() -> Self {
        Self { slot: Size(4 << 30), verity: Size(40 << 20), esp: Size(512 << 20), var: Size(1 << 30) }
    }
}

impl Disk {
    /// The sizes for a disk image.
    pub fn sizes(&self) -> crate::disk::Sizes {
        crate::disk::Sizes { slot: self.slot.0, verity: self.verity.0, esp: self.esp.0, var: self.var.0 }
    }
}

/// What is special about the kernel's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Kernel {
    /// Added to the command line, such as `console=ttyS0`.
    pub cmdline: String,
}

/// A key and its certificate for Secure Boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecureBoot {
    /// The private key, PEM.
    pub key: PathBuf,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
}

/// The keys that sign the commits of the tree store, for those who take trees from there; with none they are not signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TreeKeys {
    /// Private key files, PKCS#8 PEM.
    pub keys: Vec<PathBuf>,
    /// Commands that sign.
    pub signers: Vec<SignerCommand>,
}

/// Who signs, by TUF role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Roles {
    /// Names the keys of all roles; offline.
    pub root: Role,
    /// Vouches for releases and channels; offline where releases are approved by people.
    pub targets: Role,
    /// Vouches for the versions of all metadata; online.
    pub snapshot: Role,
    /// Vouches for being current; online.
    pub timestamp: Role,
}

/// The keys of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Role {
    /// Private key files, PKCS#8 PEM; or public ones, where the private key is elsewhere.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// Commands that sign.
    #[serde(default)]
    pub signers: Vec<SignerCommand>,
    /// How many of them must sign.
    #[serde(default = "default_threshold")]
    pub threshold: u32,
    /// For how many days a signature is good.
    pub days: u32,
}

/// A command that signs what is on its standard input with a key that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SignerCommand {
    /// The public key, 64 hexadecimal digits.
    pub public: String,
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// After how many seconds it is stopped.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

fn default_timeout() -> u64 {
    upright_keys::external::TIME_LIMIT.as_secs()
}

fn default_channels() -> Vec<ChannelName> {
    "stable".parse().into_iter().collect()
}

fn default_edges() -> usize {
    3
}

fn default_keep() -> usize {
    10
}

fn default_threshold() -> u32 {
    1
}

impl Config {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let unreadable = |error: io::Error| {
            Error::refused(format!(
                "cannot read {}: {error}; expected a text file such as `upright-build init` writes",
                path.display()
            ))
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unreadable(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = line_of(&bytes, error.valid_up_to());
            let path = path.display();
            Error::refused(format!(
                "{path}:{line}: a byte that is not UTF-8; expected TOML, which is UTF-8 text"
            ))
        })?;
        Self::parse(text, path)
    }

    /// Reads the text of `upright.toml`; `path` is for messages, which name the line.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text.as_bytes(), span.start));
            let message = error.message().replace('\n', "; ");
            Error::refused(format!("{}:{line}: {message}", path.display()))
        })?;
        config.check().map_err(|(key, message)| {
            let line =
                text.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |line| line + 1);
            Error::refused(format!("{}:{line}: {message}", path.display()))
        })?;
        Ok(config)
    }

    /// The top-level roles by the names TUF gives them.
    pub fn roles(&self) -> [(&'static str, &Role); 4] {
        let Roles { root, targets, snapshot, timestamp } = &self.roles;
        [("root", root), ("targets", targets), ("snapshot", snapshot), ("timestamp", timestamp)]
    }

    /// Refuses a channel that is not in the list.
    pub fn require_channel(&self, channel: &ChannelName) -> Result<()> {
        if self.channels.contains(channel) {
            return Ok(());
        }
        let known: Vec<&str> = self.channels.iter().map(ChannelName::as_str).collect();
        Err(Error::refused(format!(
            "{channel} is not a channel of {}: there are {}; add it to `channels` in upright.toml to make it one",
            self.os,
            known.join(", ")
        )))
    }

    /// What the types cannot say: the start of the line in question and what is expected of it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.channels.is_empty() {
            let expected = "`channels` is empty; expected at least one, such as [\"stable\"]";
            return Err(("channels", expected.into()));
        }
        let levels = [("payload", self.compression.payload), ("delta", self.compression.delta)];
        if let Some((name, level)) = levels.iter().find(|(_, level)| !(1..=22).contains(level)) {
            return Err((name, format!("`compression.{name}` is {level}; expected a level from 1 to 22")));
        }
        let sizes = [
            ("slot", self.disk.slot),
            ("verity", self.disk.verity),
            ("esp", self.disk.esp),
            ("var", self.disk.var),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| size.0 == 0 || size.0 % (1 << 20) != 0) {
            return Err((name, format!("`disk.{name}` is {size}; expected a multiple of 1MiB")));
        }
        if let Some((name, _)) = self.roles().iter().find(|(_, role)| role.threshold == 0 || role.days == 0) {
            let message = format!("`roles.{name}` has a threshold or days of 0; expected 1 or more");
            return Err(("[roles", message));
        }
        self.check_teams().map_err(|message| ("[teams", message))
    }
}

/// The line, from 1, of the byte at `offset`.
fn line_of(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("upright.toml")).map_err(|error| error.to_string())
    }

    pub(super) fn written() -> String {
        template(&"acme".parse().unwrap(), Arch::X86_64)
    }

    #[test]
    fn the_file_that_init_writes_says_what_the_defaults_are() {
        let config = parse(&written()).unwrap();
        assert_eq!(config.os.as_str(), "acme");
        assert_eq!((config.channels, config.edges, config.keep), (default_channels(), 3, 10));
        assert_eq!((config.disk, config.compression), (Disk::default(), Compression::default()));
        assert_eq!(config.roles.root.keys, [PathBuf::from("keys/root.pem")]);
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        for (from, to, expected) in [
            ("edges = 3", "edge = 3", "upright.toml:11: unknown field `edge`, expected one of `os`, `arch`,"),
            ("slot = \"4GiB\"", "slot = \"4GB\"", "\"4GB\" is not a size; expected a number of bytes"),
            (
                "arch = \"x86-64\"",
                "arch = \"amd64\"",
                "unknown variant `amd64`, expected `x86-64` or `arm64`",
            ),
            ("slot = \"4GiB\"", "slot = 1000", "`disk.slot` is 1000; expected a multiple of 1MiB"),
            (
                "payload = 19",
                "payload = 0",
                "upright.toml:19: `compression.payload` is 0; expected a level from 1 to 22",
            ),
            ("channels = [\"stable\"]", "channels = []", "`channels` is empty"),
        ] {
            let text = written();
            assert!(text.contains(from), "{from}");
            let error = parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_channel_that_is_not_listed_is_refused_with_the_list() {
        let config = parse(&written()).unwrap();
        let error = config.require_channel(&"beta".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "beta is not a channel of acme: there are stable; add it to `channels` in upright.toml to make it one"
        );
    }
}
