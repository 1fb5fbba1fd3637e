//! Whatever a disk did to a slot, a repair makes it what was signed, or says that it cannot, and never writes anything else.

use proptest::prelude::*;

use super::world::{BLOCKS, World, tree_of};
use crate::apply::{ApplyError, Mended, Unreadable, audit};
use crate::fetch::fake::Trouble;
use crate::slot::fake::Fault;

const BLOCK: u64 = 4096;

/// A slot that holds the release.
fn installed() -> World {
    let world = World::new();
    world.install().0.unwrap();
    world
}

/// Damages blocks of the image and of the verity partition.
fn damage(world: &World, image: &[u64], tree: &[u64]) {
    image.iter().for_each(|block| world.root.damage(block * BLOCK + 17));
    tree.iter().for_each(|block| world.verity.damage(block * BLOCK + 17));
}

/// Every block of the slot is as it was at some time: before the damage, or after it.
fn assert_nothing_else_was_written(world: &World, damaged: &(Vec<u8>, Vec<u8>)) {
    let check = |now: &[u8], damaged: &[u8], whole: &[u8]| {
        let blocks = now.chunks(512).zip(damaged.chunks(512)).zip(whole.chunks(512));
        for (number, ((now, damaged), whole)) in blocks.enumerate() {
            assert!(now == damaged || now == whole, "sector {number}");
        }
    };
    check(&world.root.bytes(), &damaged.0, &world.image);
    check(&world.verity.bytes(), &damaged.1, &world.tree);
}

#[test]
fn a_slot_that_is_whole_is_not_written() {
    let world = installed();
    let before = (world.disk.operations(), world.disk.written());
    let (mended, fetched) = world.repair(true);
    assert_eq!((mended.unwrap(), fetched), (Mended::default(), 0));
    assert_eq!((world.disk.operations(), world.disk.written()), before);
}

#[test]
fn only_what_is_damaged_is_fetched_and_written() {
    let world = installed();
    // The one that runs has the first of them, the other nobody.
    damage(&world, &[20, 60], &[]);
    let before = world.disk.written();
    let (mended, fetched) = world.repair(true);
    assert_eq!(mended.unwrap(), Mended { blocks: 2, tree: 0 });
    world.assert_installed();
    assert_eq!(world.disk.written() - before, 2 * BLOCK);
    let head = world.release.root.full.head_size;
    assert!(fetched > head && fetched < head + 9 * BLOCK, "{fetched} bytes");
    // Frames refer back to what is damaged as well.
    damage(&world, &(50..90).collect::<Vec<_>>(), &[]);
    assert_eq!(world.repair(true).0.unwrap().blocks, 40);
    world.assert_installed();
}

#[test]
fn blocks_that_cannot_be_read_are_written_anew_even_where_zeros_are_right() {
    let world = installed();
    world.root.fault(Fault::Read, 60 * BLOCK..62 * BLOCK);
    let (unread, _) = world.repair(true);
    // Here writing does not heal, and that is told.
    assert!(unread.is_err_and(|error| error.is_local()));
    world.root.mend();
    world.assert_installed();
    world.verity.fault(Fault::Read, world.disk.bytes().len() as u64 - 8 * BLOCK..u64::MAX);
    assert!(world.repair(true).0.is_err());
    world.disk.mend();
    world.assert_installed();
}

#[test]
fn what_cannot_be_read_is_counted_or_ends_the_reading() {
    let world = installed();
    let params = tree_of(&world.image).0;
    let read = |unreadable| audit(&world.root, &world.verity, &params, unreadable, &mut |_| ());
    for unreadable in [Unreadable::Damaged, Unreadable::Ends] {
        assert!(read(unreadable).unwrap().is_whole(world.release.root.verity.root_hash));
    }
    world.root.fault(Fault::Read, 20 * BLOCK..22 * BLOCK);
    assert_eq!(read(Unreadable::Damaged).unwrap().blocks, [20, 21]);
    assert!(read(Unreadable::Ends).unwrap_err().is_local());
}

#[test]
fn a_disk_that_does_not_keep_what_is_written_is_told_of() {
    for fault in [Fault::Drop, Fault::Corrupt, Fault::Write] {
        let world = installed();
        damage(&world, &[20], &[]);
        world.root.fault(fault, 0..u64::MAX);
        let error = world.repair(true).0.unwrap_err();
        assert!(error.is_local(), "{fault:?}: {error}");
        world.disk.mend();
        world.repair(true).0.unwrap();
        world.assert_installed();
    }
}

#[test]
fn wrong_bytes_are_never_written() {
    for trouble in [Trouble::Damage(5), Trouble::Missing, Trouble::Wrong] {
        let world = installed();
        damage(&world, &[60, 61], &[3]);
        let damaged = (world.root.bytes(), world.verity.bytes());
        let before = world.disk.written();
        world.remote.always("full", trouble);
        assert!(world.repair(true).0.is_err(), "{trouble:?}");
        assert_eq!(world.disk.written(), before);
        assert!((world.root.bytes(), world.verity.bytes()) == damaged);
        world.remote.recover();
        world.repair(true).0.unwrap();
        world.assert_installed();
    }
}

