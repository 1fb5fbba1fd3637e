//! The publisher's commands, one a file.
