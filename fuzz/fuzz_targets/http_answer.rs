//! What a server says about the body that follows: nothing beyond what was asked for is ever taken.
//!
//! An input is five lines: status, range asked for, content-range, content-length, content-encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_updater::fuzzing::judge;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let (Some(status), Some(asked)) = (next().and_then(|line| line.parse().ok()), next()) else { return };
    let Some((start, end)) = asked.split_once('-') else { return };
    // Nobody asks for nothing, or backwards.
    let (Ok(start), Ok(end)) = (start.parse::<u64>(), end.parse::<u64>()) else { return };
    if start >= end {
        return;
    }
    let (content_range, content_length, content_encoding) = (next(), next(), next());
    let content_length = content_length.and_then(|line| line.parse().ok());
    in_proportion(text.as_bytes(), 10, || {
        let taken = judge(status, content_range, content_length, content_encoding, &(start..end));
        assert!(taken.is_none_or(|taken| taken <= end - start));
    });
});
