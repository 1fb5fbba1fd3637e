//! Layouts that follow another.

use proptest::prelude::*;

use super::*;

/// A tree with a few hundred files of some blocks each.
fn release() -> Sketch {
    let mut sketch = Sketch::new();
    for index in 0..300usize {
        let path = format!("usr/{}/file {index}", index % 7);
        sketch.file(path.as_bytes(), &vec![index as u8; 1 + index * 37 % 20_000]);
    }
    sketch
}

fn place(layout: &Layout, path: &str) -> Run {
    let file = layout.files.iter().find(|file| file.path == path).unwrap();
    Run { start: file.start, blocks: file.blocks() }
}

fn changed_blocks(old: &[u8], new: &[u8]) -> usize {
    new.chunks(4096).zip(old.chunks(4096)).filter(|(new, old)| new != old).count()
}

#[test]
fn following_without_a_change_changes_nothing() {
    let (image, base) = image_of(&release(), None);
    let (again, written) = image_of(&release(), Some(&base.layout));
    assert!(written.followed);
    assert!(again == image);
    assert_eq!(written.layout, base.layout);
}

#[test]
fn a_change_stays_small() {
    let (image, base) = image_of(&release(), None);
    let mut next = release();
    next.file(b"usr/3/file 10", &[0xee; 9_000]);
    next.file(b"usr/3/new", &[0xdd; 5_000]);
    let (other, written) = image_of(&next, Some(&base.layout));
    assert!(written.followed);
    assert!(read_back(&other) == next.normal());
    // Superblock, records of the two files and their directory, and the blocks of their contents.
    assert!(changed_blocks(&image, &other) <= 4 + 3, "{}", changed_blocks(&image, &other));
    let fresh = image_of(&next, None).0;
    assert!(changed_blocks(&image, &fresh) > 200);
}

#[test]
fn a_changed_file_stays_in_place_and_what_outgrew_its_place_fills_a_hole() {
    let (_, base) = image_of(&release(), None);
    let mut next = release();
    let (same, smaller, larger) = ("usr/0/file 70", "usr/0/file 280", "usr/1/file 50");
    let length = |path: &str| place(&base.layout, path).blocks as usize * 4096;
    next.file(same.as_bytes(), &vec![0xe1; length(same)]);
    next.file(smaller.as_bytes(), &vec![0xe2; length(smaller) - 4096]);
    next.file(larger.as_bytes(), &vec![0xe3; length(larger) + 1]);
    next.tree.paths.remove(b"usr/5/file 208".as_slice());
    let hole = place(&base.layout, "usr/5/file 208");
    assert!(hole.blocks > place(&base.layout, larger).blocks);
    let (_, written) = image_of(&next, Some(&base.layout));
    assert!(written.followed);
    assert_eq!(place(&written.layout, same), place(&base.layout, same));
    assert_eq!(place(&written.layout, smaller).start, place(&base.layout, smaller).start);
    assert_eq!(written.layout.blocks, base.layout.blocks, "holes are filled before the image grows");
    let moved = place(&written.layout, larger).start;
    assert_ne!(moved, place(&base.layout, larger).start);
}

#[test]
fn a_moved_file_keeps_its_blocks() {
    let (_, base) = image_of(&release(), None);
    let mut next = release();
    let index = next.tree.paths.remove(b"usr/0/file 7".as_slice()).unwrap();
    next.tree.paths.insert(b"usr/elsewhere".to_vec(), index);
    let (_, written) = image_of(&next, Some(&base.layout));
    assert_eq!(place(&written.layout, "usr/elsewhere"), place(&base.layout, "usr/0/file 7"));
}

#[test]
fn metadata_that_outgrows_its_region_moves_and_files_stay() {
    let (_, base) = image_of(&release(), None);
    let mut next = release();
    for index in 0..2_000 {
        next.add(format!("links/{index}").as_bytes(), inode(Kind::Symlink(b"../usr".to_vec()), 0o777));
    }
    let (image, written) = image_of(&next, Some(&base.layout));
    assert!(written.followed);
    assert_ne!(written.layout.records.region, base.layout.records.region);
    assert!(read_back(&image) == next.normal());
    for file in &base.layout.files {
        assert_eq!(place(&written.layout, &file.path).start, file.start);
    }
}

