//! The peers and their command lines.

use super::{Peer, bytes, proof};

/// All of them.
pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "xdelta3",
        prepare: &[],
        make: "xdelta3 -q -9 -B 2147483648 -e -s {old}.img {new}.img scratch/delta",
        apply: "xdelta3 -q -B 2147483648 -d -s {old}.img scratch/delta scratch/out",
        bytes: bytes::of_delta,
        proof: proof::image,
        whole: true,
        note: "The source window spans the whole image.",
    },
    Peer {
        name: "zstd-19-patch-from",
        prepare: &[],
        make: "zstd -q -19 --long=31 --patch-from={old}.img {new}.img -o scratch/delta",
        apply: "zstd -q -d --long=31 --patch-from={old}.img scratch/delta -o scratch/out",
        bytes: bytes::of_delta,
        proof: proof::image,
        whole: true,
        note: "",
    },
    Peer {
        name: "zstd-3-patch-from",
        prepare: &[],
        make: "zstd -q -3 --long=31 --patch-from={old}.img {new}.img -o scratch/delta",
        apply: "zstd -q -d --long=31 --patch-from={old}.img scratch/delta -o scratch/out",
        bytes: bytes::of_delta,
        proof: proof::image,
        whole: true,
        note: "",
    },
    Peer {
        name: "ostree-static-delta",
        prepare: &[
            "ostree --repo=scratch/host init --mode=bare-user",
            "ostree --repo=scratch/host pull-local ostree {old}",
        ],
        make: "ostree --repo=ostree static-delta generate --from={old} --to={new} --inline --min-fallback-size=0 \
               --filename=scratch/delta",
        apply: "ostree --repo=scratch/host static-delta apply-offline scratch/delta",
        bytes: bytes::of_delta,
        proof: proof::commit,
        whole: true,
        note: "Of the trees: it writes new objects into a repository; the deployment's checkout comes on top.",
    },
    Peer {
        name: "casync",
        prepare: &["casync make --store=scratch/{old}.castr scratch/{old}.caibx {old}.img"],
        make: "casync make --store=scratch/{new}.castr scratch/{new}.caibx {new}.img",
        apply: "casync extract --store=scratch/{new}.castr --seed={old}.img scratch/{new}.caibx scratch/out",
        bytes: bytes::of_chunks,
        proof: proof::image,
        whole: true,
        note: "Bytes: the compressed chunks that the old image has not, and the index.",
    },
    Peer {
        name: "rdiff",
        prepare: &["rdiff signature {old}.img scratch/signature"],
        make: "rdiff delta scratch/signature {new}.img scratch/delta",
        apply: "rdiff patch {old}.img scratch/delta scratch/out",
        bytes: bytes::of_delta,
        proof: proof::image,
        whole: true,
        note: "The signature is made beforehand; the delta is not compressed.",
    },
    Peer {
        name: "block-index",
        prepare: &[],
        make: "bench block-index make {old}.img {new}.img scratch/delta",
        apply: "bench block-index apply {old}.img scratch/delta scratch/out",
        bytes: bytes::of_delta,
        proof: proof::image,
        whole: true,
        note: "Computed, as RAUC's adaptive updates work: SHA-256 of every 4 KiB block, and the blocks that are nowhere in \
               the old image, uncompressed.",
    },
    Peer {
        name: "bsdiff-kernel-initrd",
        prepare: &[
            "tar --extract --to-stdout --file={old}.tar --wildcards './boot/vmlinuz-*' './boot/initrd.img-*' >scratch/old",
            "tar --extract --to-stdout --file={new}.tar --wildcards './boot/vmlinuz-*' './boot/initrd.img-*' >scratch/new",
        ],
        make: "bsdiff scratch/old scratch/new scratch/delta",
        apply: "bspatch scratch/old scratch/out scratch/delta",
        bytes: bytes::of_delta,
        proof: proof::kernel,
        whole: false,
        note: "Of kernel and initrd alone: for the whole image it would need 17 times its size in memory.",
    },
];
