//! Three releases of one OS, each a real Debian.
//!
//! 1.0.0 is bookworm as it was published. 1.1.0 has OpenSSL from the security archive, and files added, changed and removed.
//! 1.2.0 is 1.1.0 with a required service that fails at boot.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Place;
use crate::fixture::noise;
use crate::programs;
use crate::rootfs::{Bases, Changes, bases, compose};

/// The OS's name.
pub(super) const OS: &str = "demo";

/// The unit that a release must run to be healthy.
pub(super) const SERVICE: &str = "app.service";

/// Where the service has its database, which 1.1.0 brings into another format.
pub(super) const DATABASE: &str = "var/lib/demo/db";

/// Where the OS keeps its own files.
const OWN: &str = "usr/share/demo";

/// Length of the file at [`data`].
pub(super) const DATA_BYTES: usize = 16 << 10;

/// Units that a machine without a screen, a package manager or people does without: each costs a start under TCG.
const MASKED: [&str; 13] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
];

/// What differs from one story to the next.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The repository's address as the guest sees it.
    pub(super) url: String,
    /// The TUF root that hosts trust.
    pub(super) root_json: PathBuf,
}

/// Writes the tar of a release into the story's folder and gives its path.
pub(super) fn release(place: &Place, settings: &Settings, version: &str) -> Result<PathBuf> {
    let Bases { original, updated } = bases(&place.project, &place.target)?;
    let base = if version == "1.0.0" { original } else { updated };
    let out = place.work.join(format!("{version}.tar"));
    let mut changes = Changes::default();
    host(&mut changes, place)?;
    system(&mut changes, settings)?;
    application(&mut changes, version);
    compose(&base, &changes, &out)?;
    Ok(out)
}

/// What `dist` installs.
pub(super) fn host(changes: &mut Changes, place: &Place) -> Result<()> {
    let stage = place.work.join("stage");
    if !stage.exists() {
        let made = Command::new("make")
            .args(["--silent", "--directory"])
            .arg(place.project.join("dist"))
            .arg("install")
            .arg(format!("DESTDIR={}", stage.display()))
            .arg(format!("UPRIGHT={}", place.agent.display()))
            .arg(format!("MANUAL={}", programs::folder()?.join("upright").display()))
            .status()
            .context("cannot run make")?;
        ensure!(made.success(), "make install in dist ended with {made}");
    }
    // The image's /lib is a link to /usr/lib, and the initrd has its module already.
    changes.tree(&stage)?;
    Ok(())
}

/// What makes a Debian into this OS.
pub(super) fn system(changes: &mut Changes, settings: &Settings) -> Result<()> {
    let root =
        fs::read(&settings.root_json).with_context(|| format!("reading {}", settings.root_json.display()))?;
    changes.file("usr/share/upright/root.json", 0o644, root);
    changes.file("etc/upright/upright.toml", 0o644, configuration(&settings.url));
    changes.file("etc/motd", 0o644, "");
    // The journal of a boot that failed is kept, for whoever looks into the disk image.
    changes.folder("var/log/journal");
    changes.file("etc/systemd/network/50-demo.network", 0o644, "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n");
    let enabled = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
    changes.link(enabled, "/lib/systemd/system/systemd-networkd.service");
    for unit in MASKED {
        changes.link(&format!("etc/systemd/system/{unit}"), "/dev/null");
    }
    let login = "/sbin/agetty --autologin root --noissue --noclear --keep-baud 115200 ttyS0 dumb";
    let getty = format!("[Service]\nExecStart=\nExecStart=-{login}\n");
    changes.file("etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf", 0o644, getty);
    Ok(())
}

fn configuration(url: &str) -> String {
    format!(
        "[repository]\nurl = \"{url}\"\n\n\
         [update]\npoll = \"5s\"\njitter = \"0s\"\nreboot = \"now\"\n\n\
         [health]\nsettle = \"5s\"\n\n\
         [[health.check]]\nname = \"app\"\nunit = \"{SERVICE}\"\nretries = 2\ninterval = \"2s\"\n\n\
         [[health.check]]\nname = \"server\"\nupdate-server = true\n"
    )
}

/// The OS's own files: a service and some that come, change and go from 1.0.0 to 1.1.0.
fn application(changes: &mut Changes, version: &str) {
    let unit = "[Unit]\nDescription=The service this OS is for\n\n[Service]\nExecStart=/usr/lib/demo/app\n";
    changes.file(&format!("usr/lib/systemd/system/{SERVICE}"), 0o644, unit);
    let enabled = format!("usr/lib/systemd/system/multi-user.target.wants/{SERVICE}");
    changes.link(&enabled, &format!("../{SERVICE}"));
    let database = format!("/{DATABASE}");
    // The old format is made by the first release only, and the new one is nothing that it can read.
    let open = match version {
        "1.0.0" => format!(
            "[ -e {database} ] || echo 'format 1' > {database}; grep -q 'format 1' {database} || exit 3"
        ),
        "1.1.0" => format!("echo 'format 2' > {database}.new; mv {database}.new {database}"),
        _ => "echo 'app: cannot open its database'; exit 3".to_owned(),
    };
    let script = format!("#!/bin/sh\nmkdir -p {}\n{open}\n", database.rsplit_once('/').unwrap_or_default().0);
    let script = format!("{script}echo 'app {version} runs'\nexec sleep infinity\n");
    changes.file("usr/lib/demo/app", 0o755, script);
    changes.file("etc/demo.conf", 0o644, format!("default of {version}\n"));
    let name = pretty_name(version);
    changes.file("usr/lib/os-release", 0o644, format!("ID=demo\nID_LIKE=debian\nPRETTY_NAME=\"{name}\"\n"));
    if version != "1.0.0" {
        changes.file("usr/lib/upright/state.d/60-demo.conf", 0o644, "versioned /var/lib/demo\n");
    }
    changes.file(&format!("{OWN}/changed"), 0o644, format!("{version}\n"));
    // Whole blocks of its own in the image.
    changes.file(&data(), 0o644, noise(1, DATA_BYTES));
    match version {
        "1.0.0" => changes.file(&format!("{OWN}/removed"), 0o644, "gone in 1.1.0\n"),
        _ => changes.file(&format!("{OWN}/added"), 0o644, "new in 1.1.0\n"),
    };
}

/// What systemd says that it welcomes to, early in each boot.
pub(super) fn pretty_name(version: &str) -> String {
    format!("Demo OS {version}")
}

/// The path of a file with [`DATA_BYTES`] of [`noise`].
pub(super) fn data() -> String {
    format!("{OWN}/data")
}

/// What tells the releases apart in the guest: commands, each with what it must print.
pub(super) fn marks(version: &str) -> Vec<(String, String)> {
    let is_new = version != "1.0.0";
    let there = |name: &str, is_there: bool| {
        (
            format!("test -e /{OWN}/{name} && echo yes || echo no"),
            if is_there { "yes" } else { "no" }.to_owned(),
        )
    };
    vec![
        (format!("cat /{OWN}/changed"), version.to_owned()),
        there("added", is_new),
        there("removed", !is_new),
        (format!("systemctl is-active {SERVICE}"), "active".to_owned()),
        (
            "cut -d ' ' -f 1-3 /proc/mounts | grep '^/dev/mapper/root / '".to_owned(),
            "/dev/mapper/root / erofs".to_owned(),
        ),
    ]
}