#[test]
fn inode_numbers_stay_where_names_come_and_go() {
    let mut first = release();
    first.add(b"dev/large", inode(Kind::Symlink(vec![b'x'; 3000]), 0o777));
    let (_, base) = image_of(&first, None);
    let mut next = first.clone();
    next.tree.paths.remove(b"usr/0/file 14".as_slice());
    next.tree.paths.remove(b"usr/1/file 1".as_slice());
    next.file(b"a new first", b"1");
    next.add(b"dev/larger", inode(Kind::Symlink(vec![b'x'; 3000]), 0o777));
    let (image, written) = image_of(&next, Some(&base.layout));
    assert!(written.followed);
    assert!(read_back(&image) == next.normal());
    let slots = |layout: &Layout| -> BTreeMap<RecordOf, u64> {
        layout.records.records.iter().map(|record| (record.of.clone(), record.slot)).collect()
    };
    let (before, after) = (slots(&base.layout), slots(&written.layout));
    let moved: Vec<_> =
        before.iter().filter(|(of, slot)| after.get(of).is_some_and(|now| now != *slot)).collect();
    // The directory that got a name may have to move; nothing else does.
    assert!(moved.len() <= 1, "{moved:?}");
}

#[test]
fn the_root_directory_keeps_its_number_as_it_grows() {
    let (_, base) = image_of(&release(), None);
    let mut next = release();
    (0..100).for_each(|index| next.directory(format!("{index}").as_bytes()));
    let (_, written) = image_of(&next, Some(&base.layout));
    assert!(written.followed);
    let root = |written: &Written| written.layout.records.records[0].clone();
    assert_eq!(root(&written), root(&base));
    assert_eq!(root(&base).of, RecordOf::Path(String::new()));
}

#[test]
fn too_much_waste_makes_a_fresh_layout() {
    let (_, base) = image_of(&release(), None);
    let mut next = release();
    next.tree.paths.retain(|path, _| !path.starts_with(b"usr/3/"));
    let (image, written) = image_of(&next, Some(&base.layout));
    assert!(!written.followed);
    assert!(image == image_of(&next, None).0);
}

#[test]
fn a_base_that_contradicts_itself_is_followed_as_far_as_it_makes_sense() {
    let (_, base) = image_of(&release(), None);
    let damage: [fn(&mut Layout); 7] = [
        |layout| layout.files.iter_mut().for_each(|file| file.start = 5),
        |layout| layout.files.iter_mut().for_each(|file| file.start = u64::MAX),
        |layout| layout.records.records.iter_mut().for_each(|record| record.slot = 127),
        |layout| layout.records.records.iter_mut().for_each(|record| record.slot += 127),
        |layout| layout.records.region.blocks = u64::MAX,
        |layout| layout.records.region.blocks = 1 << 40,
        |layout| layout.records.region = Run::default(),
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        let mut layout = base.layout.clone();
        damage(&mut layout);
        let (image, _) = image_of(&release(), Some(&layout));
        assert!(read_back(&image) == release().normal(), "{number}");
    }
}

/// Something to do to a tree.
#[derive(Debug, Clone)]
enum Change {
    File { path: Vec<u8>, fill: u8, length: usize },
    Symlink { path: Vec<u8>, length: usize },
    Special { path: Vec<u8>, which: u8 },
    Link { path: Vec<u8>, to: prop::sample::Index },
    Owner { of: prop::sample::Index, uid: u32, gid: u32, mode: u16 },
    Xattr { of: prop::sample::Index, name: u8, length: usize },
    Remove { which: prop::sample::Index },
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => Just(vec![b'l'; 255]),
        1 => Just(b"!\xff".to_vec()),
    ];
    prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'))
}

