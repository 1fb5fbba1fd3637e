//! Part 2: the whole of A over the network into an empty slot, read back.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figures::Figure;
use super::host::{Journey, Way, travel, update_line};
use super::kept::Kept;
use super::measure::{Cost, Shell};
use super::pair::Tree;
use super::publisher::{FIRST, Publisher};

/// What Part 2 works with.
pub(super) struct Installs<'a> {
    /// Where our programs run.
    pub(super) shell: &'a Shell,
    /// Results that stand.
    pub(super) kept: &'a Kept,
    /// The agent's hash.
    pub(super) agent: &'a str,
    /// Our releases.
    pub(super) publisher: &'a Publisher<'a>,
}

/// The host runs B, so that it has nothing to do with what it takes but that it is older.
const JOURNEY: Journey =
    Journey { runs: Tree::B, holds: None, takes: Tree::A, channel: FIRST, way: Way::Full };

/// How a shell does it, from a file: unpack, write, verify.
const UNPACK: &str =
    "zstd -q -d -c solid.zst | dd of=scratch/out bs=4M iflag=fullblock oflag=direct conv=fsync status=none";

#[derive(Serialize, Deserialize)]
struct Solid {
    bytes: u64,
    cost: Cost,
}

impl Installs<'_> {
    /// The agent, and whether it got there.
    pub(super) fn ours(&self) -> Result<(Figure, bool)> {
        self.publisher.publish_first()?;
        self.publisher.build(JOURNEY.runs)?;
        let line = update_line(&JOURNEY);
        let inputs = [self.publisher.key().to_owned(), self.agent.to_owned(), line.clone()];
        let arrival = self.kept.or("install-upright", &inputs, || {
            travel(self.shell, self.publisher, &JOURNEY).context("a full install of A")
        })?;
        let figure = Figure::new("upright update, by the full payload", line, arrival.cost);
        Ok((Figure { bytes: Some(arrival.fetched), ..figure }, arrival.verified))
    }

    /// The same image by zstd, dd and veritysetup, from the file that [`Self::solid`] measures.
    pub(super) fn theirs(&self, solid: &Figure) -> Result<Vec<Figure>> {
        let record = self.publisher.record(Tree::A)?;
        let params = record.root.verity;
        let image = format!("workspace/builds/{}/root.erofs", Tree::A.version());
        let verify = format!("veritysetup verify scratch/out scratch/verity {}", params.root_hash);
        let inputs = [record.root.sha256.to_string(), UNPACK.to_owned(), verify.clone()];
        self.kept.or("install-shell", &inputs, || {
            let format = format!(
                "test -s solid.zst || {}; rm -rf scratch && mkdir scratch && veritysetup format --salt={} --uuid={} {image} scratch/verity | grep --quiet {}",
                solid.command,
                params.salt,
                params.uuid,
                params.root_hash
            );
            self.shell.run(&format).context("making the hash tree of A")?;
            super::say(UNPACK);
            let unpack = self.shell.measure(UNPACK)?;
            let verified = self.shell.measure(&verify)?;
            self.shell.run("rm -rf scratch")?;
            Ok(vec![
                Figure { bytes: solid.bytes, ..Figure::new("zstd and dd", UNPACK.to_owned(), unpack) },
                Figure::new("veritysetup verify", verify.clone(), verified),
                Figure::new("the two together", "-".to_owned(), unpack.and(verified)),
            ])
        })
    }

    /// A's image as one solid zstd file: what the full payload's frames are compared with.
    pub(super) fn solid(&self) -> Result<Figure> {
        self.publisher.build(Tree::A)?;
        let image = format!("workspace/builds/{}/root.erofs", Tree::A.version());
        let line = format!("zstd -q -19 {image} -o solid.zst");
        let inputs = [self.publisher.image(Tree::A)?.to_string(), line.clone()];
        let solid = self.kept.or("solid", &inputs, || {
            super::say(&line);
            self.shell.run("rm -f solid.zst")?;
            let cost = self.shell.measure(&line)?;
            let bytes = self.shell.at("solid.zst").metadata()?.len();
            ensure!(bytes > 0, "zstd made nothing");
            Ok(Solid { bytes, cost })
        })?;
        Ok(Figure { bytes: Some(solid.bytes), ..Figure::new("one solid zstd -19", line, solid.cost) })
    }
}
