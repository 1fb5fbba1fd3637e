//! Two releases of an OS. 1.0.0 is sound; 1.1.0 holds every fault there is, and does what `/var/lib/fault` on the host says.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::rootfs::{Changes, compose, watched};
use crate::story::Place;
use crate::story::debian::{self, Settings};

/// What runs, and what it is updated to.
pub(super) const OLD: &str = "1.0.0";
pub(super) const NEW: &str = "1.1.0";

/// Names the fault that 1.1.0 has on this host.
pub(super) const CHOICE: &str = "/var/lib/fault";

/// What 1.1.0 says on the console when its fault begins.
pub(super) const BEGINS: &str = "fault begins";

/// How long a check must keep holding is what it is by default: longer than a service lasts that crashes a minute after its start.
const CONFIGURATION: &str = "
[update]
reboot = \"never\"
poll = \"1d\"

[health]
tries = 1

[[health.check]]
name = \"app\"
unit = \"app.service\"
retries = 2
interval = \"2s\"

[[health.check]]
name = \"answers\"
command = [\"/usr/lib/demo/check\"]
timeout = \"20s\"
retries = 1
";

/// Units of 1.1.0, with what wants them.
const UNITS: [(&str, &str, &str); 4] = [
    ("app.service", "multi-user.target.wants", "[Service]\nExecStart=/usr/lib/demo/fault app\n"),
    (
        "fault-mount.service",
        "local-fs.target.requires",
        "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/var\nBefore=local-fs.target\n\n\
         [Service]\nType=oneshot\nExecStart=/usr/lib/demo/fault mount\n",
    ),
    (
        "fault-early.service",
        "sysinit.target.wants",
        "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/var\nAfter=local-fs.target\nBefore=sysinit.target\n\n\
         [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/usr/lib/demo/fault early\n",
    ),
    ("fault-late.service", "multi-user.target.wants", "[Service]\nExecStart=/usr/lib/demo/fault late\n"),
];

/// Does at each place what was chosen.
const FAULT: &str = r#"#!/bin/sh
choice=$(cat /var/lib/fault 2> /dev/null)
begin() {
    echo 'fault begins' > /dev/console
}
freeze() {
    begin
    echo -1 > /proc/sys/kernel/sched_rt_runtime_us
    for processor in $(seq "$(nproc)"); do
        chrt -f 99 sh -c 'while :; do :; done' &
    done
    wait
}
on_trial() {
    until grep -q '"state": "trial"' /var/lib/upright/state.json; do sleep 1; done
}
case "$1 $choice" in
    'mount no-mount')
        begin
        exit 1
        ;;
    'early hang-early')
        begin
        exec sleep infinity
        ;;
    'early init-crash')
        begin
        kill -SEGV 1
        ;;
    'late panic')
        begin
        echo c > /proc/sysrq-trigger
        ;;
    'early freeze-early')
        freeze
        ;;
    'late hang-late')
        on_trial
        freeze
        ;;
    'check check-hangs')
        begin
        trap '' TERM INT HUP
        while :; do sleep 1000; done
        ;;
    'app late-crash')
        on_trial
        sleep 60
        begin
        echo 'app: lost its database'
        exit 3
        ;;
    'app '*)
        exec sleep infinity
        ;;
esac
"#;

/// A quarter of an hour is long for the case that waits for it; the others, on a slow machine, may need it.
const LIMIT: &str = r#"#!/bin/sh
[ "$(cat /var/lib/fault 2> /dev/null)" = hang-early ] || exit 0
mkdir -p "$1/boot-complete.target.d"
printf '[Unit]\nJobTimeoutSec=2min\n' > "$1/boot-complete.target.d/60-demo.conf"
"#;

/// Writes the tar of a release into the story's folder and gives its path.
pub(super) fn release(place: &Place, settings: &Settings, version: &str) -> Result<PathBuf> {
    let base = watched(&place.project, &place.target)?;
    let out = place.work.join(format!("{version}.tar"));
    let mut changes = Changes::default();
    debian::host(&mut changes, place)?;
    debian::system(&mut changes, settings)?;
    let configuration = format!("[repository]\nurl = \"{}\"\n{CONFIGURATION}", settings.url);
    changes.file("etc/upright/upright.toml", 0o644, configuration);
    changes.file("usr/lib/systemd/system-generators/demo-limit", 0o755, LIMIT);
    changes.file("usr/share/demo/version", 0o644, version);
    changes.file("usr/lib/demo/check", 0o755, "#!/bin/sh\nexec /usr/lib/demo/fault check\n");
    let fault = if version == OLD { "#!/bin/sh\n[ \"$1\" = check ] || exec sleep infinity\n" } else { FAULT };
    changes.file("usr/lib/demo/fault", 0o755, fault);
    for (unit, wanted, content) in UNITS {
        if version == NEW || unit == debian::SERVICE {
            changes.file(&format!("usr/lib/systemd/system/{unit}"), 0o644, content);
            changes.link(&format!("usr/lib/systemd/system/{wanted}/{unit}"), &format!("../{unit}"));
        }
    }
    compose(&base, &changes, &out).with_context(|| format!("composing {version}"))?;
    if version == NEW {
        fs::remove_dir_all(place.work.join("stage")).context("removing what dist installed")?;
    }
    Ok(out)
}
