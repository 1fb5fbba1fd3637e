//! What a host relies on: whatever happens on the line, on the disk and to the power, the slot ends up holding exactly what was
//! signed, or an error says why not, and nobody can find half a release.

use proptest::prelude::*;
use upright_manifests::release::Release;

use super::*;
use crate::fetch::fake::Trouble;
use crate::machine::Progress;
use crate::slot::fake::Fault;
use world::{BLOCKS, World, room, size, tree_of};

mod repair;
mod world;

const WAYS: [&[&str]; 3] = [&[], &["delta"], &["delta", "chunks"]];

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
fn what_cannot_be_read_before_it_is_written_is_found_by_the_read_back() {
    let world = World::new().without(&["delta", "chunks"]);
    world.root.fault(Fault::Read, 8 * 4096..9 * 4096);
    let failed = world.install().0.unwrap_err().to_string();
    assert!(failed.contains("read the slot back"), "{failed}");
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

#[test]
fn a_damaged_byte_anywhere_in_a_file_is_never_used() {
    let sizes = {
        let release = World::new().release;
        [("delta", release.deltas[0].delta.size), ("full", release.root.full.size)]
    };
    for (path, size) in sizes {
        for at in (0..size).step_by(size as usize / 23) {
            let world = World::new().without(if path == "full" { &["delta", "chunks"] } else { &[] });
            world.remote.always(path, Trouble::Damage(at));
            let (result, _) = world.install();
            if path == "full" {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("full") && error.lines().count() == 1, "{error}");
                world.assert_whole_or_hidden();
            } else {
                assert_eq!(result.unwrap().way, "chunks");
                world.assert_installed();
            }
        }
    }
}

#[test]
fn a_part_that_was_damaged_once_is_fetched_again() {
    for (without, way) in WAYS.into_iter().zip(["delta", "chunks", "full"]) {
        let world = World::new().without(without);
        // A first file, which is fetched once more, and the parts after it.
        world.remote.once([Trouble::Damage(3), Trouble::End(u64::MAX), Trouble::Damage(5000)]);
        assert_eq!(world.install().0.unwrap().way, way);
        world.assert_installed();
        world.assert_never_mended();
    }
}

#[test]
fn a_server_that_is_away_leaves_the_progress_for_later() {
    for without in WAYS {
        let world = World::new().without(without);
        let path = if without.is_empty() { "delta" } else { "full" };
        world.remote.always(path, Trouble::Busy);
        let error = world.install().0.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        world.assert_whole_or_hidden();
        world.remote.recover();
        world.install().0.unwrap();
        world.assert_installed();
        world.assert_never_mended();
    }
}

#[test]
fn what_the_disk_got_wrong_is_mended_by_fetching_only_that() {
    for without in [&[][..], &["delta"]] {
        for block in [1, 41, 150, BLOCKS as u64 - 1] {
            let world = World::new().without(without);
            world.disk.fault(Fault::Corrupt, block * 4096..block * 4096 + 1);
            let (result, _) = world.install();
            match result {
                // In place already, so never written.
                Ok(_) => assert!([1, 41].contains(&block), "{without:?}: {block}"),
                Err(error) => assert!(matches!(error, ApplyError::ReadBack { .. }), "{error}"),
            }
            world.assert_whole_or_hidden();
        }
    }
    // Damaged on the disk that runs: the delta makes something else of it.
    let world = World::new();
    world.base.damage(230 * 4096 + 5);
    let (result, fetched) = world.install();
    assert_eq!(result.unwrap().way, "chunks");
    world.assert_installed();
    let release = &world.release;
    let frames = fetched - release.deltas[0].delta.size - release.root.chunks.size;
    assert!(frames < release.root.full.size / 4, "{frames} bytes");
}

#[test]
fn a_disk_that_drops_writes_or_fails_is_never_trusted() {
    let places = [0, 4096, 200 * 4096, 340 * 4096, 341 * 4096, 342 * 4096, 343 * 4096];
    for fault in [Fault::Drop, Fault::Corrupt, Fault::Write, Fault::Read] {
        for place in places {
            for without in WAYS {
                let world = World::new().without(without);
                world.disk.fault(fault, place..place + 4096);
                let (result, _) = world.install();
                if result.is_ok() {
                    // The very block was not written, because it was right already.
                    world.disk.mend();
                    world.assert_installed();
                }
            }
        }
    }
}

#[test]
fn a_read_error_on_the_slot_that_runs_leads_another_way() {
    let world = World::new();
    world.base.fault(Fault::Read, 30 * 4096..31 * 4096);
    assert_eq!(world.install().0.unwrap().way, "chunks", "the other slot has it");
    world.assert_installed();
    let world = World::new();
    world.base.fault(Fault::Read, 30 * 4096..31 * 4096);
    world.verity.damage(0);
    world.root.damage(30 * 4096);
    assert_eq!(world.install().0.unwrap().way, "full");
    world.assert_installed();
}

