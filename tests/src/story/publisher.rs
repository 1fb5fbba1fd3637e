//! The publisher's side of a story: a workspace, and its repository served by `upright-build serve`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::debian::OS;
use crate::programs;

/// Partitions as small as the releases allow, little work to compress, and a console on the serial line. The rest
/// spares TCG some work.
const SETTINGS: [(&str, &str); 6] = [
    ("payload = 19", "payload = 3"),
    ("slot = \"4GiB\"", "slot = \"512MiB\""),
    ("verity = \"40MiB\"", "verity = \"8MiB\""),
    ("esp = \"512MiB\"", "esp = \"128MiB\""),
    ("var = \"1GiB\"", "var = \"256MiB\""),
    ("cmdline = \"\"", "cmdline = \"console=ttyS0 loglevel=4 no_timer_check 8250.nr_uarts=1\""),
];

/// A workspace whose repository is served until this is dropped.
pub(super) struct Publisher {
    workspace: PathBuf,
    server: Child,
    port: u16,
}

impl Publisher {
    /// Makes a workspace in `folder` and serves its repository.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let workspace = folder.join("workspace");
        let made = programs::run(
            "upright-build",
            ["init".as_ref(), workspace.as_os_str(), "--os".as_ref(), OS.as_ref()],
        )?;
        ensure!(made.status == 0, "upright-build init: {}", made.stderr);
        let path = workspace.join("upright.toml");
        let mut text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for (from, to) in SETTINGS {
            ensure!(text.contains(from), "{} has no {from:?} to change", path.display());
            text = text.replace(from, to);
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        let (server, port) = serve(&workspace, 0)?;
        Ok(Self { workspace, server, port })
    }

    /// Serves the repository of the workspace in `folder` at the port that its hosts know.
    pub(super) fn open(folder: &Path, port: u16) -> Result<Self> {
        let workspace = folder.join("workspace");
        let (server, port) = serve(&workspace, port)?;
        Ok(Self { workspace, server, port })
    }

    /// The port that the repository is served at.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Compresses what is published from now on in a tenth of the time.
    pub(super) fn compress_lightly(&self) -> Result<()> {
        self.edit(|text| text.replace("payload = 19", "payload = 1").replace("\ndelta = 19", "\ndelta = 3"))
    }

    /// Signs the UKIs of what is built from now on.
    pub(super) fn sign_for_secure_boot(&self, key: &Path, certificate: &Path) -> Result<()> {
        let section = format!(
            "[secure-boot]\nkey = \"{}\"\ncertificate = \"{}\"\n\n",
            key.display(),
            certificate.display()
        );
        self.edit(|text| text.replacen("[roles.root]", &format!("{section}[roles.root]"), 1))
    }

    /// Signs no more UKIs.
    pub(super) fn sign_no_more(&self) -> Result<()> {
        self.edit(|text| {
            let lines = text.lines().filter(|line| {
                !line.starts_with("[secure-boot]")
                    && !line.starts_with("certificate =")
                    && !line.starts_with("key =")
            });
            lines.map(|line| format!("{line}\n")).collect()
        })
    }

    fn edit(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let path = self.workspace.join("upright.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        fs::write(&path, change(text)).with_context(|| format!("writing {}", path.display()))
    }

    /// The folder of a build.
    pub(super) fn build_folder(&self, version: &str) -> PathBuf {
        self.workspace.join("builds").join(version)
    }

    /// The TUF root that hosts ship with.
    pub(super) fn root_json(&self) -> PathBuf {
        self.workspace.join("root.json")
    }

    /// The repository's address as a guest sees it: QEMU's user network has this machine's loopback at 10.0.2.2.
    pub(super) fn url_for_guests(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// Builds a release from a tar.
    pub(super) fn build(&self, tar: &Path, version: &str) -> Result<()> {
        let tar = tar.to_str().context("a path is not UTF-8")?;
        self.run(&["build", tar, "--version", version]).map(drop)
    }

    /// Offers a release to hosts, and gives how many bytes its full image is to fetch.
    pub(super) fn publish(&self, version: &str) -> Result<u64> {
        let published = self.run(&["publish", version, "--json"])?.json()?;
        published["full"].as_u64().with_context(|| format!("no size of the full payload in {published}"))
    }

    /// Exports what a host that runs `from` needs for a release into a folder.
    pub(super) fn export(&self, version: &str, from: &str, out: &Path) -> Result<()> {
        let out = out.to_str().context("a path is not UTF-8")?;
        self.run(&["export", version, "--from-version", from, "--output", out]).map(drop)
    }

    /// Has hosts leave updates to whoever asks for them.
    pub(super) fn leave_hosts_alone(&self) -> Result<()> {
        self.edit(|text| text.replacen("cmdline = \"", "cmdline = \"systemd.mask=upright.service ", 1))
    }

    /// Writes the disk image of a build.
    pub(super) fn disk(&self, version: &str, out: &Path) -> Result<()> {
        let out = out.to_str().context("a path is not UTF-8")?;
        self.run(&["disk", version, "--output", out]).map(drop)
    }

    /// Audits the repository.
    pub(super) fn check(&self) -> Result<()> {
        self.run(&["check"]).map(drop)
    }

    fn run(&self, arguments: &[&str]) -> Result<programs::Ran> {
        programs::build(&self.workspace, arguments)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts the server, at any port if it is 0, and reads the port it took.
fn serve(workspace: &Path, port: u16) -> Result<(Child, u16)> {
    let program = programs::folder()?.join("upright-build");
    let mut server = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(&program)
        .arg("-C")
        .arg(workspace)
        .args(["--quiet", "serve", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut line = String::new();
    if let Some(output) = server.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.with_context(|| format!("the server said {line:?} instead of its address"))?;
    Ok((server, port))
}
