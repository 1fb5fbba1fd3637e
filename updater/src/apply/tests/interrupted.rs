//! Power cuts and restarts: writing goes on where it stopped, and believes nothing that may have been written over.

use proptest::prelude::*;

use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

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