#[test]
fn a_uki_that_the_esp_changed_is_refused() {
    let world = World::new();
    *world.boot.damages.lock().unwrap() = true;
    assert!(matches!(world.install().0, Err(ApplyError::Uki { .. })));
    *world.boot.damages.lock().unwrap() = false;
    let (result, fetched) = world.install();
    result.unwrap();
    world.assert_installed();
    let release = &world.release;
    let heads = release.deltas[0].delta.head_size + release.uki.compose.size;
    assert!(fetched <= heads, "the image was there already: {fetched}");
}

#[test]
fn a_compose_file_that_cannot_be_had_is_named() {
    let world = World::new();
    world.remote.always("compose", Trouble::Missing);
    let error = world.install().0.unwrap_err().to_string();
    assert!(error.contains("UKI") && error.contains("404"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_exact_shortfall() {
    let world = World::new();
    assert_eq!(room().root, size(&world.root));
    assert!(preflight(&world.release, room(), "b").is_ok());
    let hash_size = world.release.root.verity.hash_size;
    let tight =
        Room { root: world.release.root.size, verity: hash_size, esp: world.release.uki.size, ..room() };
    assert!(preflight(&world.release, tight, "b").is_ok());
    for (room, place) in [
        (Room { root: tight.root - 1, ..tight }, "root-b,"),
        (Room { verity: tight.verity - 1, ..tight }, "root-b-verity"),
        (Room { esp: tight.esp - 1, ..tight }, "ESP"),
        (Room { state: tight.state - 1, ..tight }, "the file system of /var/lib/upright"),
    ] {
        let error = preflight(&world.release, room, "b").unwrap_err().to_string();
        assert!(error.contains(": 1 bytes too few; nothing was changed"), "{error}");
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn every_instant_of_a_power_cut_is_survived() {
    for (number, without) in WAYS.into_iter().enumerate() {
        let whole = World::new().without(without);
        whole.install().0.unwrap();
        let operations = whole.disk.operations();
        let image_costs = whole.install().1;
        for instant in 1..=operations {
            let world = World::new().without(without);
            world.disk.lose_power_after(instant);
            assert!(world.install().0.is_err());
            world.disk.restart(instant * 7 + number as u64);
            world.assert_whole_or_hidden();
            world.install().0.unwrap();
            world.assert_installed();
            world.assert_never_mended();
        }
        assert!(operations > 20 && image_costs > 0, "{operations}");
    }
}

#[test]
fn a_restart_goes_on_where_the_last_checkpoint_was() {
    for without in WAYS {
        let world = World::new().without(without);
        let whole = world.install().1;
        let world = World::new().without(without);
        let path = if without.is_empty() { "delta" } else { "full" };
        let size = if without.is_empty() {
            world.release.deltas[0].delta.size
        } else {
            world.release.root.full.size
        };
        // Long enough for some checkpoints, then nothing comes any more.
        world.remote.once([Trouble::End(u64::MAX); 2]);
        let after = if without == ["delta"] { 100_000 } else { size * 3 / 4 };
        world.remote.cut(path, after);
        let (result, first) = world.install();
        assert!(result.unwrap_err().is_temporary());
        world.disk.restart(1);
        world.remote.recover();
        let (result, second) = world.install();
        let taken = result.unwrap();
        world.assert_installed();
        assert_eq!(taken.fetched, first + second);
        world.assert_never_mended();
        assert!(second < whole, "{without:?}: {second} of {whole}");
    }
}

#[test]
fn what_was_interrupted_costs_no_more_than_what_was_not() {
    for (without, path) in [(&[][..], "delta"), (&["delta"], "full")] {
        for is_empty in [false, true] {
            let world = || {
                let world = World::new().without(without);
                if is_empty {
                    world.verity.damage(0);
                }
                world
            };
            let (written, fetched) = world().cost();
            for after in (0..).step_by(977) {
                let world = world();
                world.remote.cut(path, after);
                if world.install().0.is_ok() {
                    break;
                }
                world.remote.recover();
                let mut kept = world.kept.lock().unwrap().clone();
                if kept.place() == (0, None) {
                    // As if it had been killed.
                    kept = Progress::default();
                }
                *world.kept.lock().unwrap() = kept;
                let (again, more) = world.cost();
                assert!(again <= written, "{path} {is_empty} {after}: {again} of {written} bytes written");
                assert!(more <= fetched, "{path} {is_empty} {after}: {more} of {fetched} bytes fetched");
                world.assert_never_mended();
            }
        }
    }
}

#[test]
fn what_was_written_is_counted_with_each_note() {
    let world = World::new().without(&["delta", "chunks"]);
    world.verity.damage(0);
    world.install().0.unwrap();
    let noted = world.noted.lock().unwrap();
    assert!(noted.len() > 3);
    // All but the first block, which gets its place last.
    assert!(noted.iter().all(|progress| progress.written + 4096 == progress.durable), "{noted:?}");
}

#[test]
fn a_tree_is_compared_to_the_last_byte() {
    let world = World::new();
    let (params, area) = tree_of(&world.image);
    assert!(area == world.tree);
    world.install().0.unwrap();
    assert!(check_tree(&world.verity, &params).is_ok());
    for at in (0..area.len() as u64).step_by(97) {
        world.verity.damage(at);
        assert!(check_tree(&world.verity, &params).is_err(), "byte {at}");
        world.verity.damage(at);
    }
}

#[test]
fn progress_of_another_delta_is_not_gone_on_with() {
    let world = World::new();
    let other = upright_manifests::digest::Digest::of(b"another delta");
    let progress =
        Progress { way: "delta".into(), durable: 0, segments: Some((other, 4)), ..Progress::default() };
    *world.kept.lock().unwrap() = progress;
    world.install().0.unwrap();
    world.assert_installed();
    world.assert_never_mended();
}

#[test]
fn a_delta_for_something_else_is_not_applied() {
    let mut world = World::new();
    // Signed, and yet not what it should be.
    world.release.deltas[0].delta = world.release.uki.compose.clone();
    assert_eq!(world.install().0.unwrap().way, "chunks");
    world.assert_installed();
    world.assert_never_mended();
    let mut world = World::new();
    world.release.deltas[0].delta = world.release.root.full.clone();
    assert_eq!(world.install().0.unwrap().way, "chunks");
    world.assert_never_mended();
}

#[test]
fn a_payload_or_a_uki_whose_head_says_that_it_is_another_is_not_taken() {
    let changes: [fn(&mut Release); 4] = [
        |release| release.root.full.size += 1,
        |release| release.root.size += 4096,
        |release| release.uki.size += 1,
        |release| release.uki.compose.size += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = World::new().without(&["delta", "chunks"]);
        change(&mut world.release);
        let error = world.install().0.unwrap_err().to_string();
        assert!(error.contains("made for another "), "{number}: {error}");
    }
}

#[test]
fn a_tree_of_another_kind_is_hidden_too() {
    for instant in 1..40 {
        let world = World::new();
        // The name of the hash algorithm.
        world.verity.damage(32);
        world.disk.lose_power_after(instant);
        assert!(world.install().0.is_err());
        world.disk.restart(instant);
        world.assert_whole_or_hidden();
    }
}

#[test]
fn what_may_have_been_written_over_is_not_believed_after_a_restart() {
    let operations = {
        let world = World::new().without(&["delta"]);
        world.install().0.unwrap();
        world.disk.operations()
    };
    for instant in 1..operations {
        for seed in 0..8 {
            let world = World::new().without(&["delta"]);
            world.disk.lose_power_after(instant);
            assert!(world.install().0.is_err());
            world.disk.restart(seed);
            world.install().0.unwrap();
            world.assert_installed();
            world.assert_never_mended();
        }
    }
}

/// What a wrong byte is in.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Delta,
    Full,
    Chunks,
    Compose,
    /// The slot that runs.
    Base,
    /// The slot that is written.
    Slot,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    use Wrong::*;
    prop::sample::select(vec![Delta, Full, Chunks, Compose, Base, Slot])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A byte that is wrong, wherever it is, and a cut of power on top: the release, or a refusal.
    #[test]
    fn no_wrong_byte_is_ever_installed(
        way in 0usize..3,
        wrong in wrong(),
        at in any::<prop::sample::Index>(),
        instant in 1u64..200,
        seed in any::<u64>(),
    ) {
        let world = World::new().without(WAYS[way]);
        let release = &world.release;
        let file = |path, size: u64| world.remote.always(path, Trouble::Damage(at.index(size as usize) as u64));
        match wrong {
            Wrong::Delta => file("delta", release.deltas[0].delta.size),
            Wrong::Full => file("full", release.root.full.size),
            Wrong::Chunks => file("chunks", release.root.chunks.size),
            Wrong::Compose => file("compose", release.uki.compose.size),
            Wrong::Base => world.base.damage(at.index(size(&world.base) as usize) as u64),
            // Its superblock can be found as it was before.
            Wrong::Slot => world.root.damage(4096 + at.index(size(&world.root) as usize - 4096) as u64),
        }
        world.disk.lose_power_after(instant);
        if world.install().0.is_err() {
            world.disk.restart(seed);
        }
        match world.install().0 {
            Ok(_) if matches!(wrong, Wrong::Slot) => {
                prop_assert!(world.root.durable()[..world.image.len()] == world.image);
            }
            Ok(_) => world.assert_installed(),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    /// Many cuts of power and line in a row, on any way.
    #[test]
    fn any_sequence_of_faults_ends_in_the_release(
        way in 0usize..3,
        faults in prop::collection::vec((1u64..120, any::<u64>(), prop::collection::vec(0u64..20_000, 0..6)), 1..6),
    ) {
        let world = World::new().without(WAYS[way]);
        for (instant, seed, drops) in faults {
            world.disk.lose_power_after(instant);
            let trouble = |(number, after): (usize, u64)| match number % 3 {
                0 => Trouble::Drop(after),
                1 => Trouble::Busy,
                _ => Trouble::Damage(after % 100),
            };
            world.remote.once(drops.into_iter().enumerate().map(trouble));
            let _ = world.install();
            world.disk.restart(seed);
            world.assert_whole_or_hidden();
        }
        world.remote.recover();
        world.install().0.unwrap();
        world.assert_installed();
        world.assert_never_mended();
    }
}
