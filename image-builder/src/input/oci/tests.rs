//! Images in layouts of every kind, whole and broken.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use upright_manifests::digest::Digest;

use crate::input::tar::testing::{Archive, Draft};
use crate::input::testing::{Taken, take};
use crate::tree::testing::Scratch;

/// An image layout in the making.
struct Layout(Scratch);

impl Layout {
    fn new() -> Self {
        let layout = Self(Scratch::new());
        std::fs::create_dir_all(layout.path().join("blobs/sha256")).expect("folders");
        std::fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("written");
        layout
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(self.blob_path(&digest), bytes).expect("written");
        json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.to_string())
    }

    fn document(&self, kind: &str, value: &Value) -> Value {
        self.blob(kind, value.to_string().as_bytes())
    }

    /// An image of `layers`, which are descriptors.
    fn image(&self, architecture: &str, layers: &[Value]) -> Value {
        self.image_of(architecture, layers, &json!({ "type": "layers" }))
    }

    fn image_of(&self, architecture: &str, layers: &[Value], rootfs: &Value) -> Value {
        let config = json!({ "architecture": architecture, "os": "linux", "rootfs": rootfs });
        let config = self.document("application/vnd.oci.image.config.v1+json", &config);
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.document("application/vnd.oci.image.manifest.v1+json", &manifest)
    }

    fn layer(&self, archive: Archive) -> Value {
        self.blob("application/vnd.oci.image.layer.v1.tar", &archive.end())
    }

    fn index(&self, manifests: &[Value]) -> &Self {
        let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        std::fs::write(self.path().join("index.json"), index).expect("written");
        self
    }

    fn take(&self) -> Result<Taken, String> {
        let prefix = format!("cannot take {}: ", self.path().display());
        take(self.path()).map_err(|error| error.strip_prefix(&prefix).map_or(error.clone(), str::to_owned))
    }

    fn refusal(&self) -> String {
        self.take().err().expect("refused")
    }
}

/// What comes of an image with these layers.
fn layered(layers: impl IntoIterator<Item = Archive>) -> Taken {
    let layout = Layout::new();
    let layers: Vec<Value> = layers.into_iter().map(|layer| layout.layer(layer)).collect();
    layout.index(&[layout.image("amd64", &layers)]).take().expect("taken")
}

fn base() -> Archive {
    Archive::default()
        .directory(b"etc/", 0o755)
        .file(b"etc/passwd", b"root")
        .file(b"etc/shadow", b"root")
        .directory(b"var/", 0o755)
        .file(b"var/log/old", b"old")
        .file(b"bin/a", b"tool")
}

#[test]
fn layers_replace_remove_and_update() {
    let upper = Archive::default()
        .file(b"etc/.wh.shadow", b"")
        .directory(b"etc", 0o700)
        .file(b"var/log/.wh..wh..opq", b"")
        .file(b"var/log/new", b"new")
        .file(b"bin/a", b"newer")
        .hard_link(b"bin/b", b"etc/passwd")
        .file(b"var/.wh.absent", b"");
    let taken = layered([base(), upper]);
    assert_eq!(
        taken.list(),
        [
            "d 755 0:0 /",
            "d 755 0:0 /bin",
            "f5 644 0:0 /bin/a",
            "f4 644 0:0 /bin/b",
            "d 700 0:0 /etc",
            "f4 644 0:0 /etc/passwd",
            "d 755 0:0 /var",
            "d 755 0:0 /var/log",
            "f3 644 0:0 /var/log/new",
        ]
    );
    assert_eq!(taken.content(b"bin/b"), b"root");
    assert_eq!(taken.tree.paths[&b"bin/b"[..]], taken.tree.paths[&b"etc/passwd"[..]]);
}

#[test]
fn layers_hold_what_the_configuration_says() {
    let layout = Layout::new();
    let plain = base().end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // What comes behind the end of the archive counts, too.
    encoder.write_all(&plain).and_then(|()| encoder.write_all(&[0; 700])).expect("compressed");
    let packed = encoder.finish().expect("compressed");
    let layers = [layout.layer(base()), layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &packed)];
    let id = |bytes: &[u8]| format!("sha256:{}", Digest::of(bytes));
    let (first, second) = (id(&plain), id(&[&plain[..], &[0; 700]].concat()));
    let take = |ids: &[&str]| {
        let image = layout.image_of("amd64", &layers, &json!({ "type": "layers", "diff_ids": ids }));
        layout.index(&[image]).take().map(drop)
    };
    assert_eq!(take(&[&first, &second]), Ok(()));
    let error = take(&[&first, &first]).expect_err("refused");
    assert!(
        error.contains(&format!(" holds {second}, where the image's configuration says {first}; copy")),
        "{error}"
    );
    for ids in [&[first.as_str()][..], &[&first, &second, &second], &[&second, &first], &[&first, "md5:x"]] {
        take(ids).expect_err("refused");
    }
}

