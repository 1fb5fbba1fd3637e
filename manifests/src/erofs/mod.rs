//! EROFS images: the on-disk format and a reader.
