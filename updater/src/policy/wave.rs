//! Waves: a host's place in the fleet, and from when on it may take a release.

use jiff::Timestamp;
use upright_manifests::channel::Wave;
use upright_manifests::digest::{Digest, Digester};

/// How many places there are: shares are hundredths of a percent.
const PLACES: u64 = 10_000;

/// A host's place among `0..10000`, from its machine id and the release: another one for each release, so
/// that it is not always the same hosts that go first.
pub fn place(machine_id: &str, root_hash: &Digest) -> u16 {
    let mut digester = Digester::new();
    digester.update(b"upright wave 1\0");
    digester.update(root_hash.as_bytes());
    digester.update(machine_id.as_bytes());
    let digest = digester.finish();
    let number = digest.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    // The bias of a remainder of 2^64 by 10^4 is far below one host in any fleet.
    (number % PLACES) as u16
}

/// From when on the host at `place` may take the release; `None` if no wave reaches it yet.
pub fn open_from(waves: &[Wave], place: u16) -> Option<Timestamp> {
    if waves.is_empty() {
        return Some(Timestamp::MIN);
    }
    waves.iter().find(|wave| place < wave.share).map(|wave| wave.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_fleet_is_that_share_of_the_places() {
        let release = Digest::of(b"release");
        let in_first_tenth = (0..20_000).filter(|host| place(&host.to_string(), &release) < 1000).count();
        assert!((1_800..2_200).contains(&in_first_tenth), "{in_first_tenth} of 20000");
    }

    #[test]
    fn another_release_has_other_hosts_first() {
        let places = [b"one", b"two"].map(|release| place("host", &Digest::of(release)));
        assert_ne!(places[0], places[1]);
    }

    #[test]
    fn a_host_waits_for_the_first_wave_that_holds_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let waves = [Wave { share: 1000, from: at(10) }, Wave { share: 5000, from: at(20) }];
        assert_eq!(open_from(&waves, 999), Some(at(10)));
        assert_eq!(open_from(&waves, 1000), Some(at(20)));
        assert_eq!(open_from(&waves, 5000), None);
        assert_eq!(open_from(&[], 9999), Some(Timestamp::MIN));
    }
}
