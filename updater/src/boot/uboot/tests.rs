//! Environments in files and regions, torn and worn.

use std::fs;

use super::*;

const SIZE: usize = 0x2000;

/// An environment in a region of one file, `copies` times, with a variable of the board's own.
fn board(copies: usize) -> (tempfile::TempDir, Uboot) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mmcblk0");
    let mut env = UbootEnv::empty(SIZE, copies > 1);
    env.set("bootcmd", "run distro_bootcmd");
    let mut bytes = vec![0xaa; 4096];
    bytes.extend(env.to_bytes().unwrap());
    bytes.resize(4096 + copies * SIZE + 4096, 0x55);
    fs::write(&path, bytes).unwrap();
    let line = |copy: usize| format!("{} {:#x} {SIZE:#x}\n", path.display(), 4096 + copy * SIZE);
    let places = Places::parse(&(0..copies).map(line).collect::<String>()).unwrap();
    (folder, Uboot::new(places, SlotNames::default(), Fuse::default()))
}

fn trial() -> Choice {
    Choice { first: Slot::B, a: Trust::Good, b: Trust::Trial { left: 3, done: 0 } }
}

#[test]
fn a_board_that_was_never_updated_takes_both_slots() {
    let (_folder, uboot) = board(1);
    assert_eq!(uboot.load().unwrap(), Choice { first: Slot::A, a: Trust::Good, b: Trust::Good });
}

#[test]
fn nothing_but_the_environment_is_written_and_what_is_not_ours_stays() {
    for copies in [1, 2] {
        let (folder, uboot) = board(copies);
        for choice in [trial(), trial().proven(Slot::B), trial().left(Slot::B)] {
            uboot.store(&choice).unwrap();
            assert_eq!(uboot.load().unwrap(), choice);
        }
        let current = uboot.read().unwrap();
        assert_eq!(current.env.get("bootcmd"), Some("run distro_bootcmd"));
        let bytes = fs::read(folder.path().join("mmcblk0")).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 0xaa));
        assert!(bytes[4096 + copies * SIZE..].iter().all(|byte| *byte == 0x55));
    }
}

/// Of two copies, the one that is written may end anywhere.
#[test]
fn a_write_that_is_torn_anywhere_leaves_the_old_copy_in_force() {
    let (folder, uboot) = board(2);
    let path = folder.path().join("mmcblk0");
    uboot.store(&trial()).unwrap();
    let before = fs::read(&path).unwrap();
    uboot.store(&trial().proven(Slot::B)).unwrap();
    let after = fs::read(&path).unwrap();
    let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
    let (start, end) = (changed[0], changed[changed.len() - 1]);
    for at in start..=end {
        let torn = [&after[..at], &before[at..]].concat();
        fs::write(&path, torn).unwrap();
        assert_eq!(uboot.load().unwrap(), trial(), "torn at {at}");
    }
}

#[test]
fn with_one_copy_a_change_is_one_sector() {
    let (folder, uboot) = board(1);
    let path = folder.path().join("mmcblk0");
    uboot.store(&trial()).unwrap();
    for choice in [trial().proven(Slot::B), trial().left(Slot::B), trial().alone(Slot::B), trial()] {
        let before = fs::read(&path).unwrap();
        uboot.store(&choice).unwrap();
        let after = fs::read(&path).unwrap();
        assert!(before != after && before[4096 + 512..] == after[4096 + 512..]);
    }
}

#[test]
fn an_environment_that_u_boot_would_not_use_is_an_error_that_says_so() {
    let (folder, uboot) = board(1);
    fs::write(folder.path().join("mmcblk0"), vec![0xff; 4096 + SIZE]).unwrap();
    let error = uboot.load().unwrap_err().to_string();
    assert!(error.contains("mmcblk0 has no U-Boot environment at 0x1000: its checksum"), "{error}");
    fs::write(folder.path().join("mmcblk0"), []).unwrap();
    assert!(uboot.load().unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn one_copy_is_a_concern_and_so_are_variables_that_are_not_there() {
    for (copies, expected) in [(1, 2), (2, 1)] {
        let (_folder, uboot) = board(copies);
        assert_eq!(uboot.concerns().unwrap().len(), expected);
        uboot.store(&trial()).unwrap();
        assert_eq!(uboot.concerns().unwrap().len(), expected - 1);
    }
}
