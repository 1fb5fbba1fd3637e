//! What our own scripts and the agent share on the ESP is damaged: the scripts go by values of their own then, and so does the agent.

use std::fs;

use upright_manifests::boot::grub_env::GrubEnv;
use upright_manifests::boot::uboot_env::UbootEnv;
use upright_manifests::name::Slot;

use super::benches::{GRUB_BLOCK, UBOOT_FILE, UBOOT_SIZE, grub, uboot_on_esp};
use super::{Bench, Make, Trust, entry, new, old};

/// Each boot loader with such a file, and the file.
const OURS: [(Make, &str); 2] = [(grub, GRUB_BLOCK), (uboot_on_esp, UBOOT_FILE)];

/// What is left of a file.
type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

const DAMAGES: [Damage; 4] = [
    |file| Some(vec![0xa5; file.len()]),
    |file| Some([vec![0; 512], file[512..].to_vec(), vec![1; 700]].concat()),
    |_| Some(Vec::new()),
    |_| None,
];

impl Bench {
    fn damage(&self, file: &str, damage: Damage) {
        let path = self.root.path().join(file);
        match damage(fs::read(&path).unwrap()) {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let concerns = self.boot.concerns().unwrap();
        let told = concerns.iter().find(|concern| concern.says.contains("until it is written anew"));
        assert!(told.is_some_and(|told| told.says.contains(file)), "{concerns:?}");
    }

    /// Whether the file is one that boot loader and agent can use.
    fn is_well(&self, file: &str) -> bool {
        let bytes = fs::read(self.root.path().join(file)).unwrap();
        let told = self.boot.concerns().unwrap().iter().any(|concern| concern.says.contains("written anew"));
        let is_valid = match file {
            GRUB_BLOCK => bytes.len() == 1024 && GrubEnv::parse(&bytes).is_ok(),
            _ => bytes.len() == UBOOT_SIZE && UbootEnv::parse(&bytes, false).is_ok(),
        };
        is_valid && !told
    }
}

/// 1.1.0 in slot b, proven; 1.2.0 in slot a is on trial, which is what the scripts start without their file.
fn on_trial_in_slot_a(make: Make) -> Bench {
    let (bench, newest) = (Bench::proven(make), entry(Slot::A, "1.2.0"));
    bench.prepare(&new(), &newest).unwrap();
    bench.boot.switch(&newest, 3).unwrap();
    assert_eq!(bench.start(), "1.2.0");
    bench
}

fn each(test: impl Fn(Make, &str, Damage)) {
    for (make, file) in OURS {
        DAMAGES.iter().for_each(|damage| test(make, file, *damage));
    }
}

#[test]
fn a_trial_that_is_not_counted_any_more_can_be_left() {
    each(|make, file, damage| {
        let bench = on_trial_in_slot_a(make);
        bench.damage(file, damage);
        let newest = entry(Slot::A, "1.2.0");
        assert_eq!((bench.start().as_str(), bench.trust(&newest)), ("1.2.0", Some(Trust::Good)));
        bench.boot.mark_bad(&newest).unwrap();
        assert!(bench.is_well(file));
        assert_eq!((bench.trust(&new()), bench.trust(&newest)), (Some(Trust::Good), Some(Trust::Bad)));
        for _ in 0..5 {
            assert_eq!(bench.come_up(Slot::B), "1.1.0");
        }
    });
}

#[test]
fn a_trial_that_would_not_be_started_any_more_can_be_proven() {
    each(|make, file, damage| {
        let bench = Bench::updated(make);
        assert_eq!(bench.start(), "1.1.0");
        bench.damage(file, damage);
        bench.boot.mark_good(&new()).unwrap();
        assert!(bench.is_well(file));
        assert_eq!(bench.come_up(Slot::B), "1.1.0");
    });
}

#[test]
fn what_came_up_stays_the_first_and_is_counted_again() {
    each(|make, file, damage| {
        let bench = Bench::proven(make);
        bench.damage(file, damage);
        bench.boot.came_up(&new()).unwrap();
        assert!(bench.is_well(file));
        for _ in 0..5 {
            assert_eq!(bench.come_up(Slot::B), "1.1.0");
        }
    });
}

#[test]
fn an_update_counts_its_trial_again() {
    each(|make, file, damage| {
        let bench = make();
        bench.damage(file, damage);
        assert_eq!(bench.come_up(Slot::A), "1.0.0");
        bench.prepare(&old(), &new()).unwrap();
        bench.boot.switch(&new(), 2).unwrap();
        assert!(bench.is_well(file));
        let boots = [bench.start(), bench.start(), bench.start(), bench.start()];
        assert_eq!(boots, ["1.1.0", "1.1.0", "1.0.0", "1.0.0"]);
    });
}

#[test]
fn power_may_go_while_it_is_written_anew() {
    each(|make, file, damage| {
        for steps in 0..64 {
            let (bench, newest) = (on_trial_in_slot_a(make), entry(Slot::A, "1.2.0"));
            bench.damage(file, damage);
            bench.fuse.set(Some(steps));
            let done = bench.boot.mark_bad(&newest).is_ok();
            bench.fuse.set(None);
            let next = bench.next();
            assert!(done && next == "1.1.0" || !done && next == "1.2.0", "{next} after {steps} steps");
            bench.boot.mark_bad(&newest).unwrap();
            assert!(bench.is_well(file) && bench.next() == "1.1.0");
            if done {
                assert!(steps > 1);
                return;
            }
        }
        panic!("it never ended");
    });
}

#[test]
fn variables_of_others_are_not_written_over() {
    let theirs: [&[u8]; 2] = [
        b"# GRUB Environment Clock\nsaved_entry=0\nORDER=A B\n",
        b"xxxx\0baudrate=115200\0bootcmd=run distro_bootcmd\0\0",
    ];
    for ((make, file), theirs) in OURS.into_iter().zip(theirs) {
        let bench = Bench::proven(make);
        let path = bench.root.path().join(file);
        fs::write(&path, theirs).unwrap();
        assert!(bench.boot.mark_bad(&new()).is_err() && bench.boot.trust(&new()).is_err());
        let error = bench.boot.concerns().unwrap_err().to_string();
        assert!(
            error.contains("it is not replaced since it has ") && error.contains(": make it anew"),
            "{error}"
        );
        assert!(fs::read(&path).unwrap() == theirs);
    }
}
