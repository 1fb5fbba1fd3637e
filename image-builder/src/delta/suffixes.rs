//! A second opinion on what new bytes have in common with old ones: that of `bidiff`, which looks everything up in a suffix array.
//!
//! It finds what [`super::matching`] passes over and the other way round, so the two compete for each file. What did not change is
//! taken out first. A suffix array takes four times what it sorts, and content that repeats itself takes time with the square
//! of what is repeated: both are bounded, and what is beyond is left to the other.

use std::convert::Infallible;

use super::matching::{self, Match};

/// Bytes in a row that did not change, and are not looked at again.
const UNCHANGED: usize = 2048;
/// The most bytes, old or new, that are looked at.
const MOST: usize = 2 << 20;
/// The fewest new bytes that are worth it.
const LEAST: usize = 256;
/// Bytes that count as a repetition.
const WINDOW: usize = 64;
/// Bytes compared, for each byte there is, at most.
const PATIENCE: usize = 512;

/// The matches between `old` and `new`, ascending and disjoint in the new bytes. `known` are those that another found. Nothing if
/// it would take too much.
pub(super) fn matches(old: &[u8], new: &[u8], known: &[Match]) -> Option<Vec<Match>> {
    let unchanged = unchanged(old, new, known);
    let (left_old, left_new) = (
        Left::of(old, unchanged.iter().map(|found| (found.old, found.length))),
        Left::of(new, unchanged.iter().map(|found| (found.new, found.length))),
    );
    let fits = (1..=MOST).contains(&left_old.bytes.len()) && (LEAST..=MOST).contains(&left_new.bytes.len());
    if !fits || repeats(&left_old.bytes) > PATIENCE * left_old.bytes.len() {
        return None;
    }
    let mut found = unchanged;
    let add = |theirs: bidiff::Match| {
        let (old, new) = (theirs.add_old_start, theirs.add_new_start);
        left_old.pieces(old, theirs.add_length, |old, done, length| {
            left_new.pieces(new + done, length, |new, done, length| {
                found.push(Match { new, old: old + done, length });
            });
        });
        Ok::<_, Infallible>(())
    };
    let Ok(()) = bidiff::diff(&left_old.bytes, &left_new.bytes, &bidiff::DiffParams::default(), add);
    found.sort_unstable_by_key(|found| found.new);
    Some(found)
}

/// What of the matches is equal for long. A stretch of the old bytes counts once.
fn unchanged(old: &[u8], new: &[u8], known: &[Match]) -> Vec<Match> {
    let mut found: Vec<Match> = Vec::new();
    for known in known {
        let (old, new) = (&old[known.old..][..known.length], &new[known.new..][..known.length]);
        let mut at = 0;
        while at < known.length {
            let equal = matching::common(&old[at..], &new[at..]);
            if equal >= UNCHANGED {
                found.push(Match { new: known.new + at, old: known.old + at, length: equal });
            }
            at += equal.max(1);
        }
    }
    found.sort_unstable_by_key(|found| found.old);
    let mut end = 0;
    found.retain(|found| {
        let is_first = found.old >= end;
        end = end.max(found.old + found.length);
        is_first
    });
    found
}

/// What is left of bytes when some are taken out.
struct Left {
    bytes: Vec<u8>,
    /// Where each piece of them was, and where it is.
    pieces: Vec<(usize, usize)>,
}

impl Left {
    fn of(all: &[u8], out: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut out: Vec<_> = out.collect();
        out.sort_unstable();
        let mut left = Self { bytes: Vec::new(), pieces: Vec::new() };
        let mut start = 0;
        for (at, length) in out.into_iter().chain([(all.len(), 0)]) {
            if at > start {
                left.pieces.push((start, left.bytes.len()));
                left.bytes.extend(&all[start..at]);
            }
            start = at + length;
        }
        left
    }

    /// Calls `each` for all pieces of `length` bytes at `at`: where one was, how many came before, and how many there are.
    fn pieces(&self, at: usize, length: usize, mut each: impl FnMut(usize, usize, usize)) {
        let mut done = 0;
        while done < length {
            let here = at + done;
            let next = self.pieces.partition_point(|(_, is)| *is <= here);
            let Some((was, is)) = next.checked_sub(1).map(|piece| self.pieces[piece]) else { return };
            let end = self.pieces.get(next).map_or(self.bytes.len(), |(_, is)| *is);
            let part = (length - done).min(end - here);
            if part == 0 {
                return;
            }
            each(was + here - is, done, part);
            done += part;
        }
    }
}

