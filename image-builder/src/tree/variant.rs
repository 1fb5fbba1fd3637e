//! GVariant shapes that OSTree uses (ostree-core.h), to and from this crate's types.

use std::collections::BTreeMap;

use ostree::glib;
use ostree::glib::prelude::*;
use upright_manifests::digest::Digest;

use super::Attributes;

/// Bytes as `ay`.
pub(super) fn bytes(bytes: &[u8]) -> glib::Variant {
    glib::Variant::array_from_fixed_array(bytes)
}

/// The bytes of an `ay`; nothing when it is something else.
pub(super) fn to_bytes(variant: &glib::Variant) -> Option<Vec<u8>> {
    variant.fixed_array::<u8>().ok().map(<[u8]>::to_vec)
}

/// The digest in an `ay` of 32 bytes.
pub(super) fn to_digest(variant: &glib::Variant) -> Option<Digest> {
    <[u8; 32]>::try_from(variant.fixed_array::<u8>().ok()?).ok().map(Digest::from)
}

/// Extended attributes as `a(ayay)`, each name with a NUL at its end; sorted.
pub(super) fn xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> glib::Variant {
    array(
        "(ayay)",
        xattrs.iter().map(|(name, value)| {
            let name = [name, &b"\0"[..]].concat();
            glib::Variant::tuple_from_iter([bytes(&name), bytes(value)])
        }),
    )
}

/// Extended attributes from `a(ayay)`.
pub(super) fn to_xattrs(variant: &glib::Variant) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    children(variant)
        .map(|pair| {
            let mut name = to_bytes(&child(&pair, 0)?)?;
            if name.last() == Some(&0) {
                name.pop();
            }
            Some((name, to_bytes(&child(&pair, 1)?)?))
        })
        .collect()
}

/// A directory's metadata object, `(uuua(ayay))` in big-endian order: owner, group, mode, attributes.
pub(super) fn directory(attributes: &Attributes) -> glib::Variant {
    glib::Variant::tuple_from_iter([
        attributes.uid.to_be().to_variant(),
        attributes.gid.to_be().to_variant(),
        (S_IFDIR | u32::from(attributes.mode)).to_be().to_variant(),
        xattrs(&attributes.xattrs),
    ])
}

/// The attributes in a directory's metadata object.
pub(super) fn to_directory(variant: &glib::Variant) -> Option<Attributes> {
    let number = |index| child(variant, index)?.get::<u32>().map(u32::from_be);
    Some(Attributes {
        uid: number(0)?,
        gid: number(1)?,
        mode: permissions(number(2)?),
        xattrs: to_xattrs(&child(variant, 3)?)?,
    })
}

/// The permission bits of a Unix mode.
pub(super) fn permissions(mode: u32) -> u16 {
    // masked to 12 bits
    (mode & 0o7777) as u16
}

/// An array of `items`, each of type `kind`.
pub(super) fn array(kind: &str, items: impl Iterator<Item = glib::Variant>) -> glib::Variant {
    match glib::VariantTy::new(kind) {
        Ok(kind) => glib::Variant::array_from_iter_with_type(kind, items),
        Err(_) => unreachable!("{kind} is a type"),
    }
}

/// The child at `index`, if there is one.
pub(super) fn child(variant: &glib::Variant, index: usize) -> Option<glib::Variant> {
    (variant.is_container() && index < variant.n_children()).then(|| variant.child_value(index))
}

/// All children.
pub(super) fn children(variant: &glib::Variant) -> impl Iterator<Item = glib::Variant> + '_ {
    let count = if variant.is_container() { variant.n_children() } else { 0 };
    (0..count).map(|index| variant.child_value(index))
}

/// The file type bits of a directory (inode(7)).
const S_IFDIR: u32 = 0o040000;
