//! Differences of numbers that stand in old and new bytes.
//!
//! What moved in a program changes all numbers that point there by the same distance. Byte by byte, that distance looks otherwise
//! wherever a byte overflows; as numbers, it is the same four bytes each time, which compress far better. So a difference is added
//! with carry inside of a number. Where the numbers are is told by the old bytes alone.

/// How a difference is added to old bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// Each byte for itself.
    Bytes,
    /// Little-endian numbers of four bytes, where the offset in the source is a multiple of four: tables.
    Words,
    /// Little-endian numbers of four bytes behind what looks like a call, a jump or an access relative to the instruction, for
    /// x86-64.
    Code,
}

impl Numbers {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bytes, Self::Words, Self::Code];

    /// What `new` differs by from the source's bytes from `offset` on.
    pub fn between(self, offset: u64, new: &[u8], old: &[u8]) -> Vec<u8> {
        let mut bytes = new.to_vec();
        Difference::new(self, offset).each(&mut bytes, old, u8::overflowing_sub);
        bytes
    }
}

/// A difference on its way through the bytes of one operation.
pub struct Difference {
    numbers: Numbers,
    /// Where the next byte is in the source.
    offset: u64,
    /// Bytes that are left of a number in code.
    left: u8,
    /// The byte before, if it is not part of a number in code.
    before: u8,
    carry: bool,
}

impl Difference {
    /// The difference to a source from `offset` on.
    pub fn new(numbers: Numbers, offset: u64) -> Self {
        Self { numbers, offset, left: 0, before: 0, carry: false }
    }

    /// Adds the next bytes of the source to those of the difference.
    pub fn add(&mut self, difference: &mut [u8], old: &[u8]) {
        self.each(difference, old, u8::overflowing_add);
    }

    /// Takes a step with each byte and the one of the source, and another with what is carried within a number.
    fn each(&mut self, bytes: &mut [u8], old: &[u8], step: impl Fn(u8, u8) -> (u8, bool)) {
        let pairs = bytes.iter_mut().zip(old);
        if self.numbers == Numbers::Bytes {
            return pairs.for_each(|(byte, old)| *byte = step(*byte, *old).0);
        }
        for (byte, old) in pairs {
            self.advance(*old);
            let (first, over) = step(*byte, *old);
            let (second, again) = step(first, u8::from(self.carry));
            (*byte, self.carry) = (second, over | again);
        }
    }

    /// Drops the carry where a number starts or none is.
    fn advance(&mut self, old: u8) {
        if self.numbers == Numbers::Words {
            self.carry &= !self.offset.is_multiple_of(4);
            self.offset += 1;
            return;
        }
        if self.left > 0 {
            self.carry &= self.left < 4;
            self.left -= 1;
            return;
        }
        self.carry = false;
        let has_number = match (self.before, old) {
            // Calls and jumps.
            (_, 0xe8 | 0xe9) | (0x0f, 0x80..=0x8f) => true,
            // What moves, compares and computes, with an address relative to the instruction.
            (opcode, mode) => mode & 0xc7 == 5 && RELATIVE.contains(&opcode),
        };
        (self.before, self.left) = if has_number { (0, 4) } else { (old, 0) };
    }
}

/// The opcodes that most often have an address relative to the instruction.
const RELATIVE: [u8; 10] = [0x8b, 0x8d, 0x89, 0x3b, 0x39, 0x80, 0x83, 0xc6, 0xc7, 0xff];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moved_by_the_same_distance_differs_by_the_same_bytes() {
        let call = |to: u32| [&[0x90, 0xe8], &to.to_le_bytes()[..]].concat();
        let (old, new) = ([call(0x10), call(0xf0f0)].concat(), [call(0x30), call(0xf110)].concat());
        let moved = [0, 0, 0x20, 0, 0, 0];
        assert_eq!(Numbers::Code.between(0, &new, &old), moved.repeat(2));
        assert_ne!(Numbers::Bytes.between(0, &new, &old), moved.repeat(2));
        let table = |numbers: [u32; 3]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let (old, new) = (table([1, 0xff, 0x1_0000]), table([0, 0xfe, 0xffff]));
        assert_eq!(Numbers::Words.between(8, &new, &old), [0xff; 12]);
        assert_ne!(Numbers::Words.between(9, &new, &old), [0xff; 12]);
    }

    proptest! {
        #[test]
        fn what_was_taken_away_and_is_added_is_there_again(
            pairs in prop::collection::vec((any::<u8>(), prop_oneof![any::<u8>(), Just(0xe8), Just(5), Just(0x8b)]), 0..200),
            cut in any::<prop::sample::Index>(),
            offset in 0u64..8,
        ) {
            let (new, old): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
            for numbers in Numbers::ALL {
                let mut bytes = numbers.between(offset, &new, &old);
                // In any portions.
                let cut = cut.index(new.len() + 1);
                let mut adding = Difference::new(numbers, offset);
                adding.add(&mut bytes[..cut], &old[..cut]);
                adding.add(&mut bytes[cut..], &old[cut..]);
                prop_assert_eq!(&bytes, &new);
            }
        }
    }
}
