//! Reads a target with tough from a repository in a folder:
//!
//! `upright-tough METADATA_FOLDER TARGETS_FOLDER TRUSTED_ROOT TARGET` writes the target's verified bytes to standard
//! output.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use async_trait::async_trait;
use tough::{
    FilesystemTransport, IntoVec, RepositoryLoader, TargetName, Transport, TransportError, TransportStream,
};
use url::Url;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [metadata, targets, root, target] = &arguments[..] else {
        return Err("four arguments are needed".into());
    };
    let bytes = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(read(
        folder(metadata)?,
        folder(targets)?,
        &std::fs::read(root)?,
        target,
    ))?;
    Ok(std::io::stdout().write_all(&bytes)?)
}

async fn read(metadata: Url, targets: Url, root: &[u8], target: &str) -> Outcome<Vec<u8>> {
    let repository = RepositoryLoader::new(&root, metadata, targets).transport(Folders).load().await?;
    let stream = repository.read_target(&TargetName::new(target)?).await?;
    Ok(stream.ok_or_else(|| format!("{target} is not listed"))?.into_vec().await?)
}

fn folder(path: &str) -> Outcome<Url> {
    let path = Path::new(path).canonicalize()?;
    Url::from_directory_path(&path).map_err(|()| format!("{} has no address", path.display()).into())
}

/// Folders, with the names of consistent snapshots as the specification has them (TUF 1.0, section 5.7.3): the hash stands
/// before the file's name, `folder/HASH.file`, where tough puts it before the path, `HASH.folder/file`.
#[derive(Debug, Clone)]
struct Folders;

#[async_trait]
impl Transport for Folders {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        FilesystemTransport.fetch(nested(&url).unwrap_or(url)).await
    }
}

/// The address with the hash in its place, if it is that of a target in a folder.
fn nested(url: &Url) -> Option<Url> {
    let mut parts: Vec<String> = url.path_segments()?.map(str::to_owned).collect();
    let file = parts.pop()?;
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (place, hash, folder) = parts.iter().enumerate().find_map(|(place, part)| {
        let (hash, folder) = part.split_once('.').filter(|(hash, _)| is_hash(hash))?;
        Some((place, hash.to_owned(), folder.to_owned()))
    })?;
    parts[place] = folder;
    parts.push(format!("{hash}.{file}"));
    let mut nested = url.clone();
    nested.set_path(&parts.join("/"));
    Some(nested)
}
