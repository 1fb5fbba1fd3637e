//! What can be wrong with an answer.

/// One thing that is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status with a short page instead of the file.
    Status(u16),
    /// These bytes instead of the file, with status 200: a captive portal's page, another file, nothing.
    Instead(Vec<u8>),
    /// The byte at this offset of the file is another one.
    Flip(u64),
    /// The file goes on with this many more bytes, and the length says so.
    TooMuch(u64),
    /// The file lacks this many bytes at its end, and the length says so.
    TooLittle(u64),
    /// The connection ends after this many bytes of the body.
    Cut(u64),
    /// Nothing comes after this many bytes of a body that is longer, and the connection stays open.
    Stall(u64),
    /// This many bytes each tenth of a second.
    Trickle(u64),
    /// Ranges are ignored: always the whole file.
    NoRanges,
    /// The body never ends: its announced length is as long as can be, or it has none.
    Endless {
        /// Whether there is a `Content-Length`.
        announced: bool,
    },
    /// The connection ends without an answer.
    HangUp,
}