#[test]
fn overlayfs_whiteouts_are_understood() {
    let whiteout = Draft { kind: b'3', name: b"etc/shadow", ..Draft::default() };
    let upper = Archive::default()
        .add(&whiteout)
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.note", b"kept")])
        .directory(b"var/log/", 0o755)
        .file(b"var/log/new", b"new");
    let taken = layered([base(), upper]);
    assert_eq!(taken.paths(), ["", "bin", "bin/a", "etc", "etc/passwd", "var", "var/log", "var/log/new"]);
    let names: Vec<_> = taken.tree.inode(b"var/log").expect("a folder").xattrs.keys().collect();
    assert_eq!(names, [b"user.note"]);
}

#[test]
fn what_aufs_leaves_behind_is_gone_but_links_into_it_work() {
    let upper = Archive::default()
        .file(b".wh..wh.aufs", b"")
        .directory(b".wh..wh.orph/", 0o700)
        .directory(b".wh..wh.plnk/", 0o700)
        .file(b".wh..wh.plnk/12.34", b"linked")
        .hard_link(b"bin/x", b".wh..wh.plnk/12.34")
        .hard_link(b"bin/y", b".wh..wh.plnk/12.34");
    let taken = layered([base(), upper]);
    assert_eq!(taken.paths()[1..5], ["bin", "bin/a", "bin/x", "bin/y"]);
    assert_eq!(taken.content(b"bin/y"), b"linked");
    assert_eq!(taken.tree.paths[&b"bin/x"[..]], taken.tree.paths[&b"bin/y"[..]]);
}

#[test]
fn a_removed_directory_can_come_back_and_a_file_become_one() {
    let removed = Archive::default().file(b".wh.etc", b"").file(b"bin/a/inside", b"");
    let upper = Archive::default().file(b".wh.etc", b"").file(b"etc/new", b"").add(&Draft {
        kind: b'5',
        name: b"bin/a",
        mode: 0o755,
        ..Draft::default()
    });
    assert_eq!(
        layered([base(), upper]).paths(),
        ["", "bin", "bin/a", "etc", "etc/new", "var", "var/log", "var/log/old"]
    );
    let layout = Layout::new();
    let layers = [base(), removed].map(|layer| layout.layer(layer));
    layout.index(&[layout.image("amd64", &layers)]);
    assert_eq!(layout.refusal(), "/bin/a/inside is inside /bin/a, which is not a directory");
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [&b"etc/.wh."[..], b"etc/.wh..", b"etc/.wh..."] {
        let layout = Layout::new();
        let layer = layout.layer(Archive::default().file(name, b""));
        let error = layout.index(&[layout.image("amd64", &[layer])]).refusal();
        assert!(error.ends_with("names nothing that could be removed"), "{error}");
    }
}

#[test]
fn layers_are_compressed_in_any_way_and_need_no_end_mark() {
    let layout = Layout::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&Archive::default().file(b"gzip", b"1").end()).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    // as zstd:chunked has it: several frames, and skippable ones with a table
    let archive = Archive::default().file(b"zstd", b"2").end();
    let mut chunked = zstd::encode_all(&archive[..512], 1).expect("compressed");
    chunked.extend_from_slice(b"\x50\x2a\x4d\x18\x04\0\0\0tab1");
    chunked.extend(zstd::encode_all(&archive[512..], 1).expect("compressed"));
    chunked.extend_from_slice(b"\x50\x2a\x4d\x18\x04\0\0\0tab2");
    let layers = [
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip),
        layout.blob("application/vnd.oci.image.layer.v1.tar+zstd", &chunked),
        layout.blob(
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            &Archive::default().file(b"plain", b"3").0,
        ),
    ];
    let taken = layout.index(&[layout.image("amd64", &layers)]).take().expect("taken");
    assert_eq!(taken.paths(), ["", "gzip", "plain", "zstd"]);
}

