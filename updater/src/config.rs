//! The host's configuration, `/etc/upright/upright.toml`.

mod check;
mod expiry;
mod read;
mod time;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use upright_manifests::channel::{Day, Window};
use upright_manifests::name::{ChannelName, OsName};
use upright_manifests::size::Size;

pub use check::{Check, Probe};
pub use expiry::OfflineExpiry;
pub use read::ConfigError;
pub use time::{Time, TimeOfDay};

use crate::boot::{Loader, SlotNames};
use crate::policy::RebootPolicy;

/// What a host is told by its administrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where releases come from.
    pub repository: Repository,
    /// Which releases are taken, and when.
    #[serde(default)]
    pub update: Update,
    /// How a release proves itself.
    #[serde(default)]
    pub health: Health,
    /// The boot loader.
    #[serde(default)]
    pub boot: Boot,
    /// Bounds on what an update may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Where releases come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repository {
    /// The repository's address: `https://`, `http://` or `file://`.
    pub url: String,
    /// The OS; taken from the kernel's command line (`upright.os=`) if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsName>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The TUF root that the image ships with.
    #[serde(default = "default_root")]
    pub root: PathBuf,
}

fn default_root() -> PathBuf {
    PathBuf::from("/usr/share/upright/root.json")
}

/// Which releases are taken, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Update {
    /// The channel.
    pub channel: ChannelName,
    /// How often the server is asked.
    pub poll: Time,
    /// At most how much later than that, at random.
    pub jitter: Time,
    /// When the host may reboot by itself.
    pub reboot: RebootPolicy,
    /// Maintenance windows, instead of those in the channel file.
    pub windows: Vec<HostWindow>,
    /// While set, no release is taken by the agent; the text says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Whether `--from` takes metadata that has expired, and how long ago it may have.
    pub offline_expiry: OfflineExpiry,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            channel: default_channel(),
            poll: Time(Duration::from_secs(3600)),
            jitter: Time(Duration::from_secs(600)),
            reboot: RebootPolicy::default(),
            windows: Vec::new(),
            hold: None,
            offline_expiry: OfflineExpiry::default(),
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant")]
fn default_channel() -> ChannelName {
    "stable".parse().expect("a valid name")
}

/// A maintenance window as people write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostWindow {
    /// The days it opens on, `mon` to `sun`; none means every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it opens, `HH:MM` in UTC.
    pub start: TimeOfDay,
    /// How many minutes it stays open, 1 to 1440.
    pub minutes: u16,
}

impl Update {
    /// The windows in the form of the channel file.
    pub fn windows(&self) -> Vec<Window> {
        let window = |w: &HostWindow| Window { days: w.days.clone(), start: w.start.0, minutes: w.minutes };
        self.windows.iter().map(window).collect()
    }
}

/// How a release proves itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Health {
    /// How long all required checks must keep holding once they hold.
    pub settle: Time,
    /// After how long a trial that has not ended counts as failed.
    pub deadline: Time,
    /// How many boots a trial may take.
    pub tries: u32,
    /// Whether a failed systemd unit makes the system unhealthy.
    pub failed_units: bool,
    /// Failed units that do not count.
    pub ignore_units: Vec<String>,
    /// Folders with executables in `required.d` and `wanted.d`.
    pub folders: Vec<PathBuf>,
    /// Declared checks.
    #[serde(rename = "check")]
    pub checks: Vec<Check>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            settle: Time(Duration::from_secs(90)),
            deadline: Time(Duration::from_secs(600)),
            tries: 3,
            failed_units: true,
            ignore_units: Vec::new(),
            folders: ["/usr/lib/upright/health", "/etc/upright/health"].map(PathBuf::from).to_vec(),
            checks: Vec::new(),
        }
    }
}

/// The boot loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Boot {
    /// Which it is; found out if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<Loader>,
    /// Where the ESP is mounted; looked for at `/efi`, `/boot/efi` and `/boot` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub esp: Option<PathBuf>,
    /// GRUB's environment block, or the file that says where U-Boot's environment is; looked for in the usual places if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<PathBuf>,
    /// What the variables of GRUB and U-Boot, and a custom program, call slots a and b; `A` and `B` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotNames>,
    /// The program, with its first arguments, that knows a custom boot loader.
    pub command: Vec<String>,
    /// How long that program may take for a verb.
    pub timeout: Time,
    /// Whether to take a release although its signer's certificate is not in the firmware's database, as with one that is issued
    /// by an authority that is.
    pub any_signer: bool,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            loader: None,
            esp: None,
            environment: None,
            slots: None,
            command: Vec::new(),
            timeout: Time(Duration::from_secs(30)),
            any_signer: false,
        }
    }
}

/// Bounds on what an update may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Ways not to use: `delta`, `chunks`.
    pub without: Vec<String>,
    /// How long to wait, in all, for a server that has stopped answering in the middle of an update, before the update is put
    /// off until the next poll.
    pub patience: Time,
    /// How long a server may say nothing before that counts as a failure. One that sends less than 1 KiB a second over twice
    /// this time fails, too, and is asked again until `patience` is at its end.
    pub stall: Time,
    /// How many bytes of an update are fetched a second at most; as many as come if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_rate: Option<Size>,
    /// How much memory making an image out of what was fetched may take. A delta that takes more is no way; what takes least,
    /// full payload and chunks, is always one. The service's `MemoryMax=` should leave room for it and 32 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// How many bytes are written to a slot a second at most; as many as the disk takes if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_rate: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        let [patience, stall] = [120, 30].map(|seconds| Time(Duration::from_secs(seconds)));
        Self { without: Vec::new(), patience, stall, fetch_rate: None, memory: None, write_rate: None }
    }
}
