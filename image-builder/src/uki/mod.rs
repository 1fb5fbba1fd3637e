//! Unified kernel images (UAPI.5): a kernel, its initrd and its command line as one EFI program.
//!
//! The program is systemd's stub with sections appended. Its command line names the root file system by
//! content (root hash and UUIDs), so one UKI boots from either slot. Kernel and initrd are files of
//! the tree, and where they are in the UKI is part of the result: a host makes the UKI out of its root image.

mod command_line;
mod error;
mod find;
mod inspect;
mod os_release;
mod sections;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use upright_manifests::digest::Digest;
use upright_manifests::name::{Arch, OsName};
use upright_manifests::uuid::Uuid;
use upright_manifests::verity::VerityParams;
use upright_manifests::version::Version;

use crate::tools::Tool;
use crate::tree::{Content, Contents, Tree, TreePath};

pub use error::UkiError;
pub use find::{Kernel, find_kernel, read_file, read_loader};

/// What a UKI is made of beside the tree.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The OS; systemd-boot's sort key.
    pub os: &'a OsName,
    /// The release's version, which systemd-boot sorts by.
    pub version: &'a Version,
    /// The architecture it boots on.
    pub arch: Arch,
    /// The UUID in the EROFS superblock.
    pub image_uuid: Uuid,
    /// The verity tree over the image.
    pub verity: &'a VerityParams,
    /// Added to the kernel's command line.
    pub extra: &'a str,
    /// Which kernel to take where the tree has several; the newest without it.
    pub kernel: Option<&'a str>,
}

/// A UKI that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its length in bytes, before it is signed.
    pub size: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Its command line.
    pub command_line: String,
    /// Which bytes are those of files in the tree, ascending. Signing moves none of them.
    pub parts: Vec<Part>,
}

/// Bytes of a UKI that are a file of the tree, from the file's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where they start in the UKI.
    pub at: u64,
    /// How many there are: the whole file.
    pub length: u64,
    /// The file's path in the tree.
    pub path: TreePath,
    /// The SHA-256 of the file.
    pub sha256: Digest,
}

/// Writes the UKI of a tree to `out`. Equal inputs give equal bytes.
pub fn write(tree: &Tree, contents: &dyn Contents, plan: &Plan<'_>, out: &Path) -> Result<Built, UkiError> {
    let kernel = find_kernel(tree, plan.kernel)?;
    inspect::inspect(&kernel, contents, plan.arch)?;
    let command_line = command_line::compose(plan)?;
    let os_release = os_release::compose(tree, contents, plan.os, plan.version)?;
    let stub = find::read_stub(tree, contents, plan.arch)?;
    let texts = [(".osrel", &os_release), (".cmdline", &command_line), (".uname", &kernel.version)];
    let files = [(".linux", &kernel.image), (".initrd", &kernel.initrd)];
    let lengths: Vec<(&str, u64)> = (texts.iter().map(|(name, text)| (*name, text.len() as u64)))
        .chain(files.iter().map(|(name, (_, content))| (*name, content.size)))
        .collect();
    let layout = sections::lay_out(&stub, plan.arch, &lengths)?;

    let writing = |source| UkiError::Write { path: out.to_owned(), source };
    let mut file = BufWriter::new(File::create(out).map_err(writing)?);
    file.write_all(&layout.head).map_err(writing)?;
    let mut at = layout.head.len() as u64;
    for ((_, text), offset) in texts.iter().zip(&layout.offsets) {
        pad(&mut file, &mut at, *offset).and_then(|()| file.write_all(text.as_bytes())).map_err(writing)?;
        at += text.len() as u64;
    }
    let mut parts = Vec::new();
    for ((_, (path, content)), offset) in files.into_iter().zip(&layout.offsets[texts.len()..]) {
        pad(&mut file, &mut at, *offset).map_err(writing)?;
        copy(contents, path, content, &mut file)?;
        parts.push(Part { at, length: content.size, path: path.clone(), sha256: content.sha256 });
        at += content.size;
    }
    pad(&mut file, &mut at, layout.size).and_then(|()| file.flush()).map_err(writing)?;
    Ok(Built { size: layout.size, kernel: kernel.version, command_line, parts })
}

/// Signs the EFI program at `path` in place, for Secure Boot. The signature holds its time, so that unlike
/// everything else in the file it differs from run to run.
pub fn sign(path: &Path, key: &Path, certificate: &Path) -> Result<(), UkiError> {
    let mut signed = path.as_os_str().to_owned();
    signed.push(".signed");
    let signed = PathBuf::from(signed);
    let arguments = [
        "--key".as_ref(),
        key.as_os_str(),
        "--cert".as_ref(),
        certificate.as_os_str(),
        "--output".as_ref(),
        signed.as_os_str(),
        path.as_os_str(),
    ];
    Tool::Sbsign.run(arguments, &[])?;
    fs::rename(&signed, path).map_err(|source| UkiError::Write { path: path.to_owned(), source })
}

/// The SHA-256 of the first certificate (DER) in a PEM file: what the firmware keeps in its signature database.
pub fn certificate_digest(path: &Path) -> Result<Digest, UkiError> {
    let unusable = |reason: &str| UkiError::Certificate { path: path.to_owned(), reason: reason.to_owned() };
    let text = fs::read_to_string(path).map_err(|source| UkiError::Read { path: path.to_owned(), source })?;
    let begin = "-----BEGIN CERTIFICATE-----";
    let body = text.split_once(begin).and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"));
    let (body, _) = body.ok_or_else(|| unusable("it has no `-----BEGIN CERTIFICATE-----`; expected PEM"))?;
    let body: String = body.split_whitespace().collect();
    let der = Base64::decode_vec(&body).map_err(|_| unusable("its Base64 is damaged"))?;
    Ok(Digest::of(&der))
}

fn pad(out: &mut impl Write, at: &mut u64, to: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(to.saturating_sub(*at)), out)?;
    *at = to;
    Ok(())
}

fn copy(
    contents: &dyn Contents,
    path: &[u8],
    content: &Content,
    out: &mut impl Write,
) -> Result<(), UkiError> {
    let reading = |source| UkiError::Content { path: find::shown(path), source };
    let opened = contents.open(content).map_err(reading)?;
    let copied = io::copy(&mut opened.take(content.size), out).map_err(reading)?;
    match copied == content.size {
        true => Ok(()),
        false => Err(reading(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests;
