//! What all targets share: an allocator that ends the run when an input makes more than its parser may take.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Memory that any parser may take for messages, tables and the like, whatever the input's length, in bytes.
const BASE: usize = 256 << 10;

/// Runs `parse`, which may take `times` the input's length in memory, beside a little. More ends the program: the
/// allocation fails.
pub fn in_proportion<T>(input: &[u8], times: usize, parse: impl FnOnce() -> T) -> T {
    within(BASE + times * input.len(), parse)
}

/// Runs `work`, which may take so many bytes of memory.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let _ = ALLOCATOR.set_limit(ALLOCATOR.allocated().saturating_add(bytes));
    let outcome = work();
    let _ = ALLOCATOR.set_limit(usize::MAX);
    outcome
}

/// Takes the input apart: two bytes say how long the first part is.
pub fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}
