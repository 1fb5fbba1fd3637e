//! Which way is taken, what it costs, and what comes after one that failed.

use super::*;

#[test]
fn each_way_leads_to_the_release_and_none_costs_more_than_the_full_one() {
    let mut costs = Vec::new();
    for (without, way) in WAYS.into_iter().zip(["delta", "chunks", "full"]) {
        let world = World::new().without(without);
        let (taken, fetched) = world.install();
        let taken = taken.unwrap();
        world.assert_installed();
        assert_eq!(taken.way, way);
        assert_eq!(taken.fetched, fetched);
        costs.push(fetched - world.release.uki.compose.size);
    }
    assert!(costs[0] < costs[2] / 3 && costs[1] < costs[2] / 3, "{costs:?}");
    assert_eq!(costs[2], World::new().release.root.full.size);
}

#[test]
fn chunks_of_both_slots_are_used_and_those_in_place_are_not_written() {
    let world = World::new().without(&["delta"]);
    let before = world.disk.written();
    world.install().0.unwrap();
    let written = world.disk.written() - before;
    assert!(written < world.release.root.size * 4 / 5, "{written} bytes");
    world.assert_installed();
    // The older release in the inactive slot has blocks that the one that runs does not have.
    let alone = World::new().without(&["delta"]);
    alone.verity.damage(0);
    let (result, fetched) = alone.install();
    result.unwrap();
    alone.assert_installed();
    assert!(fetched > world.install().1);
}

#[test]
fn what_a_slot_holds_already_is_not_written_again() {
    for without in [&[][..], &["delta", "chunks"]] {
        let installed = |world: World| {
            let before = world.disk.written();
            let taken = world.install().0.unwrap();
            world.assert_installed();
            (world.disk.written() - before, taken.written)
        };
        // The older release in the inactive slot has about a third of the blocks in place.
        let (gentle, counted) = installed(World::new().without(without));
        // What is left of one says nothing about what it held, and is written over without a look.
        let torn = World::new().without(without);
        torn.verity.damage(0);
        let (whole, all) = installed(torn);
        assert!(gentle < whole * 3 / 4, "{without:?}: {gentle} of {whole} bytes");
        assert!(counted < all * 3 / 4, "{without:?}: {counted} of {all} bytes are told");
    }
}

#[test]
fn what_two_slots_have_in_common_is_passed_over_and_the_read_back_tells_if_it_is_not_there() {
    let block = 5;
    // The slot's hash tree says that it is there, and is wrong.
    let world = World::new();
    world.root.damage(block * 4096 + 9);
    let (taken, fetched) = world.install();
    assert_eq!(taken.unwrap().way, "chunks");
    world.assert_installed();
    assert!(world.steps.lock().unwrap().iter().any(|step| step.starts_with("mending")));
    let (root, release) = (&world.release.root, &world.release);
    let least =
        release.deltas[0].delta.size + release.uki.compose.size + root.chunks.size + root.full.head_size;
    assert_eq!(fetched, least, "the slot that runs has what is wrong");
    // Without a hash tree to be believed, everything is compared or written.
    let world = World::new();
    world.root.damage(block * 4096 + 9);
    world.verity.damage(0);
    assert_eq!(world.install().0.unwrap().way, "delta");
    world.assert_installed();
    world.assert_never_mended();
}

#[test]
fn a_way_that_fails_makes_room_for_the_next() {
    let cases = [
        ("delta", Trouble::Missing, "chunks"),
        ("delta", Trouble::Wrong, "chunks"),
        ("chunks", Trouble::Missing, "full"),
        ("chunks", Trouble::Damage(60), "full"),
    ];
    for (path, trouble, way) in cases {
        let without: &[&str] = if path == "chunks" { &["delta"] } else { &[] };
        let world = World::new().without(without);
        world.remote.always(path, trouble);
        assert_eq!(world.install().0.unwrap().way, way, "{path} {trouble:?}");
        world.assert_installed();
    }
}

#[test]
fn when_all_ways_have_failed_the_cheapest_is_the_next() {
    let world = World::new();
    world.remote.always("delta", Trouble::Missing);
    world.remote.always("full", Trouble::Missing);
    let error = world.install().0.unwrap_err();
    assert!(matches!(&error, ApplyError::NoWay { ways, .. } if ways.len() == 3), "{error}");
    world.remote.recover();
    assert_eq!(world.install().0.unwrap().way, "delta");
    world.assert_installed();
}

#[test]
fn what_was_fetched_and_written_counts_for_the_way_that_comes_next() {
    let release = World::new().release;
    let plan = ways(&release, &release.deltas[0].from_root_hash, Allowance::default());
    let next = |way: &str, durable| {
        let progress = Progress { way: way.into(), durable, ..Progress::default() };
        install::begin_again(&plan, &progress, release.root.size)
    };
    assert_eq!(next("full", 0), "delta");
    assert_eq!(next("full", release.root.size / 2), "delta");
    assert_eq!(next("full", release.root.size - 4096), "full");
    assert_eq!(next("chunks", release.root.size - 4096), "chunks");
    assert_eq!(next("delta", release.root.size - 4096), "delta");
    assert_eq!(next("a way of another version", release.root.size), "delta");
}

#[test]
fn a_way_that_wrote_nothing_spoils_nothing_for_the_next() {
    let world = World::new();
    world.remote.always("delta", Trouble::Missing);
    assert_eq!(world.cost(), World::new().without(&["delta"]).cost());
}

#[test]
fn what_a_way_wrote_is_there_for_the_next() {
    let empty = |without: &[&str]| {
        let world = World::new().without(without);
        world.verity.damage(0);
        world
    };
    let world = empty(&[]);
    let delta = &world.release.deltas[0].delta;
    world.remote.always("delta", Trouble::Damage(delta.size - 1));
    let (_, fetched) = world.cost();
    let (chunks, alone) = (fetched - delta.size, empty(&["delta"]).cost().1);
    assert!(chunks < alone * 2 / 3, "{chunks} of {alone} bytes");
    let steps = world.steps.lock().unwrap();
    let second = steps.iter().find(|step| step.contains("by chunks")).unwrap();
    assert!(second.contains("to write, beside the ") && second.ends_with(" written so far"), "{second}");
    assert!(!steps[0].contains("beside"), "{steps:?}");
}

#[test]
fn where_the_slots_have_next_to_nothing_the_full_payload_is_taken() {
    let world = World::new().without(&["delta"]);
    world.verity.damage(0);
    world.forget_base();
    let (taken, fetched) = world.install();
    assert_eq!(taken.unwrap().way, "full");
    world.assert_installed();
    let root = &world.release.root;
    let known = root.chunks.size + root.full.head_size;
    assert_eq!(fetched, known + root.full.size + world.release.uki.compose.size);
}
