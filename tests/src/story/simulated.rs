//! The story on a simulated host: slots and boot loader's state as files, a small OS, no root, no machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Teller;
use super::table::{Row, Summary};
use crate::fixture::Fixture;
use crate::programs::{Ran, upright};

/// Tells it in `work`, where everything stays to be looked at.
pub fn on_a_simulated_host(work: &Path, teller: Teller) -> Result<Summary> {
    let fixture = Fixture::in_folder(work).context("building and publishing the releases")?;
    teller.say("1.0.0, 1.1.0 and 1.2.0 are built; 1.0.0 is published");
    let host = fixture.host("host")?;
    let full_bytes = published_bytes(&fixture.workspace())?;
    let told = Told { fixture, host, teller, full_bytes };
    let rows = told.tell()?;
    Ok(Summary { host: "simulated host".to_owned(), seconds: teller.seconds(), full_bytes, rows })
}

/// The size of the only full payload there is.
fn published_bytes(workspace: &Path) -> Result<u64> {
    let payloads = workspace.join("repository/payloads");
    let listed = std::fs::read_dir(&payloads).with_context(|| format!("listing {}", payloads.display()))?;
    let sizes: Vec<u64> = listed.map(|entry| Ok(entry?.metadata()?.len())).collect::<Result<_>>()?;
    sizes.into_iter().max().with_context(|| format!("{} is empty", payloads.display()))
}

struct Told {
    fixture: Fixture,
    host: PathBuf,
    teller: Teller,
    full_bytes: u64,
}

impl Told {
    fn tell(&self) -> Result<Vec<Row>> {
        let way = "installed".to_owned();
        self.require_running("1.0.0", "a")?;
        let first = Row { way, ..Row::in_its_slot("1.0.0", "runs") };
        let updated = self.unattended_update().context("1.1.0 by the agent alone")?;
        let (back, forward) =
            self.rollback_and_forward().context("an operator's rollback, and forward again")?;
        let failed = self.failing_release().context("1.2.0, whose service fails")?;
        Ok(vec![first, updated, back, forward, failed])
    }

    fn unattended_update(&self) -> Result<Row> {
        self.fixture.build(&["publish", "1.1.0"])?;
        self.teller.say("1.1.0 is published; the agent takes one round");
        self.succeed(&["run", "--once"])?;
        self.succeed(&["health"])?;
        self.require_running("1.1.0", "b")?;
        let row = Row::fetched(&self.json(&["history"])?, "1.1.0", 1, "healthy".to_owned())?;
        // TUF metadata and manifests come on top.
        let sent = self.fixture.server.sent("deltas/") + self.fixture.server.sent("payloads/");
        ensure!(row.bytes >= sent, "{sent} bytes were sent, and the agent owns up to {}", row.bytes);
        row.require_small_delta(self.full_bytes)
    }

    fn rollback_and_forward(&self) -> Result<(Row, Row)> {
        self.succeed(&["rollback"])?;
        self.require_running("1.0.0", "a")?;
        let refused = self.run(&["update"])?;
        ensure!(refused.status == 3, "1.1.0 was rolled back, and yet: {refused:?}");
        self.succeed(&["rollback"])?;
        self.succeed(&["health"])?;
        self.require_running("1.1.0", "b")?;
        let back = Row::in_its_slot("1.0.0", "an operator went back to it");
        Ok((back, Row::in_its_slot("1.1.0", "an operator went forward to it; healthy")))
    }

    fn failing_release(&self) -> Result<Row> {
        self.fixture.build(&["publish", "1.2.0"])?;
        self.teller.say("1.2.0 is published; the agent takes one round");
        self.succeed(&["run", "--once"])?;
        let health = self.run(&["health"])?;
        ensure!(health.status == 1, "1.2.0 passed its health checks: {health:?}");
        self.require_running("1.1.0", "b")?;
        let why = self.succeed(&["why"])?.stdout;
        ensure!(
            why.contains("1.2.0") && why.contains("\"app\""),
            "`upright why` does not name the check: {why}"
        );
        self.teller.say(&format!("1.2.0 was left: {}", why.lines().next().unwrap_or_default()));
        self.fixture.server.reset_counts();
        self.succeed(&["run", "--once"])?;
        let again = self.fixture.server.sent("deltas/") + self.fixture.server.sent("payloads/");
        ensure!(again == 0, "1.2.0 was tried again: {again} bytes");
        let verdict = "left: its service does not run; not tried again".to_owned();
        // One boot of 1.2.0, and one of 1.1.0 again.
        Row::fetched(&self.json(&["history"])?, "1.2.0", 2, verdict)?.require_small_delta(self.full_bytes)
    }

    fn require_running(&self, version: &str, slot: &str) -> Result<()> {
        let status = self.json(&["status"])?;
        let slots = status["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
        let booted = slots.iter().find(|slot| slot["booted"] == true).unwrap_or(&Value::Null);
        ensure!(
            booted["version"] == version && booted["slot"] == slot,
            "not {version} in slot {slot}: {status}"
        );
        ensure!(booted["verdict"] == "proven", "{version} runs unproven: {status}");
        self.teller.say(&format!("{version} runs from slot {slot}"));
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<Ran> {
        upright(&self.host, arguments)
    }

    fn succeed(&self, arguments: &[&str]) -> Result<Ran> {
        let ran = self.run(arguments)?;
        ensure!(ran.status == 0, "upright {}: {ran:?}", arguments.join(" "));
        Ok(ran)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.succeed(&[&["--json"], arguments].concat())?.json()
    }
}
