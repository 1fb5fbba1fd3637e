//! Harness for tests that need both sides: host requirements, root file systems, virtual machines, servers.
