//! How long steps tell how far they are.

/// Hears about steps. The command line draws bars; tests and libraries pass [`Silent`].
pub trait Progress: Sync {
    /// A step begins; `total` is in bytes, where it is known.
    fn begin(&self, step: &str, total: Option<u64>);

    /// The step has done so many bytes in all.
    fn reached(&self, bytes: u64);

    /// The step is over; `summary` is for people, such as `298 MB`.
    fn end(&self, summary: &str);

    /// Something worth a line of its own.
    fn note(&self, line: &str);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str, _total: Option<u64>) {}
    fn reached(&self, _bytes: u64) {}
    fn end(&self, _summary: &str) {}
    fn note(&self, _line: &str) {}
}
