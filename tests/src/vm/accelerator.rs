//! Whether KVM really runs a guest here.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::firmware;

/// How long the firmware may take to say something under KVM; it takes one or two seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's translator, ten to thirty times slower.
    Tcg,
}

impl Accelerator {
    /// KVM if it starts the firmware here, else TCG. A device node alone says little: nested virtualisation may have one and
    /// fail at the first instruction it does not know.
    pub fn detect() -> Self {
        match Path::new("/dev/kvm").exists() && starts_firmware() {
            true => Self::Kvm,
            false => Self::Tcg,
        }
    }

    /// QEMU's `-accel` and `-cpu` values.
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

fn starts_firmware() -> bool {
    let code = format!("if=pflash,format=raw,readonly=on,file={}", firmware::CODE);
    let vars = format!("if=pflash,format=raw,snapshot=on,file={}", firmware::VARS);
    let spawned = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "q35", "-m", "256", "-nodefaults"])
        .args(Accelerator::Kvm.arguments())
        .args(["-display", "none", "-serial", "stdio", "-drive", &code, "-drive", &vars])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else { return false };
    let works = says_something(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    works
}

/// Anything on the serial line is the firmware; anything on standard error is QEMU giving up.
fn says_something(child: &mut Child) -> bool {
    let (sender, receiver) = channel();
    if let Some(serial) = child.stdout.take() {
        report_first_byte(serial, sender.clone(), true);
    }
    if let Some(errors) = child.stderr.take() {
        report_first_byte(errors, sender, false);
    }
    let until = Instant::now() + PATIENCE;
    receiver.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or(false)
}

fn report_first_byte(mut stream: impl Read + Send + 'static, sender: Sender<bool>, meaning: bool) {
    thread::spawn(move || {
        if matches!(stream.read(&mut [0]), Ok(1)) {
            let _ = sender.send(meaning);
        }
    });
}
