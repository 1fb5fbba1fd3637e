//! Part 3: what an update from A to B and from A to C takes, by each of our ways and with each peer.

use anyhow::{Context, Result};

use super::delta_row::{DeltaRow, Measured};
use super::host::{Journey, Way, travel, update_line};
use super::images::Images;
use super::kept::Kept;
use super::measure::{Cost, Shell};
use super::pair::Pair;
use super::peers::Peer;
use super::publisher::{FIRST, Publisher};
use super::trees::Trees;

/// Everything that part 3 works with.
pub(super) struct Deltas<'a> {
    /// Where our programs run.
    pub(super) ours: &'a Shell,
    /// Where the peers run.
    pub(super) theirs: &'a Shell,
    /// The input.
    pub(super) trees: &'a Trees,
    /// Results that stand.
    pub(super) kept: &'a Kept,
    /// The agent's hash.
    pub(super) agent: &'a str,
    /// Our releases.
    pub(super) publisher: &'a Publisher<'a>,
}

impl Deltas<'_> {
    /// Each way of ours, from a host whose slots both hold the old release.
    pub(super) fn ours(&self, pair: Pair) -> Result<Vec<Measured>> {
        self.ways(pair, &Way::EACH)
    }

    /// Some ways of ours.
    pub(super) fn ways(&self, pair: Pair, ways: &[Way]) -> Result<Vec<Measured>> {
        let first = self.publisher.publish_first()?;
        let published = self.publisher.publish(pair)?;
        ways.iter().map(|way| self.way(pair, *way, first, published)).collect()
    }

    fn way(&self, pair: Pair, way: Way, first: Cost, published: Cost) -> Result<Measured> {
        let channel = pair.channel();
        let journey = Journey { runs: pair.old, holds: Some(pair.old), takes: pair.new, channel, way };
        let apply = update_line(&journey);
        let name = format!("{pair}-upright-{}", way.name());
        let inputs = [self.publisher.key().to_owned(), self.agent.to_owned(), apply.clone()];
        let arrival = self.kept.or(&name, &inputs, || {
            travel(self.ours, self.publisher, &journey).with_context(|| format!("{pair} by {}", way.name()))
        })?;
        let (made, make, note) = match way {
            Way::Delta | Way::Cheapest => (
                published,
                self.publisher.publish_line(pair.new, channel),
                "Made: a publish that finds the full payload encoded, and has the delta and the signatures to make.",
            ),
            Way::Chunks | Way::Full => (
                first,
                self.publisher.publish_line(pair.old, FIRST),
                "Made: full payload and chunk index of A.",
            ),
        };
        let method = format!("upright-{}", way.name());
        let row = DeltaRow::new(pair, &method, arrival.fetched, made, arrival.cost, arrival.verified);
        let (note, reading_cpu_s) = (note.to_owned(), Some(arrival.reading_cpu_s));
        Ok(Measured { row, make, apply, note, reading_cpu_s })
    }

    /// The peers.
    pub(super) fn theirs(&self, pair: Pair, peers: &[&Peer]) -> Result<Vec<Measured>> {
        let images = Images::new(self.theirs, self.trees, self.kept);
        peers.iter().map(|peer| peer.measure(self.theirs, self.trees, &images, self.kept, pair)).collect()
    }
}
