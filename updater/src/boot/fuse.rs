//! Where tests cut the power: between any two changes of what a boot loader reads.

use std::io;

/// Burns out after a number of steps. Outside of tests it never does.
#[derive(Debug, Clone, Default)]
pub(super) struct Fuse {
    #[cfg(test)]
    left: std::sync::Arc<std::sync::Mutex<Option<u32>>>,
}

#[cfg(test)]
impl Fuse {
    /// Lets that many steps pass and fails all that come after them; with `None`, lets all pass.
    pub(super) fn set(&self, left: Option<u32>) {
        *self.left.lock().unwrap() = left;
    }

    /// A step is about to be taken.
    pub(super) fn step(&self) -> io::Result<()> {
        match &mut *self.left.lock().unwrap() {
            Some(0) => Err(io::Error::other("power cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(not(test))]
impl Fuse {
    /// A step is about to be taken.
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the test's counterpart fails")]
    pub(super) fn step(&self) -> io::Result<()> {
        Ok(())
    }
}
