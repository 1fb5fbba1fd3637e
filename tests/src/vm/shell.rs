//! A root shell over the serial line.
//!
//! The guest's getty logs root in by itself. Whatever else writes to the console would be mixed into a command's output, so
//! output stands between two marks, and the kernel and systemd are asked to be quiet.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Vm;

/// How long a boot may take: half a minute on a quiet machine without KVM, ten minutes on a crowded one.
pub const BOOT_TIME: Duration = Duration::from_secs(900);

/// How long the shell may take to answer, before it is asked again.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long a short command may take.
const COMMAND_TIME: Duration = Duration::from_secs(120);

/// What the getty's login shell says when it is ready.
const PROMPT: &str = "root@";

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output and standard error.
    pub text: String,
}

impl Vm {
    /// Waits for the login shell of the boot that is under way and takes it over.
    pub fn log_in(&mut self) -> Result<()> {
        self.console().wait_for(&[PROMPT], BOOT_TIME).context("the system did not come up")?;
        // A login that sets the terminal up throws away what was typed before.
        let mut attempts = 0;
        loop {
            attempts += 1;
            // dash does not edit lines, so nothing but the terminal echoes, and that can be switched off.
            self.console().send("exec /bin/sh\n")?;
            // 55 is SIGRTMIN+21: systemd(1), status messages off.
            self.console()
                .send("export TERM=dumb PS1= PS2=; stty -echo; dmesg -n 1; kill -55 1; echo 'ready'':'\n")?;
            match self.console().wait_for(&["ready:"], ANSWER_TIME) {
                Ok(_) => return Ok(()),
                Err(error) if attempts == 5 => return Err(error.context("the shell did not answer")),
                Err(_) => {}
            }
        }
    }

    /// Runs `command` in the guest's shell and gives what it did. A reboot meanwhile is an error.
    pub fn run(&mut self, command: &str) -> Result<Output> {
        self.run_within(command, COMMAND_TIME)
    }

    /// The same with a command that may take so long.
    pub fn run_within(&mut self, command: &str, time: Duration) -> Result<Output> {
        self.marks += 1;
        let mark = self.marks;
        let boot_line = self.boot_line;
        let console = self.console();
        console.send(&format!(
            "echo 'from''{mark}:'; ( {command} ) < /dev/null 2>&1; echo \"to\"\"{mark}:$?:\"\n"
        ))?;
        let about = || format!("running {command:?} in the guest");
        console.wait_for(&[&format!("from{mark}:")], COMMAND_TIME).with_context(about)?;
        let (which, text) =
            console.wait_for(&[&format!("to{mark}:"), boot_line], time).with_context(about)?;
        ensure!(which == 0, "the guest rebooted while running {command:?}");
        let (_, code) = console.wait_for(&[":"], COMMAND_TIME).with_context(about)?;
        let code = code.parse().with_context(|| format!("exit code {code:?} of {command:?}"))?;
        Ok(Output { code, text: text.replace('\r', "").trim_start_matches('\n').to_owned() })
    }

    /// Runs `command`, which must succeed, and gives what it wrote, without the last line's end.
    pub fn read(&mut self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        if output.code != 0 {
            bail!("{command:?} ended with {} in the guest:\n{}", output.code, output.text);
        }
        Ok(output.text.trim_end().to_owned())
    }

    /// Types `command` and does not wait for it: it restarts the machine.
    pub fn start(&mut self, command: &str) -> Result<()> {
        self.console().send(&format!("{command}\n"))
    }

    /// Waits until the firmware starts the boot loader `times` times.
    pub fn wait_for_boots(&mut self, times: usize, time: Duration) -> Result<()> {
        let boot_line = self.boot_line;
        for _ in 0..times {
            self.console().wait_for(&[boot_line], time).context("the machine did not restart")?;
        }
        Ok(())
    }

    /// How often the firmware has started the boot loader.
    pub fn boots(&mut self) -> usize {
        let boot_line = self.boot_line;
        self.console().count(boot_line)
    }
}