/// About how many bytes a search compares in vain, because they stand in several places: the square of the length of each
/// repetition.
fn repeats(bytes: &[u8]) -> usize {
    let bits = (2 * bytes.len() / WINDOW).max(256).ilog2();
    let mut places = vec![u32::MAX; 1 << bits];
    let window = |at: usize| bytes.get(at..)?.first_chunk::<WINDOW>();
    let slot = |hash: u64| (hash.wrapping_mul(FACTOR) >> (64 - bits)) as usize;
    for at in (0..bytes.len()).step_by(WINDOW) {
        let Some(window) = window(at) else { break };
        let place = &mut places[slot(hash(window))];
        *place = (*place).min(at as u32);
    }
    let (mut cost, mut run, mut at) = (0, 0, 0);
    let mut rolling = window(0).map_or(0, hash);
    while let Some(here) = window(at) {
        let place = places[slot(rolling)] as usize;
        let is_there = place != at && window(place) == Some(here);
        let step = if is_there { WINDOW } else { 1 };
        if is_there {
            run += WINDOW;
        } else {
            cost += run * run;
            run = 0;
        }
        rolling = match window(at + step) {
            Some(next) if step == WINDOW => hash(next),
            Some(next) => roll(rolling, here[0], next[WINDOW - 1]),
            None => break,
        };
        at += step;
    }
    cost + run * run
}

/// An odd number without a pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash of a window that can be rolled on by a byte.
fn hash(window: &[u8; WINDOW]) -> u64 {
    window.iter().fold(0, |hash: u64, byte| hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1))
}

/// The hash of the window after `hash`'s, which loses `first` and gains `last`.
fn roll(hash: u64, first: u8, last: u8) -> u64 {
    let gone = (u64::from(first) + 1).wrapping_mul(const { power(WINDOW as u32) });
    hash.wrapping_mul(FACTOR).wrapping_add(u64::from(last) + 1).wrapping_sub(gone)
}

const fn power(of: u32) -> u64 {
    FACTOR.wrapping_pow(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(mut state: u32, length: usize) -> Vec<u8> {
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn check(old: &[u8], new: &[u8], found: &[Match]) {
        let mut end = 0;
        for found in found {
            assert!(found.new >= end && found.old + found.length <= old.len(), "{found:?}");
            end = found.new + found.length;
        }
        assert!(end <= new.len());
    }

    #[test]
    fn what_moved_is_found_around_what_did_not_change() {
        let old = noise(1, 100_000);
        // The end moves to the front, some bytes change here and there.
        let mut new = [&old[60_000..70_000], &old[..60_000], &old[70_000..]].concat();
        new.iter_mut().step_by(40).take(700).for_each(|byte| *byte ^= 1);
        let known = matching::matches(&old, &new);
        let found = matches(&old, &new, &known).unwrap();
        check(&old, &new, &found);
        let same = |found: &Match| {
            let pairs = old[found.old..].iter().zip(&new[found.new..]).take(found.length);
            pairs.filter(|(old, new)| old == new).count()
        };
        assert!(found.iter().map(same).sum::<usize>() > 98_000);
    }

    #[test]
    fn what_would_take_too_much_is_left_alone() {
        let (some, other) = (noise(1, 50_000), noise(2, 50_000));
        let none = |old: &[u8], new: &[u8]| matches(old, new, &[]).is_none();
        assert!(!none(&some, &other));
        assert!(none(&[], &some) && none(&some, &[]));
        assert!(none(&noise(3, MOST + 1), &some) && none(&some, &noise(3, MOST + 1)));
        assert!(none(&vec![0; 500_000], &some));
        assert!(none(&[&some[..], &vec![7; 200_000], &other].concat(), &some));
        assert!(none(&b"0123456789abcde".repeat(20_000), &some));
        assert!(none(&[&some[..], &other, &some, &other].concat(), &some));
        // A few zeros between sections harm nobody.
        assert!(!none(&[&some[..], &[0; 4000], &other].concat(), &some));
    }

    #[test]
    fn a_hash_rolls() {
        let bytes = noise(4, 200);
        let window = |at: usize| bytes[at..].first_chunk::<WINDOW>().unwrap();
        let mut rolling = hash(window(0));
        for at in 0..100 {
            assert_eq!(rolling, hash(window(at)));
            rolling = roll(rolling, bytes[at], bytes[at + WINDOW]);
        }
    }
}
