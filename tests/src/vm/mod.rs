//! Virtual machines: QEMU with UEFI firmware, driven over the serial line.

mod accelerator;
mod arm;
mod console;
mod firmware;
mod shell;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

pub use accelerator::Accelerator;
pub use arm::start_arm;
pub use console::Console;
pub use shell::{BOOT_TIME, Output};

/// How long QEMU may take to write down what a machine is.
const FREEZE_TIME: Duration = Duration::from_secs(120);

/// What QEMU's monitor says of a machine that was written down.
const FROZEN: &str = "(postmigrate)";

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
    /// A removable medium that is in it: the image of a file system, which is the machine's second disk.
    pub medium: Option<PathBuf>,
    /// A hardware watchdog, and a disk that fails.
    pub hardware: Hardware,
}

/// What else a machine has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hardware {
    /// A watchdog that restarts it, an i6300ESB.
    pub watchdog: bool,
    /// That its watchdog ended it is remembered across a reset, which has to be a warm one for that.
    pub remembers: bool,
    /// A sector of its disk, of 512 bytes, that takes what is written and cannot be read.
    pub unreadable: Option<u64>,
    /// Whether its firmware is a BIOS, SeaBIOS, which starts what is in the disk's first sector.
    pub bios: bool,
}

/// A machine that runs. It is stopped when this is dropped, and by the kernel when the thread that started it ends.
pub struct Vm {
    qemu: Child,
    console: Console,
    /// How many commands the shell was given, so that each one's marks are its own.
    marks: u32,
    /// The socket of QEMU's monitor.
    monitor: PathBuf,
    /// The firmware's variables.
    vars: PathBuf,
    /// What the firmware says each time it starts a boot loader.
    boot_line: &'static str,
}

impl Machine {
    /// The serial line's log.
    pub fn serial_log(&self) -> PathBuf {
        self.folder.join("serial.log")
    }

    fn monitor(&self) -> PathBuf {
        self.folder.join("monitor")
    }

    /// Switches it on.
    pub fn start(&self) -> Result<Vm> {
        self.begin(None)
    }

    /// Goes on where a machine of the same hardware was when it was frozen, with a disk that holds what that one's did.
    pub fn resume(&self, frozen: &Path) -> Result<Vm> {
        self.begin(Some(frozen))
    }

    fn begin(&self, frozen: Option<&Path>) -> Result<Vm> {
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        let vars = self.folder.join("firmware-vars.fd");
        let delivered = Path::new(if self.secure_boot { firmware::SECURE_VARS } else { firmware::VARS });
        let delivered = frozen.map_or(delivered.to_owned(), vars_of);
        fs::copy(&delivered, &vars).with_context(|| format!("copying {}", delivered.display()))?;
        let create = |path: &Path| File::create(path).with_context(|| format!("creating {}", path.display()));
        let log = create(&self.serial_log())?;
        self.recording.as_deref().map(create).transpose()?;
        let mut qemu = self
            .command(&vars, frozen)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(create(&self.folder.join("qemu.log"))?)
            .spawn()
            .context("starting qemu-system-x86_64 by setpriv")?;
        let streams = qemu.stdin.take().zip(qemu.stdout.take());
        let (input, output) = streams.ok_or_else(|| anyhow!("qemu has no standard streams"))?;
        let monitor = self.monitor();
        let boot_line = if self.hardware.bios { firmware::BIOS_BOOT_LINE } else { firmware::BOOT_LINE };
        Ok(Vm { qemu, console: Console::new(input, output, log), marks: 0, monitor, vars, boot_line })
    }

