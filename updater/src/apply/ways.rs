//! Which ways lead to a release from here, cheapest first: a pure plan.

use serde::Serialize;
use upright_manifests::digest::Digest;
use upright_manifests::release::{DeltaEdge, Release};

/// A way to get a root image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A delta from the image of the booted slot.
    Delta(DeltaEdge),
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

/// The ways to `release` for a host that runs the image with root hash `booted`. Ways named in `without` are left out. No
/// way fetches more than the full payload: a delta that is larger is no way.
pub fn ways(release: &Release, booted: &Digest, without: &[String]) -> WayPlan {
    let full = release.root.full.size;
    let uki = release.uki.compose.size;
    let writes = release.root.size + release.root.verity.hash_size + release.uki.size;
    let mut plan = WayPlan { ways: Vec::new(), without: Vec::new(), writes };
    let edge = release.deltas.iter().find(|edge| edge.from_root_hash == *booted);
    let left_out = |way: &str| without.iter().any(|name| name == way);
    match edge {
        _ if left_out("delta") => plan.leave_out("delta", "the configuration leaves it out".to_owned()),
        None => plan.leave_out("delta", "none is published from the release that runs".to_owned()),
        Some(edge) if edge.delta.size >= full => {
            plan.leave_out("delta", format!("it has {} bytes, the full payload {full}", edge.delta.size));
        }
        Some(edge) => plan.ways.push((Way::Delta(edge.clone()), edge.delta.size + uki)),
    }
    match left_out("chunks") {
        true => plan.leave_out("chunks", "the configuration leaves it out".to_owned()),
        // How many chunks are missing is known when their index is there; never more than everything.
        false => plan.ways.push((Way::Chunks, full + uki)),
    }
    plan.ways.push((Way::Full, full + uki));
    plan
}

impl WayPlan {
    fn leave_out(&mut self, way: &str, reason: String) {
        self.without.push((way.to_owned(), reason));
    }
}
