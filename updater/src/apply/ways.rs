//! Which ways lead to a release from here, cheapest first: a pure plan.

use serde::Serialize;
use upright_manifests::digest::Digest;
use upright_manifests::release::{Cost, DeltaEdge, PartedBlob, Release};

/// A way to get a root image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A delta from the image of the booted slot.
    Delta(Box<DeltaEdge>),
    /// The chunks that no slot holds.
    Chunks,
    /// Everything.
    Full,
}

impl Way {
    /// Its name in records and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delta(_) => "delta",
            Self::Chunks => "chunks",
            Self::Full => "full",
        }
    }
}

/// The ways to a release, cheapest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WayPlan {
    /// The ways, each with the bytes it fetches at most, what makes the UKI included.
    #[serde(serialize_with = "names")]
    pub ways: Vec<(Way, u64)>,
    /// The ways that were left out, and why.
    pub without: Vec<(String, String)>,
    /// How many bytes any of them writes at most.
    pub writes: u64,
}

fn names<S: serde::Serializer>(ways: &[(Way, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ways.iter().map(|(way, bytes)| (way.name(), bytes)))
}

/// What a host allows an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance<'a> {
    /// Ways not to use.
    pub without: &'a [String],
    /// Bytes of memory, if bounded.
    pub memory: Option<u64>,
    /// Bytes a second that are fetched, if bounded; the cheapest way is the one that takes the least time at that rate.
    pub fetch_rate: Option<u64>,
}

/// The rate that is reckoned with where none is set, in bytes a second: what saves less than 2 MB of a download for a second of
/// work is not worth it. Between two Debian releases a delta saves a tenth of the bytes for a minute's work.
const RATE: u64 = 2_000_000;

/// The ways to `release` for a host that runs the image with root hash `booted`. A delta that is larger than the full payload is
/// no way; chunks fetch more than it by their index at most.
pub fn ways(release: &Release, booted: &Digest, allowance: Allowance<'_>) -> WayPlan {
    let full = &release.root.full;
    let uki = release.uki.compose.size;
    let writes = release.root.size + release.root.verity.hash_size + release.uki.size;
    let mut plan = WayPlan { ways: Vec::new(), without: Vec::new(), writes };
    let edge = release.deltas.iter().find(|edge| edge.from_root_hash == *booted);
    let measured = edge.and_then(|edge| edge.chunks);
    let left_out = |way: &str| allowance.without.iter().any(|name| name == way);
    let memory = |blob: &PartedBlob| blob.cost.map_or(0, |cost| cost.memory);
    let most = allowance.memory.unwrap_or(u64::MAX);
    match edge {
        _ if left_out("delta") => plan.leave_out("delta", "the configuration leaves it out".to_owned()),
        None => plan.leave_out("delta", "none is published from the release that runs".to_owned()),
        Some(edge) if edge.delta.size >= full.size => {
            plan.leave_out(
                "delta",
                format!("it has {} bytes, the full payload {}", edge.delta.size, full.size),
            );
        }
        Some(edge) if memory(&edge.delta) > most => {
            let reason = format!("it takes {} bytes of memory, {most} are allowed", memory(&edge.delta));
            plan.leave_out("delta", reason);
        }
        Some(edge) => plan.ways.push((Way::Delta(Box::new(edge.clone())), edge.delta.size + uki)),
    }
    match left_out("chunks") {
        true => plan.leave_out("chunks", "the configuration leaves it out".to_owned()),
        // What the other slot holds makes it less. Where nothing is known: their index, and never more than everything.
        false => {
            let most = full.size.saturating_add(release.root.chunks.size);
            let most = measured.map_or(most, |measured| measured.size);
            plan.ways.push((Way::Chunks, most.saturating_add(uki)));
        }
    }
    plan.ways.push((Way::Full, full.size + uki));
    let rate = allowance.fetch_rate.unwrap_or(RATE);
    // Stable: where two take as long, the one that may turn out to fetch less stays in front.
    plan.ways.sort_by_key(|(way, _)| match (way, measured) {
        (Way::Delta(edge), _) => milliseconds(edge.delta.size, edge.delta.cost, rate),
        (Way::Chunks, Some(measured)) => milliseconds(measured.size, Some(measured.cost), rate),
        (Way::Chunks, None) | (Way::Full, _) => milliseconds(full.size, full.cost, rate),
    });
    plan
}

/// How long a way takes, as far as it differs from others, in milliseconds.
fn milliseconds(bytes: u64, cost: Option<Cost>, rate: u64) -> u128 {
    let cpu = cost.map_or(0, |cost| cost.cpu_ms);
    u128::from(bytes) * 1000 / u128::from(rate.max(1)) + u128::from(cpu)
}

impl WayPlan {
    fn leave_out(&mut self, way: &str, reason: String) {
        self.without.push((way.to_owned(), reason));
    }
}