    fn command(&self, vars: &Path, frozen: Option<&Path>) -> Command {
        let mut command = Command::new("setpriv");
        // A driver that is killed must not leave a machine behind.
        command.args(["--pdeathsig", "KILL"]);
        let incoming = frozen.map(|frozen| format!("exec:cat '{}'", frozen.display()));
        if self.warm_resets || self.hardware.remembers {
            command.arg("qemu-system-x86_64");
            command.args(incoming.iter().flat_map(|from| ["-incoming", from]));
        } else {
            // Only the first start goes on where another machine was.
            let on_again = "from=$1; shift
                while setpriv --pdeathsig KILL \"$@\" ${from:+-incoming \"$from\"}; do from=; done";
            command.args(["sh", "-c", on_again, "sh", incoming.as_deref().unwrap_or_default()]);
            command.args(["qemu-system-x86_64", "-action", "reboot=shutdown"]);
        }
        command.args(self.accelerator.arguments());
        // In system management mode the processors wait for each other; one has nobody to wait for.
        let (board, processors, code) = match (self.secure_boot, self.hardware.bios) {
            (true, _) => ("q35,smm=on", "1", Some(firmware::SECURE_CODE)),
            (false, false) => ("q35", "2", Some(firmware::CODE)),
            // Without a screen a BIOS writes to the serial line.
            (false, true) => ("q35,graphics=off", "2", None),
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
        if let Some(code) = code {
            command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}")]);
            command.args(["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
        }
        command.args(self.disk_arguments());
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
        if let Some(medium) = &self.medium {
            command.args(["-drive", &format!("if=none,id=medium,format=raw,file={}", medium.display())]);
            command.args(["-device", "virtio-blk-pci,drive=medium"]);
        }
        // The guest reaches this machine's loopback at 10.0.2.2.
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-monitor", &format!("unix:{},server=on,wait=off", self.monitor().display())]);
        if self.hardware.watchdog {
            command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        command
    }

    /// The disk, under the name `disk`.
    fn disk_arguments(&self) -> Vec<String> {
        let disk = self.disk.display();
        let format = if self.disk.extension().is_some_and(|name| name == "qcow2") { "qcow2" } else { "raw" };
        let mut nodes = vec![
            format!("driver=file,node-name=disk-file,filename={disk}"),
            format!("driver={format},node-name=disk-content,file=disk-file"),
        ];
        match (&self.recording, self.hardware.unreadable) {
            (Some(recording), _) => {
                nodes.push(format!("driver=file,node-name=recording,filename={}", recording.display()));
                nodes.push("driver=blklogwrites,node-name=disk,file=disk-content,log=recording".to_owned());
            }
            (None, Some(sector)) => nodes.push(format!(
                "driver=blkdebug,node-name=disk,image=disk-content,inject-error.0.event=none,\
                 inject-error.0.iotype=read,inject-error.0.sector={sector}"
            )),
            (None, None) => {
                return vec!["-drive".to_owned(), format!("if=none,id=disk,format={format},file={disk}")];
            }
        }
        nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]).collect()
    }
}

/// Where the firmware's variables of a frozen machine are.
fn vars_of(frozen: &Path) -> PathBuf {
    frozen.with_extension("vars")
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

    /// Stops the machine and writes all that it is to `to`, apart from its disk, so that it can be resumed from there any number of
    /// times.
    pub fn freeze(self, to: &Path) -> Result<()> {
        let about = || format!("freezing the machine to {}", to.display());
        let mut monitor = UnixStream::connect(&self.monitor).with_context(about)?;
        monitor.set_read_timeout(Some(FREEZE_TIME)).with_context(about)?;
        write!(monitor, "migrate \"exec:cat > '{}'\"\ninfo status\n", to.display()).with_context(about)?;
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        while !said.windows(FROZEN.len()).any(|window| window == FROZEN.as_bytes()) {
            match monitor.read(&mut buffer).with_context(about)? {
                0 => bail!("{}: {}", about(), String::from_utf8_lossy(&said)),
                length => said.extend_from_slice(&buffer[..length]),
            }
            ensure!(
                !said.windows(5).any(|window| window == b"Error"),
                "{}: {}",
                about(),
                String::from_utf8_lossy(&said)
            );
        }
        fs::copy(&self.vars, vars_of(to)).map(drop).with_context(about)
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
