//! Wrong bytes and errors, from the line and from disks.

use proptest::prelude::*;
use upright_manifests::release::Release;

use super::*;

#[test]
fn what_cannot_be_read_before_it_is_written_is_found_by_the_read_back() {
    let world = World::new().without(&["delta", "chunks"]);
    world.root.fault(Fault::Read, 8 * 4096..9 * 4096);
    let failed = world.install().0.unwrap_err().to_string();
    assert!(failed.contains("read the slot back"), "{failed}");
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
}
