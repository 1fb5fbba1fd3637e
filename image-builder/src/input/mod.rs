//! Where a tree comes from: a directory, a tar, an OCI image, an OSTree ref.
