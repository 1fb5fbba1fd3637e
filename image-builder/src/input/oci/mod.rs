//! An OCI image layout, in a folder or in a tar (OCI image specification 1.1, "Image Layout"): finds the one image
//! for an architecture and lays its layers over each other.

mod blobs;
mod document;
mod layers;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use upright_manifests::name::Arch;

pub(super) use blobs::is_layout;
#[cfg(fuzzing)]
pub(super) use layers::removes;

use self::blobs::Blobs;
use self::document::{Configuration, Descriptor, Index, Manifest};
use super::{Imported, InputError, compress};
use crate::tree::{Batch, Repeat, TreeBuilder};

/// How deep indexes may name indexes.
const MAX_DEPTH: usize = 4;

/// Most images that an index may lead to.
const MAX_IMAGES: usize = 1000;

/// Reads the layout in `folder`.
pub(super) fn read_layout(folder: &Path, arch: Arch, batch: &Batch<'_>) -> Result<Imported, InputError> {
    read(&Blobs::Folder(folder.to_owned()), arch, batch)
}

/// Reads the layout in the tar at `path`; a compressed one is decompressed to a file without a name beside the
/// store's objects first.
pub(super) fn read_archive(path: &Path, arch: Arch, batch: &Batch<'_>) -> Result<Imported, InputError> {
    let file = match compress::open(path)? {
        (_, Some(_)) => File::open(path)?,
        (mut plain, None) => {
            let mut file = tempfile::tempfile_in(batch.scratch())?;
            io::copy(&mut plain, &mut file)?;
            file
        }
    };
    read(&Blobs::index(file)?, arch, batch)
}

fn read(blobs: &Blobs, arch: Arch, batch: &Batch<'_>) -> Result<Imported, InputError> {
    let (configuration, manifest) = choose(blobs, arch)?;
    let mut builder = TreeBuilder::new(Repeat::Replace);
    let mut newest = 0;
    let contents = &configuration.rootfs.diff_ids;
    if !contents.is_empty() && contents.len() != manifest.layers.len() {
        let (layers, ids) = (manifest.layers.len(), contents.len());
        return Err(InputError::Format(format!(
            "its configuration has {ids} diff_ids for {layers} layers; copy the image again"
        )));
    }
    for (number, layer) in manifest.layers.iter().enumerate() {
        if !layer.is_layer() {
            let (digest, kind) = (&layer.digest, &layer.media_type);
            return Err(InputError::Format(format!(
                "layer {digest} is of type {kind:?}, which cannot be read"
            )));
        }
        let (tar, _) = compress::decompress(blobs.blob(layer)?)?;
        let mut tar = layers::Hashed::new(tar);
        newest = newest.max(layers::apply(&mut tar, &mut builder, batch)?);
        if let Some(expected) = contents.get(number) {
            tar.expect(expected, &layer.digest)?;
        }
    }
    Ok(Imported { tree: builder.finish()?, newest })
}

/// Reads bytes as each kind of document, for the fuzz targets.
#[cfg(fuzzing)]
pub(super) fn parse_documents(bytes: &[u8]) {
    let look = |descriptor: &Descriptor| {
        let _ = descriptor.sha256();
        let _ = (descriptor.is_index(), descriptor.is_config(), descriptor.is_layer());
    };
    if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
        index.manifests.iter().for_each(look);
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        manifest.layers.iter().for_each(look);
    }
    let _ = serde_json::from_slice::<Configuration>(bytes).map(|image| image.platform.is(Arch::X86_64));
}

/// The one image for `arch`.
fn choose(blobs: &Blobs, arch: Arch) -> Result<(Configuration, Manifest), InputError> {
    let index: Index = blobs.document("index.json")?;
    let mut images = Vec::new();
    collect(blobs, index, MAX_DEPTH, &mut images)?;
    let mut seen = BTreeSet::new();
    images.retain(|(descriptor, _, _)| seen.insert(descriptor.digest.clone()));
    let (fitting, others): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|(_, configuration, _)| configuration.platform.is(arch));
    let mut fitting = fitting.into_iter();
    match (fitting.next(), fitting.len()) {
        (Some((_, configuration, manifest)), 0) => Ok((configuration, manifest)),
        (Some((first, _, _)), more) => {
            let names: Vec<&str> = std::iter::once(&first)
                .chain(fitting.as_slice().iter().map(|(descriptor, _, _)| descriptor))
                .map(|descriptor| {
                    let tag =
                        descriptor.annotations.as_ref().and_then(|annotations| annotations.tag.as_deref());
                    tag.unwrap_or(&descriptor.digest)
                })
                .collect();
            let (count, names) = (more + 1, names.join(", "));
            Err(InputError::Format(format!(
                "it has {count} images for {arch} ({names}): copy one of them out, for instance with skopeo copy"
            )))
        }
        (None, _) => {
            let names: Vec<String> = others
                .iter()
                .map(|(_, Configuration { platform, .. }, _)| {
                    format!("{}/{}", platform.os, platform.architecture)
                })
                .collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Err(InputError::Format(format!("it has no image for {arch}, but for {names}")))
        }
    }
}

/// An image, what it says about itself, and what it is made of.
type Image = (Descriptor, Configuration, Manifest);

/// Gathers the images that `index` leads to.
fn collect(blobs: &Blobs, index: Index, depth: usize, images: &mut Vec<Image>) -> Result<(), InputError> {
    for descriptor in index.manifests {
        if depth == 0 || images.len() >= MAX_IMAGES {
            return Err(InputError::Format("its indexes have no end".into()));
        }
        if descriptor.is_index() {
            collect(blobs, blobs.blob_document(&descriptor)?, depth - 1, images)?;
            continue;
        }
        let manifest: Manifest = blobs.blob_document(&descriptor)?;
        if !manifest.config.is_config() {
            continue;
        }
        // the configuration is what the image itself says; a descriptor may lack the platform
        let configuration: Configuration = blobs.blob_document(&manifest.config)?;
        images.push((descriptor, configuration, manifest));
    }
    Ok(())
}
