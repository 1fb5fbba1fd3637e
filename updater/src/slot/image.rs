//! A slot's root partition as the EROFS reader wants it.

use std::io;

use upright_manifests::erofs::ReadAt;

use crate::host::BlockDevice;

/// The image on a root partition.
pub struct Image<'a>(pub &'a dyn BlockDevice);

impl ReadAt for Image<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }
}
