//! A machine that runs the OS of the story, looked at over its serial line.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Teller, debian};
use crate::vm::{BOOT_TIME, Output, Vm};

/// How long the agent or the health checks may take to come to a decision.
const VERDICT_TIME: Duration = Duration::from_secs(300);

/// The exit code of a command while another one, or the service, is at work.
const BUSY: i32 = 7;

/// The machine.
pub(super) struct Guest {
    pub(super) vm: Vm,
    pub(super) teller: Teller,
}

impl Guest {
    /// Waits for the next boot and logs in; it must be that of `version`, from a verified root, with its files and service.
    pub(super) fn come_up(&mut self, version: &str) -> Result<()> {
        self.vm.wait_for_boots(1, 2 * BOOT_TIME)?;
        self.vm.log_in()?;
        let status = self.status()?;
        let booted = slot(&status, true)["version"].clone();
        ensure!(booted == version, "{booted} runs instead of {version}: {status}");
        for (command, expected) in debian::marks(version) {
            let said = self.vm.read(&format!("{command} || true"))?;
            ensure!(said == expected, "{command:?} says {said:?} on {version}, expected {expected:?}");
        }
        self.teller.say(&format!(
            "{version} runs from slot {}",
            slot(&status, true)["slot"].as_str().unwrap_or("?")
        ));
        Ok(())
    }

    pub(super) fn wait_until_proven(&mut self, version: &str) -> Result<()> {
        let is_proven =
            |status: &Value| status["state"]["state"] == "idle" && slot(status, true)["verdict"] == "proven";
        self.wait_for_status(&format!("{version} to be proven"), is_proven)?;
        self.vm.read("systemctl is-active boot-complete.target").map(drop)
    }

    pub(super) fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let until = Instant::now() + VERDICT_TIME;
        loop {
            let status = self.status()?;
            if holds(&status) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "waited {} s for {what}: {status}", VERDICT_TIME.as_secs());
        }
    }

    /// What `command` does once nobody else is at work.
    pub(super) fn run_alone(&mut self, command: &str) -> Result<Output> {
        let until = Instant::now() + VERDICT_TIME;
        loop {
            let output = self.vm.run(command)?;
            if output.code != BUSY || Instant::now() > until {
                return Ok(output);
            }
        }
    }

    pub(super) fn status(&mut self) -> Result<Value> {
        self.json("upright status --json")
    }

    pub(super) fn history(&mut self) -> Result<Value> {
        self.json("upright history --json")
    }

    fn json(&mut self, command: &str) -> Result<Value> {
        let text = self.vm.read(command)?;
        serde_json::from_str(&text).with_context(|| format!("{command:?} printed no JSON:\n{text}"))
    }
}

/// The slot that runs, or the other one.
pub(super) fn slot(status: &Value, booted: bool) -> &Value {
    let slots = status["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
    slots.iter().find(|slot| slot["booted"] == booted).unwrap_or(&Value::Null)
}