fn change() -> impl Strategy<Value = Change> {
    let owner = || prop_oneof![Just(0u32), Just(65_535), Just(65_536), any::<u32>()];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (path(), 0u8..4, 0usize..20_000).prop_map(|(path, fill, length)| Change::File { path, fill, length }),
        2 => (path(), prop_oneof![1usize..100, 4000usize..4096]).prop_map(|(path, length)| Change::Symlink { path, length }),
        1 => (path(), 0u8..5).prop_map(|(path, which)| Change::Special { path, which }),
        2 => (path(), index()).prop_map(|(path, to)| Change::Link { path, to }),
        2 => (index(), owner(), owner(), 0u16..0o10000).prop_map(|(of, uid, gid, mode)| Change::Owner { of, uid, gid, mode }),
        3 => (index(), 0u8..5, prop_oneof![Just(3usize), 0usize..6_000]).prop_map(|(of, name, length)| Change::Xattr { of, name, length }),
        2 => index().prop_map(|which| Change::Remove { which }),
    ]
}

/// Does it if the tree stays a tree.
fn apply(sketch: &mut Sketch, change: &Change) {
    let is_directory = |sketch: &Sketch, path: &[u8]| {
        sketch.tree.paths.get(path).is_some_and(|&index| sketch.tree.inodes[index].kind == Kind::Directory)
    };
    let possible = |sketch: &Sketch, path: &[u8]| {
        let above = (0..path.len()).filter(|&at| path[at] == b'/').map(|at| &path[..at]);
        let blocked = above
            .filter(|above| sketch.tree.paths.contains_key(*above))
            .any(|above| !is_directory(sketch, above));
        !blocked && !is_directory(sketch, path)
    };
    let paths: Vec<Vec<u8>> = sketch.tree.paths.keys().cloned().collect();
    let chosen = |index: &prop::sample::Index| paths[index.index(paths.len())].as_slice();
    match change {
        Change::File { path, fill, length } if possible(sketch, path) => {
            sketch.file(path, &vec![*fill; *length]);
        }
        Change::Symlink { path, length } if possible(sketch, path) => {
            sketch.add(path, inode(Kind::Symlink(vec![b't'; *length]), 0o777));
        }
        Change::Special { path, which } if possible(sketch, path) => {
            let device = Device { major: 0xabc, minor: 0x9_8765 };
            let kind = [
                Kind::Fifo,
                Kind::Socket,
                Kind::CharDevice(device),
                Kind::BlockDevice(device),
                Kind::Directory,
            ];
            sketch.add(path, inode(kind[usize::from(*which)].clone(), 0o640));
        }
        Change::Link { path, to } if possible(sketch, path) && !is_directory(sketch, chosen(to)) => {
            if let Some(at) = path.iter().rposition(|&byte| byte == b'/') {
                sketch.directory(&path[..at]);
            }
            sketch.link(path, chosen(to));
        }
        Change::Owner { of, uid, gid, mode } => {
            let inode = sketch.change(chosen(of));
            (inode.uid, inode.gid, inode.mode) = (*uid, *gid, *mode);
        }
        Change::Xattr { of, name, length } => {
            let name = format!("user.{name}").into_bytes();
            sketch.change(chosen(of)).xattrs.insert(name, vec![7; *length]);
        }
        Change::Remove { which } if !chosen(which).is_empty() => {
            let path = chosen(which);
            let inside = [path, b"/"].concat();
            sketch.tree.paths.retain(|other, _| other != path && !other.starts_with(&inside));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn chains_of_releases_hold_their_trees_and_keep_what_has_not_changed(
        first in prop::collection::vec(change(), 0..60),
        later in prop::collection::vec(prop::collection::vec(change(), 0..8), 0..4),
    ) {
        let mut sketch = Sketch::new();
        first.iter().for_each(|change| apply(&mut sketch, change));
        let (image, mut base) = image_of(&sketch, None);
        prop_assert!(read_back(&image) == sketch.normal());
        for changes in later {
            changes.iter().for_each(|change| apply(&mut sketch, change));
            let (image, written) = image_of(&sketch, Some(&base.layout));
            prop_assert!(read_back(&image) == sketch.normal());
            let places: BTreeMap<Digest, u64> =
                base.layout.files.iter().map(|file| (file.sha256, file.start)).collect();
            for file in written.layout.files.iter().filter(|_| written.followed) {
                prop_assert_eq!(*places.get(&file.sha256).unwrap_or(&file.start), file.start);
            }
            base = written;
        }
    }
}