#[cfg(test)]
mod tests {
    use upright_manifests::release::ByChunks;

    use super::*;
    use crate::policy::sample;

    fn names(plan: &WayPlan) -> Vec<&'static str> {
        plan.ways.iter().map(|(way, _)| way.name()).collect()
    }

    /// A release with a delta of 10 MB that takes 40 MB of memory and 5 s, beside a full payload of 100 MB that takes 2 s.
    fn release() -> Release {
        let mut release = sample("2");
        (release.root.full.size, release.uki.compose.size) = (100_000_000, 1000);
        release.root.full.cost = Some(Cost { memory: 20_000_000, cpu_ms: 2000 });
        let mut delta = release.root.full.clone();
        (delta.size, delta.cost) = (10_000_000, Some(Cost { memory: 40_000_000, cpu_ms: 5000 }));
        let from = release.version.clone();
        release.deltas = vec![DeltaEdge { from, from_root_hash: Digest::of(b"runs"), delta, chunks: None }];
        release
    }

    #[test]
    fn chunks_are_reckoned_with_as_the_publisher_measured_them() {
        let (mut release, runs) = (release(), Digest::of(b"runs"));
        let cost = Cost { memory: 25_000_000, cpu_ms: 1000 };
        let mut plan = |size| {
            release.deltas[0].chunks = Some(ByChunks { size, cost });
            ways(&release, &runs, Allowance::default())
        };
        assert_eq!(plan(5_000_000).ways.first(), Some(&(Way::Chunks, 5_001_000)));
        assert_eq!(names(&plan(17_999_999)), ["chunks", "delta", "full"], "10.0 s and 10.0 s");
        assert_eq!(names(&plan(18_010_000)), ["delta", "chunks", "full"], "10.0 s and 10.1 s");
        assert_eq!(names(&plan(102_002_000)), ["delta", "full", "chunks"]);
        // The measure is of the release that runs.
        let other = ways(&release, &Digest::of(b"other"), Allowance::default());
        assert_eq!(names(&other), ["chunks", "full"]);
    }

    #[test]
    fn what_chunks_fetch_at_most_counts_their_index() {
        let mut release = release();
        release.root.chunks.size = 5000;
        let plan = ways(&release, &Digest::of(b"other"), Allowance::default());
        assert_eq!(plan.ways, [(Way::Chunks, 100_006_000), (Way::Full, 100_001_000)]);
    }

    #[test]
    fn the_cheapest_way_that_is_allowed_comes_first() {
        let (release, runs) = (release(), Digest::of(b"runs"));
        let plan = ways(&release, &runs, Allowance::default());
        assert_eq!(names(&plan), ["delta", "chunks", "full"]);
        assert_eq!(plan.ways[0].1, 10_001_000);
        let less = Allowance { memory: Some(39_999_999), ..Allowance::default() };
        let plan = ways(&release, &runs, less);
        assert_eq!(names(&plan), ["chunks", "full"]);
        assert_eq!(plan.without[0].1, "it takes 40000000 bytes of memory, 39999999 are allowed");
        let without = ["chunks".to_owned()];
        let plan =
            ways(&release, &Digest::of(b"other"), Allowance { without: &without, ..Allowance::default() });
        assert_eq!(names(&plan), ["full"]);
    }

    #[test]
    fn what_takes_least_time_comes_first() {
        let (release, runs) = (release(), Digest::of(b"runs"));
        let at = |rate| {
            names(&ways(&release, &runs, Allowance { fetch_rate: Some(rate), ..Allowance::default() }))
        };
        assert_eq!(at(1_000_000), ["delta", "chunks", "full"]);
        assert_eq!(at(29_000_000), ["delta", "chunks", "full"], "5.3 s and 5.4 s");
        assert_eq!(at(31_000_000), ["chunks", "full", "delta"], "5.3 s and 5.2 s");
        assert_eq!(at(0), ["delta", "chunks", "full"]);
    }

    #[test]
    fn a_few_bytes_less_are_not_worth_minutes_of_work() {
        let (mut release, runs) = (release(), Digest::of(b"runs"));
        let mut first = |size, cpu_ms| {
            release.deltas[0].delta.size = size;
            release.deltas[0].delta.cost = Some(Cost { memory: 0, cpu_ms });
            ways(&release, &runs, Allowance::default()).ways[0].0.name()
        };
        assert_eq!(first(90_000_000, 60_000), "chunks", "a tenth for a minute");
        assert_eq!(first(90_000_000, 5_000), "delta", "a tenth for five seconds");
        assert_eq!(first(10_000_000, 40_000), "delta", "nearly everything for most of a minute");
    }

    #[test]
    fn no_way_fetches_more_than_the_full_payload() {
        let mut release = release();
        release.deltas[0].delta.size = release.root.full.size;
        let plan = ways(&release, &Digest::of(b"runs"), Allowance::default());
        assert_eq!(names(&plan), ["chunks", "full"]);
    }
}