#[test]
fn the_image_for_the_architecture_is_chosen() {
    let layout = Layout::new();
    let [one, two] = [b"amd64", b"arm64"].map(|name| layout.layer(Archive::default().file(name, b"")));
    let images = [layout.image("arm64", &[two]), layout.image("amd64", &[one])];
    let signature = json!({ "schemaVersion": 2, "layers": [],
        "config": layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", b"{}") });
    let signature = layout.document("application/vnd.oci.image.manifest.v1+json", &signature);
    let nested = json!({ "schemaVersion": 2, "manifests": [images[0], images[1], signature] });
    let nested = layout.document("application/vnd.oci.image.index.v1+json", &nested);
    assert_eq!(layout.index(&[nested]).take().expect("taken").paths(), ["", "amd64"]);
    assert_eq!(layout.index(&images[..1]).refusal(), "it has no image for x86-64, but for linux/arm64");
    assert_eq!(layout.index(&[]).refusal(), "it has no image for x86-64, but for nothing");
    let mut tagged = [images[1].clone(), layout.image("amd64", &[])];
    tagged[0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    tagged[1]["annotations"] = json!({ "org.opencontainers.image.ref.name": "v2" });
    assert_eq!(
        layout.index(&tagged).refusal(),
        "it has 2 images for x86-64 (v1, v2): copy one of them out, for instance with skopeo copy"
    );
    let twice = [images[1].clone(), tagged[0].clone()];
    assert_eq!(layout.index(&twice).take().expect("taken").paths(), ["", "amd64"]);
}

#[test]
fn blobs_are_verified_before_they_are_used() {
    let layout = Layout::new();
    let archive = Archive::default().file(b"a", b"content").end();
    let digest = Digest::of(&archive);
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", &archive);
    layout.index(&[layout.image("amd64", std::slice::from_ref(&layer))]);
    let mut damaged = archive.clone();
    damaged[512] ^= 1;
    std::fs::write(layout.blob_path(&digest), &damaged).expect("written");
    let found = Digest::of(&damaged);
    assert_eq!(
        layout.refusal(),
        format!("blob sha256:{digest} is damaged: its SHA-256 is {found}; copy the image again")
    );
    std::fs::write(layout.blob_path(&digest), &archive[1..]).expect("written");
    let (length, expected) = (archive.len() - 1, archive.len());
    assert_eq!(
        layout.refusal(),
        format!(
            "blob sha256:{digest} has {length} bytes, its descriptor says {expected}; copy the image again"
        )
    );
    std::fs::remove_file(layout.blob_path(&digest)).expect("removed");
    assert_eq!(
        layout.refusal(),
        format!("it has no blobs/sha256/{digest}: No such file or directory (os error 2)")
    );
    for (key, value, error) in [
        ("digest", json!("sha256:../../x"), "digest \"sha256:../../x\" is not a SHA-256".to_owned()),
        (
            "mediaType",
            json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            format!(
                "layer sha256:{digest} is of type \"application/vnd.oci.image.layer.v1.tar+gzip+encrypted\", \
                 which cannot be read"
            ),
        ),
    ] {
        let mut odd = layer.clone();
        odd[key] = value;
        assert_eq!(layout.index(&[layout.image("amd64", &[odd])]).refusal(), error);
    }
}

#[test]
fn documents_are_bounded_and_finite() {
    let layout = Layout::new();
    std::fs::write(layout.path().join("index.json"), "{").expect("written");
    assert_eq!(layout.refusal(), "index.json is malformed: EOF while parsing an object at line 1 column 1");
    std::fs::write(layout.path().join("index.json"), vec![b' '; (4 << 20) + 1]).expect("written");
    assert_eq!(layout.refusal(), "index.json has 4194305 bytes: at most 4194304 are read");
    let mut index = layout.image("amd64", &[]);
    for _ in 0..5 {
        let nested = json!({ "schemaVersion": 2, "manifests": [index] });
        index = layout.document("application/vnd.oci.image.index.v1+json", &nested);
    }
    assert_eq!(layout.index(&[index]).refusal(), "its indexes have no end");
}

#[test]
fn archives_of_layouts_are_layouts() {
    let layout = Layout::new();
    let layer = layout.layer(base());
    layout.index(&[layout.image("amd64", &[layer])]);
    let folder = layout.take().expect("taken");
    let archive = layout.0.path().join("archive");
    let run = |program: &str, arguments: &[&str], path: &Path| {
        let status = Command::new(program).args(arguments).arg(path).status();
        assert!(status.expect("it runs").success(), "{program}");
    };
    let status = Command::new("tar")
        .arg("-C")
        .arg(layout.path())
        .arg("-cf")
        .arg(&archive)
        .arg("blobs")
        .arg("index.json")
        .arg("oci-layout")
        .status();
    assert!(status.expect("tar runs").success());
    assert_eq!(take(&archive).expect("taken").tree, folder.tree);
    run("gzip", &["-k"], &archive);
    assert_eq!(take(archive.with_extension("gz")).expect("taken").tree, folder.tree);
}

/// The whole way through another program: what skopeo makes of an image is the same tree.
#[test]
fn skopeos_layouts_are_taken() {
    let layout = Layout::new();
    let layers = [base(), Archive::default().file(b"etc/.wh.shadow", b"")].map(|layer| layout.layer(layer));
    layout.index(&[layout.image("amd64", &layers)]);
    let tree = layout.take().expect("taken").tree;
    for (target, options) in [("oci", &["--dest-compress-format=zstd"][..]), ("oci-archive", &[])] {
        let copy = layout.0.path().join(target);
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--override-arch=amd64"])
            .args(options)
            .arg(format!("oci:{}", layout.path().display()))
            .arg(format!("{target}:{}", copy.display()))
            .output()
            .expect("skopeo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(take(&copy).expect("taken").tree, tree, "{target}");
    }
}
