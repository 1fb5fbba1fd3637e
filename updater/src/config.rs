//! The host configuration, `/etc/upright/upright.toml`.