#[test]
fn a_payload_of_another_image_is_never_written_even_if_it_is_signed() {
    // The leaf is known; the leaf is damaged, too, so that what is fetched has to prove itself.
    for tree in [&[][..], &[2]] {
        let mut world = installed();
        damage(&world, &[60], tree);
        let before = world.disk.written();
        let mut other = world.image.clone();
        other[60 * BLOCK as usize + 9] ^= 1;
        world.publish_payload_of(&other);
        let error = world.repair(true).0.unwrap_err();
        assert!(matches!(error, ApplyError::Beyond { .. }), "{error}");
        assert_eq!(world.disk.written(), before, "{error}");
        let image = world.image.clone();
        world.publish_payload_of(&image);
        world.repair(true).0.unwrap();
        world.assert_installed();
    }
}

#[test]
fn what_is_on_the_host_is_written_whatever_the_server_does() {
    for trouble in [Trouble::Damage(5), Trouble::Missing, Trouble::Wrong] {
        let world = installed();
        damage(&world, &[20, 60], &[]);
        world.remote.always("full", trouble);
        assert!(world.repair(true).0.is_err(), "{trouble:?}");
        assert_eq!(wrong_blocks(&world), [60], "{trouble:?}");
    }
}

/// With a whole tree, and where what is above the leaves is damaged as well.
#[test]
fn a_repair_that_is_cut_off_goes_on_where_it_was() {
    for tree in [&[][..], &[1]] {
        let world = damaged_in_many_frames(tree);
        let (mut left, mut rounds) = (wrong_blocks(&world).len(), 0);
        loop {
            let (mended, _) = repair_with_little(&world);
            rounds += 1;
            let Err(error) = mended else { break };
            let now = wrong_blocks(&world).len();
            assert!(now < left, "round {rounds} with {tree:?}: {error}");
            left = now;
        }
        assert!(rounds > 2, "{rounds} rounds with {tree:?}");
        world.assert_installed();
    }
}

/// A block of leaves is damaged: blocks 128 to 255 prove themselves only together. With the one above it, all do.
#[test]
fn what_nothing_proves_before_all_is_had_waits_and_keeps_nothing_else_waiting() {
    for (tree, is_proven) in [(&[3][..], true), (&[1, 2], false)] {
        let world = damaged_in_many_frames(tree);
        let of_the_first = |world: &World| wrong_blocks(world).iter().filter(|block| **block < 128).count();
        let before = of_the_first(&world);
        for _ in 0..6 {
            assert!(repair_with_little(&world).0.is_err());
        }
        assert_eq!(of_the_first(&world), if is_proven { 0 } else { before }, "{tree:?}");
        world.remote.recover();
        world.repair(true).0.unwrap();
        world.assert_installed();
    }
}

fn damaged_in_many_frames(tree: &[u64]) -> World {
    let world = installed();
    damage(&world, &(50..90).chain((130..250).step_by(7)).collect::<Vec<_>>(), tree);
    world
}

/// The payload's head comes, and not much more.
fn repair_with_little(world: &World) -> (Result<Mended, ApplyError>, u64) {
    world.remote.cut("full", world.release.root.full.head_size + 40_000);
    world.repair(true)
}

/// The blocks of the image that are not what they should be.
fn wrong_blocks(world: &World) -> Vec<u64> {
    let (now, whole) = (world.root.bytes(), &world.image);
    let pairs = now.chunks(BLOCK as usize).zip(whole.chunks(BLOCK as usize)).enumerate();
    pairs.filter(|(_, (now, whole))| now != whole).map(|(number, _)| number as u64).collect()
}

#[test]
fn another_image_is_not_taken_for_a_damaged_one() {
    let world = World::new();
    let before = world.disk.written();
    for may_look in [true, false] {
        let error = world.repair(may_look).0.unwrap_err();
        assert!(matches!(error, ApplyError::Beyond { .. }), "{error}");
    }
    assert_eq!(world.disk.written(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// With the power going at any step, and again in the repair after that.
    #[test]
    fn any_damage_is_mended_whenever_power_goes(
        image in prop::collection::btree_set(0..BLOCKS as u64, 0..12),
        tree in prop::collection::btree_set(0u64..5, 0..4),
        may_look in any::<bool>(),
        cuts in prop::collection::vec((0u64..24, any::<u64>()), 0..3),
    ) {
        let world = installed();
        let (image, tree): (Vec<u64>, Vec<u64>) = (image.into_iter().collect(), tree.into_iter().collect());
        damage(&world, &image, &tree);
        let damaged = (world.root.bytes(), world.verity.bytes());
        for (operations, seed) in cuts {
            world.disk.lose_power_after(operations);
            let _ = world.repair(may_look);
            world.disk.restart(seed);
            assert_nothing_else_was_written(&world, &damaged);
        }
        let (mended, fetched) = world.repair(may_look);
        mended.unwrap();
        world.assert_installed();
        prop_assert!(fetched <= world.release.root.full.size);
    }
}
