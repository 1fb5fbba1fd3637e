//! Resolves host names on a machine without DNS servers.
//!
//! The resolver in use reads `/etc/resolv.conf` and `/etc/hosts` itself, as a static binary must. Without a
//! `resolv.conf` it would ask a public server on the internet, which no one has asked it to; then the hosts file alone
//! counts.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whether the machine says which DNS servers to ask.
pub(super) fn has_servers() -> bool {
    fs::read_to_string(RESOLV_CONF).is_ok_and(|text| names_a_server(&text))
}

/// Resolves from `/etc/hosts` alone; hosts(5).
pub(super) struct HostsFile;

impl Resolve for HostsFile {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let found = addresses(&hosts, name.as_str());
        let answer = match found.is_empty() {
            false => Ok(Box::new(found.into_iter()) as Addrs),
            true => Err(io::Error::other(format!("{RESOLV_CONF} names no DNS server")).into()),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn names_a_server(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver") && words.next().is_some_and(|word| !word.is_empty())
    })
}

/// Port 0 stands for the scheme's own.
fn addresses(hosts: &str, name: &str) -> Vec<SocketAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then(|| SocketAddr::new(address, 0))
    };
    hosts.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read_as_the_system_reads_it() {
        let hosts = "127.0.0.1 localhost\n::1 localhost ip6\n10.0.0.1\tupdates.example  Updates # old 10.0.0.2\nbad x";
        assert_eq!(addresses(hosts, "updates").len(), 1);
        assert_eq!(addresses(hosts, "LOCALHOST").len(), 2);
        assert!(addresses(hosts, "10.0.0.2").is_empty());
        assert!(addresses(hosts, "x").is_empty());
    }

    #[test]
    fn a_server_is_named_or_not() {
        assert!(names_a_server("# none\nsearch x\nnameserver 10.0.2.3\n"));
        assert!(!names_a_server("# nameserver 1.1.1.1\nnameserver\n"));
    }
}
