//! What this project allows itself, and whether it keeps to it.

use anyhow::Result;

use super::delta_row::Measured;
use super::figures::{Figures, Limit, Unit};
use super::pair::Tree;
use super::publisher::Publisher;

const MB: f64 = 1e6;

/// Every limit on what was measured.
pub(super) fn limits(
    figures: &Figures,
    deltas: &[Measured],
    publisher: &Publisher<'_>,
) -> Result<Vec<Limit>> {
    let mut limits = vec![Limit::new("size of the agent", figures.agent_bytes as f64, 6.0 * MB, Unit::Bytes)];
    if let Some(ours) = figures.build.first() {
        limits.extend(cost("build of A", ours.cost.cpu_s, 40.0, ours.cost.rss_bytes, 512.0));
    }
    if let Some(ours) = figures.install.first() {
        limits.extend(cost("full install of A", ours.cost.cpu_s, 6.0, ours.cost.rss_bytes, 64.0));
    }
    if let Some(solid) = figures.install.iter().find(|figure| figure.name.contains("solid")) {
        let release = publisher.release(Tree::A)?;
        let ratio = release.root.full.size as f64 / solid.bytes.unwrap_or(1) as f64;
        limits.push(Limit::new("full payload of A, against one solid `zstd -19`", ratio, 1.08, Unit::Ratio));
        let ratio = release.root.chunks.size as f64 / release.root.size as f64;
        limits.push(Limit::new("chunk index of A, against the image", ratio, 0.001, Unit::Ratio));
    }
    limits.extend(of_deltas(deltas));
    for measured in deltas.iter().filter(|measured| measured.row.method == "upright-delta") {
        let new = if measured.row.pair == "A-C" { Tree::C } else { continue };
        let ratio = measured.row.written_bytes as f64 / publisher.record(new)?.root.size as f64;
        limits.push(Limit::new(
            "A-C: bytes written by the delta, against the image",
            ratio,
            0.05,
            Unit::Ratio,
        ));
    }
    if let [cheapest, full] = &figures.major[..] {
        let ratio = cheapest.bytes as f64 / full.bytes as f64;
        limits.push(Limit::new("A-D: bytes fetched, against the full payload", ratio, 1.0, Unit::Ratio));
    }
    Ok(limits)
}

fn cost(what: &str, cpu_s: f64, most_s: f64, rss: u64, most_mb: f64) -> [Limit; 2] {
    [
        Limit::new(&format!("{what}: CPU"), cpu_s, most_s, Unit::CpuSeconds),
        Limit::new(&format!("{what}: peak memory"), rss as f64, most_mb * MB, Unit::Bytes),
    ]
}

fn of_deltas(deltas: &[Measured]) -> Vec<Limit> {
    let mut limits = Vec::new();
    for row in deltas.iter().map(|measured| &measured.row) {
        let (pair, bytes) = (&row.pair, row.bytes as f64);
        let most = match (pair.as_str(), row.method.as_str()) {
            ("A-B", "upright-delta") => 25.0,
            ("A-C", "upright-delta") => 0.6,
            ("A-C", "upright-chunks") => 10.0,
            _ => continue,
        };
        let way = row.method.trim_start_matches("upright-");
        limits.push(Limit::new(&format!("{pair} by {way}: bytes fetched"), bytes, most * MB, Unit::Bytes));
        if way == "delta" {
            let (apply, make) = (format!("{pair} by delta, applying"), format!("{pair} by delta, making"));
            limits.extend(cost(&apply, row.apply_cpu_s, 5.0, row.apply_rss_bytes, 64.0));
            limits.extend(cost(&make, row.make_cpu_s, 200.0, row.make_rss_bytes, 1500.0));
        }
    }
    limits
}
