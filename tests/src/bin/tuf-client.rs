//! The TUF client behind the command-line protocol of the public conformance suite
//! (theupdateframework/tuf-conformance, `CLIENT-CLI.md`).
//!
//! All decisions are `upright_manifests::tuf`'s; this program fetches, keeps files, and exits with 0 or 1.
//! It is built dynamically, so that faketime can move its clock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::blocking::Client as Http;
use upright_manifests::tuf::{Answer, Client, Fetch, Outside, Stored, Target, names};

/// The largest stored file that is read back, in bytes.
const MAX_STORED: u64 = 16 << 20;

#[derive(Parser)]
struct Arguments {
    /// Where trusted metadata is kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Where the repository serves its metadata.
    #[arg(long)]
    metadata_url: Option<String>,
    /// Targets to download, in order.
    #[arg(long)]
    target_name: Vec<String>,
    /// Where the repository serves its targets.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where downloaded targets are kept.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trusts a root document to begin with.
    Init { trusted_root: PathBuf },
    /// Brings the top-level roles up to date.
    Refresh,
    /// Downloads targets.
    Download,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = &arguments.metadata_dir;
    if let Command::Init { trusted_root } = &arguments.command {
        let root =
            fs::read(trusted_root).with_context(|| format!("cannot read {}", trusted_root.display()))?;
        return keep(folder, "root.json", &root);
    }
    let mut client = Client::new(Stored::new(None, load(folder)?)?, Timestamp::now())?;
    let mut repository = Repository {
        http: http()?,
        url: arguments.metadata_url.as_deref().context("--metadata-url is missing")?,
        folder,
    };
    client.refresh(&mut repository)?;
    if matches!(arguments.command, Command::Download) {
        let base = arguments.target_base_url.as_deref().context("--target-base-url is missing")?;
        let folder = arguments.target_dir.as_deref().context("--target-dir is missing")?;
        for name in &arguments.target_name {
            let target = client.target(name, &mut repository)?;
            download(&repository.http, base, folder, &target)?;
        }
    }
    Ok(())
}

fn http() -> anyhow::Result<Http> {
    // Only the first call in a process can fail, and only because it was not the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Http::builder().timeout(Duration::from_secs(30)).no_proxy().build()?)
}

/// The server's metadata and the folder of trusted files.
struct Repository<'a> {
    http: Http,
    url: &'a str,
    folder: &'a Path,
}

impl Outside for Repository<'_> {
    type Error = anyhow::Error;

    fn fetch(&mut self, file: &Fetch) -> anyhow::Result<Answer> {
        let url = format!("{}/{}", self.url.trim_end_matches('/'), file.name);
        Ok(get(&self.http, &url, file.max_length)?.map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        keep(self.folder, name, bytes)
    }

    fn forget(&mut self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {name}"))
            }
            _ => Ok(File::open(self.folder)?.sync_all()?),
        }
    }
}

/// At most one byte more than `max_length` of what `url` serves; none if there is no such file.
fn get(http: &Http, url: &str, max_length: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let response = http.get(url).send().with_context(|| format!("cannot fetch {url}"))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => return Ok(None),
        status => bail!("cannot fetch {url}: the server answers {status}"),
    }
    let mut bytes = Vec::new();
    let mut body = response.take(max_length.saturating_add(1));
    body.read_to_end(&mut bytes).with_context(|| format!("cannot fetch {url}"))?;
    Ok(Some(bytes))
}

fn download(http: &Http, base: &str, folder: &Path, target: &Target) -> anyhow::Result<()> {
    // The whole target path in one escaped name: it leads nowhere else, and stays the same for a new content.
    let name = names::escape(&target.path);
    if is_current(&folder.join(&name), target)? {
        return Ok(());
    }
    let path: Vec<_> = target.fetch_path.split('/').map(names::escape).collect();
    let url = format!("{}/{}", base.trim_end_matches('/'), path.join("/"));
    let bytes = get(http, &url, target.length)?.with_context(|| format!("{url} does not exist"))?;
    let found = bytes.len() as u64;
    ensure!(found == target.length, "{url} has not the {} bytes that are signed", target.length);
    target.hashes.check(&bytes).with_context(|| url)?;
    keep(folder, &name, &bytes)
}

fn is_current(path: &Path, target: &Target) -> anyhow::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut bytes = Vec::new();
    file.take(target.length.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes.len() as u64 == target.length && target.hashes.check(&bytes).is_ok())
}

/// Reads all trusted files; one that cannot be read is an error, not a file that is missing.
fn load(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(".json") {
            let mut bytes = Vec::new();
            let file = File::open(entry.path()).with_context(|| format!("cannot read {name}"))?;
            file.take(MAX_STORED).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

/// Keeps a file so that a power cut leaves the old one or the new one, whole.
fn keep(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot keep {}", folder.join(name).display()))
}
