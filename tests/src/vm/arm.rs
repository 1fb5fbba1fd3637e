//! An Arm machine with U-Boot, as Debian packages it for QEMU.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use super::{Console, Vm, firmware};

/// U-Boot for QEMU's `virt` machine.
const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// Starts one with that disk; logs go to `folder`.
pub fn start_arm(disk: &Path, folder: &Path) -> Result<Vm> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let create = |name: &str| File::create(folder.join(name)).with_context(|| format!("creating {name}"));
    let log = create("serial.log")?;
    let mut qemu = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "qemu-system-aarch64",
            "-machine",
            "virt",
            "-cpu",
            "cortex-a57",
            "-m",
            "512",
        ])
        .args(["-nodefaults", "-display", "none", "-serial", "chardev:console", "-bios", U_BOOT])
        .args(["-chardev", "stdio,id=console,signal=off"])
        .args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.display())])
        .args(["-device", "virtio-blk-pci,drive=disk"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(create("qemu.log")?)
        .spawn()
        .context("starting qemu-system-aarch64 by setpriv")?;
    let streams = qemu.stdin.take().zip(qemu.stdout.take());
    let (input, output) = streams.ok_or_else(|| anyhow!("qemu has no standard streams"))?;
    Ok(Vm {
        qemu,
        console: Console::new(input, output, log),
        marks: 0,
        monitor: folder.join("monitor"),
        vars: folder.join("vars"),
        boot_line: firmware::U_BOOT_LINE,
    })
}
