//! `upright.toml`: what a publisher settles once for an OS.

mod team;
mod template;

use std::collections::{BTreeMap, BTreeSet};
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
            let message = in_words(error.message());
            Error::refused(format!("{}:{line}: {message}", path.display()))
        })?;
        config.check().map_err(|Misfit { table, key, message }| {
            Error::refused(format!("{}:{}: {message}", path.display(), line_of_key(text, &table, key)))
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

    /// What the types cannot say.
    fn check(&self) -> Result<(), Misfit> {
        if self.channels.is_empty() {
            let expected = "`channels` is empty; expected at least one, such as [\"stable\"]";
            return Err(Misfit::new("", "channels", expected));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.channels.iter().find(|channel| !seen.insert(*channel)) {
            return Err(Misfit::new(
                "",
                "channels",
                format!("`channels` names {twice} twice; once is enough"),
            ));
        }
        let levels = [("payload", self.compression.payload), ("delta", self.compression.delta)];
        if let Some((name, level)) = levels.iter().find(|(_, level)| !(1..=22).contains(level)) {
            let message = format!("`compression.{name}` is {level}; expected a level from 1 to 22");
            return Err(Misfit::new("compression", name, message));
        }
        let sizes = [
            ("slot", self.disk.slot),
            ("verity", self.disk.verity),
            ("esp", self.disk.esp),
            ("var", self.disk.var),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| size.0 == 0 || size.0 % (1 << 20) != 0) {
            let message = format!("`disk.{name}` is {size}; expected a multiple of 1MiB");
            return Err(Misfit::new("disk", name, message));
        }
        for (name, role) in self.roles() {
            role.check(&format!("roles.{name}"))?;
        }
        self.check_teams()
    }
}

impl Role {
    /// Whether it is one that can sign; `table` is the one that describes it.
    fn check(&self, table: &str) -> Result<(), Misfit> {
        let zero = [("threshold", self.threshold), ("days", self.days)].into_iter().find(|(_, n)| *n == 0);
        match zero {
            None => Ok(()),
            Some((key, _)) => {
                Err(Misfit::new(table, key, format!("`{table}.{key}` is 0; expected 1 or more")))
            }
        }
    }
}

/// A setting that makes no sense.
struct Misfit {
    /// The table that it is in; empty for the top.
    table: String,
    key: &'static str,
    message: String,
}

impl Misfit {
    fn new(table: impl Into<String>, key: &'static str, message: impl Into<String>) -> Self {
        Self { table: table.into(), key, message: message.into() }
    }
}

/// The line, from 1, that sets `key` in `table`; else that of the table's head, or the first.
fn line_of_key(text: &str, table: &str, key: &str) -> usize {
    let (mut here, mut head) = (table.is_empty(), 1);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            here = name.trim().replace('"', "") == table;
            head = if here { number } else { head };
        } else if here && line.split('=').next().is_some_and(|name| name.trim() == key) {
            return number;
        }
    }
    head
}

/// A parser's message in one line, without the names that this program's language has for numbers.
fn in_words(message: &str) -> String {
    let mut text = message.replace('\n', "; ");
    for name in ["usize", "u64", "u32", "i32"] {
        text = text.replace(&format!("expected {name}"), "expected a whole number");
    }
    text
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
            ("channels = [\"stable\"]", "channels = []", "upright.toml:7: `channels` is empty"),
            (
                "channels = [\"stable\"]",
                "channels = [\"beta\", \"stable\", \"beta\"]",
                "upright.toml:7: `channels` names beta twice; once is enough",
            ),
            (
                "edges = 3",
                "edges = \"3\"",
                "upright.toml:11: invalid type: string \"3\", expected a whole number",
            ),
            (
                "edges = 3",
                "edges = -1",
                "upright.toml:11: invalid value: integer `-1`, expected a whole number",
            ),
            (
                "delta = 19",
                "delta = 1.5",
                "upright.toml:20: invalid type: floating point `1.5`, expected a whole number",
            ),
        ] {
            let text = written();
            assert!(text.contains(from), "{from}");
            let error = parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn a_value_is_found_in_its_own_table() {
        let text = written();
        let lines: Vec<&str> = text.lines().collect();
        for role in ["root", "targets", "snapshot", "timestamp"] {
            let head = lines.iter().position(|line| *line == format!("[roles.{role}]")).unwrap();
            for key in ["threshold", "days"] {
                let at = head + lines[head..].iter().position(|line| line.starts_with(key)).unwrap();
                let mut changed = lines.clone();
                let zero = format!("{key} = 0");
                changed[at] = &zero;
                let error = parse(&changed.join("\n")).unwrap_err();
                let expected =
                    format!("upright.toml:{}: `roles.{role}.{key}` is 0; expected 1 or more", at + 1);
                assert_eq!(error, expected);
            }
        }
        assert_eq!(line_of_key("a = 1\n[ t ]\n", "t", "b"), 2);
        assert_eq!(line_of_key("a = 1\nt.b = 1\n", "t", "b"), 1);
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
