//! A boot entry that is in force and was damaged is mended where it is.

use std::fs;
use std::io::Read;

use super::benches::{grub, grub_on_bios};
use super::{Bench, Make, Slot, new, old, uki};

/// The sector that a power cut leaves whole, in bytes.
const SECTOR: usize = 512;

/// What is left of an entry.
type Damage = fn(&mut Vec<u8>);

const DAMAGES: [Damage; 8] = [
    |file| file[9000] ^= 4,
    // More than one sector.
    |file| file[5000..12_000].fill(0xff),
    // The file names no release any more.
    |file| file[0x80..0x400].fill(0),
    |file| file[1024..1536].fill(b'x'),
    |file| file.truncate(7000),
    |file| file.truncate(2),
    |file| file.extend([1; 5000]),
    |_| {},
];

impl Bench {
    fn mend(&self) -> std::io::Result<()> {
        self.boot.stage_copy(&mut &uki("1.1.0")[..])?;
        let mut copy = Vec::new();
        self.boot.staged_copy()?.read_to_end(&mut copy)?;
        assert!(copy == uki("1.1.0"), "not what was stored");
        self.boot.mend(&new())
    }

    /// How many files there are in the folder of what runs.
    fn files(&self) -> usize {
        fs::read_dir(self.file(&new()).parent().unwrap()).unwrap().count()
    }
}

/// Whether each sector of `file` is one of what was there or one of what is to be, at its place.
fn is_between(file: &[u8], before: &[u8], after: &[u8]) -> bool {
    let sector =
        |bytes: &[u8], at: usize| bytes.iter().skip(at * SECTOR).take(SECTOR).copied().collect::<Vec<_>>();
    (0..file.len().div_ceil(SECTOR)).all(|at| {
        let found = sector(file, at);
        found == sector(after, at) || before.get(at * SECTOR..).is_some_and(|rest| rest.starts_with(&found))
    })
}

pub(super) fn check(make: Make) {
    for (number, damage) in DAMAGES.into_iter().enumerate() {
        for steps in 0.. {
            assert!(steps < 64, "damage {number} is never mended");
            let bench = Bench::proven(make);
            let (file, beside) = (bench.file(&new()), fs::read(bench.file(&old())).unwrap());
            let files = bench.files();
            let mut damaged = uki("1.1.0");
            damage(&mut damaged);
            fs::write(&file, &damaged).unwrap();
            assert!(bench.boot.taken(&new()).unwrap() == Some(damaged.len() as u64));
            bench.fuse.set(Some(steps));
            let done = bench.mend().is_ok();
            bench.fuse.set(None);
            let left = fs::read(&file).unwrap();
            assert!(
                is_between(&left, &damaged, &uki("1.1.0")),
                "damage {number} after {steps} steps: a sector of neither"
            );
            assert!(fs::read(bench.file(&old())).unwrap() == beside, "the other entry was touched");
            bench.mend().unwrap();
            assert!(fs::read(&file).unwrap() == uki("1.1.0") && bench.files() == files);
            for _ in 0..3 {
                assert_eq!(bench.come_up(Slot::B), "1.1.0");
            }
            bench.boot.mark_bad(&new()).unwrap();
            assert_eq!(bench.come_up(Slot::A), "1.0.0");
            if done {
                assert!(steps > 1);
                break;
            }
        }
    }
}

/// One that a cut left is in nobody's way: neither in the boot loader's nor in that of the next update.
pub(super) fn check_what_is_left(make: Make) {
    let bench = Bench::proven(make);
    let files = bench.files();
    bench.boot.stage_copy(&mut &uki("1.1.0")[..]).unwrap();
    assert_eq!(bench.files(), files + 1);
    for _ in 0..3 {
        assert_eq!(bench.come_up(Slot::B), "1.1.0");
    }
    bench.prepare(&new(), &super::entry(Slot::A, "1.2.0")).unwrap();
    assert!(bench.boot.staged_copy().is_err());
    assert_eq!(bench.come_up(Slot::B), "1.1.0");
}

#[test]
fn what_a_boot_loader_needs_beside_a_uki_is_part_of_its_entry() {
    let bench = Bench::proven(grub_on_bios);
    let lines = bench.file(&new()).with_extension("cfg");
    let whole = fs::read(&lines).unwrap();
    let damages: [fn(&std::path::Path) -> std::io::Result<()>; 2] =
        [|lines| fs::write(lines, "linux (uki)1+1 'roothash=00'\n"), |lines| fs::remove_file(lines)];
    for damage in damages {
        assert!(bench.boot.is_ready(&new()).unwrap());
        damage(&lines).unwrap();
        assert!(!bench.boot.is_ready(&new()).unwrap());
        bench.mend().unwrap();
        assert!(fs::read(&lines).unwrap() == whole);
        damage(&lines).unwrap();
        bench.boot.make_ready(&new()).unwrap();
        assert!(fs::read(&lines).unwrap() == whole);
    }
    // Where the firmware starts the UKI itself, nothing is.
    let bench = Bench::proven(grub);
    fs::remove_file(bench.file(&new()).with_extension("cfg")).unwrap();
    assert!(bench.boot.is_ready(&new()).unwrap());
}
