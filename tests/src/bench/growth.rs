//! What a hotfix takes for images of three sizes, and what an update takes that leaves nearly nothing as it was.

use std::fs;

use anyhow::{Context, Result};

use super::delta_row::{DeltaRow, Measured};
use super::deltas::Deltas;
use super::figures::Sized;
use super::host::Way;
use super::kept::sha256;
use super::pair::Pair;
use super::publisher::{Catalogue, Publisher};

/// The hotfix by its delta, for the smallest image first.
pub(super) fn sizes(part: &Deltas<'_>) -> Result<Vec<Sized>> {
    let medium = Pair::COMPARED[1];
    let measured = part.ways(medium, &[Way::Delta])?;
    let medium = sized(part.publisher, medium, measured)?;
    let small = alone(part, Catalogue::SMALL, Pair::SMALL)?;
    Ok(vec![small, medium, alone(part, Catalogue::LARGE, Pair::LARGE)?])
}

/// The way that the agent takes to the next Debian, and the full payload.
pub(super) fn major(part: &Deltas<'_>) -> Result<Vec<DeltaRow>> {
    let measured = part.ways(Pair::MAJOR, &[Way::Cheapest, Way::Full])?;
    Ok(measured.into_iter().map(|measured| measured.row).collect())
}

/// In a workspace that goes when it was measured, since a large one takes much room.
fn alone(part: &Deltas<'_>, catalogue: Catalogue, pair: Pair) -> Result<Sized> {
    let program = part.ours.run("command -v upright-build")?;
    let mut inputs = vec![sha256(program.trim().as_ref(), None)?.to_string(), part.agent.to_owned()];
    for tree in [pair.old, pair.new] {
        inputs.push(part.trees.hash(tree)?.to_string());
    }
    part.kept.or(&format!("{pair}-upright-delta-alone"), &inputs, || {
        let publisher = Publisher::open(part.ours, part.trees, catalogue)?;
        let part = Deltas { publisher: &publisher, ..*part };
        let measured = part.ways(pair, &[Way::Delta])?;
        let sized = sized(&publisher, pair, measured)?;
        let folder = publisher.workspace();
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        Ok(sized)
    })
}

fn sized(publisher: &Publisher<'_>, pair: Pair, measured: Vec<Measured>) -> Result<Sized> {
    let Measured { row, reading_cpu_s, .. } = measured.into_iter().next().context("nothing was measured")?;
    let reading_cpu_s = reading_cpu_s.context("no reading was measured")?;
    Ok(Sized { image_bytes: publisher.record(pair.new)?.root.size, reading_cpu_s, row })
}
