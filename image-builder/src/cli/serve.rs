//! `upright-build serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Common, output};
use crate::repo::serve::Server;

/// Serve a repository over HTTP, for trying out
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The repository [default: that of the workspace]
    dir: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// The port to listen on; 0 takes a free one and prints it
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

impl Serve {
    pub(super) fn run(&self, common: &Common) -> anyhow::Result<()> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => common.open()?.repository(),
        };
        let quiet = common.quiet;
        let log = Arc::new(move |line: &str, status: u16, bytes: u64| {
            if !quiet {
                output::note(&format!("{line} {status} {bytes}"));
            }
        });
        let server = Server::bind(SocketAddr::new(self.listen, self.port), &dir, log)?;
        output::print(&format!("serving {} at http://{}", dir.display(), server.address()?))?;
        Ok(server.run()?)
    }
}
