//! Everything that comes over the network: HTTP, TUF metadata, manifests.
