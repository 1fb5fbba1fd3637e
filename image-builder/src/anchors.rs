//! Places in content that are found again wherever the content has moved to.

/// One of so many places, as a power of two, is an anchor, by what its last 64 bytes are.
const RARE: u32 = 10;

/// The anchors in `bytes`: a hash of the last 64 bytes, and where they end.
pub(crate) fn anchors(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut hash = 0u64;
    for (at, byte) in (0..).zip(bytes) {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        // What repeats itself, such as zeros, is one anchor.
        if hash >> (64 - RARE) == 0 && found.last().is_none_or(|(last, _)| *last != hash) {
            found.push((hash, at));
        }
    }
    found
}

/// A number without a pattern for each byte (splitmix64).
const GEAR: [u64; 256] = {
    let mut gear = [0; 256];
    let mut state = 0u64;
    let mut at = 0;
    while at < gear.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        gear[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    gear
};
