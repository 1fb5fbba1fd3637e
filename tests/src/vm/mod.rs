//! Virtual machines: QEMU with UEFI firmware, driven over the serial line.

mod accelerator;
mod arm;
mod console;
mod firmware;
mod shell;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

pub use accelerator::Accelerator;
pub use arm::start_arm;
pub use console::Console;
pub use shell::{BOOT_TIME, Output};

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its disk, a raw or qcow2 image that is written to.
    pub disk: PathBuf,
    /// Where its firmware variables and logs go.
    pub folder: PathBuf,
    /// Its memory in MiB.
    pub memory: u32,
    /// Whether its firmware starts only what is signed with the key of [`secure_boot_key`].
    pub secure_boot: bool,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Where every write and flush of its disk is recorded, as `blklogwrites` does it.
    pub recording: Option<PathBuf>,
    /// Whether a reset goes to the firmware directly and the machine can be switched off for good. Otherwise each reset is a cold
    /// start: once in a while the firmware says nothing any more after a reset, and never after a cold start.
    pub warm_resets: bool,
}

/// A machine that runs. It is stopped when this is dropped, and by the kernel when the thread that started it ends.
pub struct Vm {
    qemu: Child,
    console: Console,
    /// How many commands the shell was given, so that each one's marks are its own.
    marks: u32,
}

impl Machine {
    /// The serial line's log.
    pub fn serial_log(&self) -> PathBuf {
        self.folder.join("serial.log")
    }

    /// Switches it on.
    pub fn start(&self) -> Result<Vm> {
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        let vars = self.folder.join("firmware-vars.fd");
        let delivered = if self.secure_boot { firmware::SECURE_VARS } else { firmware::VARS };
        fs::copy(delivered, &vars).with_context(|| format!("copying {delivered}"))?;
        let create = |path: &Path| File::create(path).with_context(|| format!("creating {}", path.display()));
        let log = create(&self.serial_log())?;
        self.recording.as_deref().map(create).transpose()?;
        let mut qemu = self
            .command(&vars)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(create(&self.folder.join("qemu.log"))?)
            .spawn()
            .context("starting qemu-system-x86_64 by setpriv")?;
        let streams = qemu.stdin.take().zip(qemu.stdout.take());
        let (input, output) = streams.ok_or_else(|| anyhow!("qemu has no standard streams"))?;
        Ok(Vm { qemu, console: Console::new(input, output, log), marks: 0 })
    }

    fn command(&self, vars: &Path) -> Command {
        let mut command = Command::new("setpriv");
        // A driver that is killed must not leave a machine behind.
        command.args(["--pdeathsig", "KILL"]);
        if self.warm_resets {
            command.arg("qemu-system-x86_64");
        } else {
            let on_again = "while setpriv --pdeathsig KILL \"$@\"; do :; done";
            command.args(["sh", "-c", on_again, "sh", "qemu-system-x86_64", "-action", "reboot=shutdown"]);
        }
        command.args(self.accelerator.arguments());
        // In system management mode the processors wait for each other; one has nobody to wait for.
        let (board, processors, code) = match self.secure_boot {
            true => ("q35,smm=on", "1", firmware::SECURE_CODE),
            false => ("q35", "2", firmware::CODE),
        };
        command.args(["-machine", board, "-smp", processors, "-m", &self.memory.to_string()]);
        // Only the firmware, in system management mode, may write its variables.
        let locked = format!(
            "driver=cfi.pflash01,property=secure,value={}",
            if self.secure_boot { "on" } else { "off" }
        );
        command.args(["-global", &locked]);
        command.args(["-nodefaults", "-display", "none", "-serial", "chardev:console"]);
        command.args(["-chardev", "stdio,id=console,signal=off"]);
        command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}")]);
        command.args(["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
        command.args(self.disk_arguments());
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
        // The guest reaches this machine's loopback at 10.0.2.2.
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-device", "virtio-rng-pci"]);
        command
    }

    /// The disk, under the name `disk`.
    fn disk_arguments(&self) -> Vec<String> {
        let disk = self.disk.display();
        let format = if self.disk.extension().is_some_and(|name| name == "qcow2") { "qcow2" } else { "raw" };
        let Some(recording) = &self.recording else {
            return vec!["-drive".to_owned(), format!("if=none,id=disk,format={format},file={disk}")];
        };
        let nodes = [
            format!("driver=file,node-name=disk-file,filename={disk}"),
            format!("driver={format},node-name=disk-content,file=disk-file"),
            format!("driver=file,node-name=recording,filename={}", recording.display()),
            "driver=blklogwrites,node-name=disk,file=disk-content,log=recording".to_owned(),
        ];
        nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]).collect()
    }
}

/// Writes the private key that [`Machine::secure_boot`] trusts into `folder`; gives the paths of key and certificate.
pub fn secure_boot_key(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let key = folder.join("secure-boot.key");
    let passphrase = format!("pass:{}", firmware::SECURE_BOOT_PASSPHRASE);
    let opened = Command::new("openssl")
        .args(["rsa", "-in", firmware::SECURE_BOOT_KEY, "-passin", &passphrase, "-out"])
        .arg(&key)
        .output()
        .context("cannot run openssl")?;
    ensure!(opened.status.success(), "openssl: {}", String::from_utf8_lossy(&opened.stderr));
    Ok((key, firmware::SECURE_BOOT_CERTIFICATE.into()))
}

impl Vm {
    /// The serial line.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Waits until the machine has switched itself off.
    pub fn wait_until_off(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while self.qemu.try_wait().context("waiting for qemu")?.is_none() {
            ensure!(
                Instant::now() < until,
                "the machine did not switch itself off:\n{}",
                self.console.tail()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        // What was killed may have been the shell around QEMU; the disk is free when QEMU is gone, too.
        self.console.wait_until_closed();
    }
}
