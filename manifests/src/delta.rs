//! The delta container: what turns the image of one release into that of another.
