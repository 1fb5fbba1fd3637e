//! Workspaces with builds that were put together by hand, small and made in no time.
#![allow(dead_code, unreachable_pub, reason = "each test program uses what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

pub mod copies;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use upright_image_builder::erofs::{FileRun, Layout, Run};
use upright_image_builder::repo::build::{Build, FORMAT, Image, UkiFile, UkiPart};
use upright_image_builder::repo::files::{Files, OnDisk};
use upright_image_builder::repo::init::init;
use upright_image_builder::repo::progress::Silent;
use upright_image_builder::repo::publish::{self, Bench, Outcome, Request};
use upright_image_builder::repo::rotate;
use upright_image_builder::repo::signers::Signers;
use upright_image_builder::repo::workspace::Workspace;
use upright_keys::KeyPair;
use upright_manifests::digest::Digest;
use upright_manifests::name::Arch;
use upright_manifests::verity::{Discard, TreeBuilder, salt};
use upright_manifests::version::Version;

/// A time at which nothing has expired.
pub const NOW: Timestamp = Timestamp::constant(1_900_000_000, 0);

/// A workspace of its own.
pub struct Shop {
    folder: TempDir,
    pub now: Timestamp,
}

impl Shop {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        init(&folder.path().join("w"), &"acme".parse().unwrap(), Arch::X86_64, None, NOW).unwrap();
        Self { folder, now: NOW }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    pub fn open(&self) -> Workspace {
        Workspace::open(&self.root()).unwrap()
    }

    /// Changes a line of upright.toml.
    pub fn configure(&self, from: &str, to: &str) {
        let path = self.root().join("upright.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    /// Another workspace in the same state.
    pub fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&self.root(), &folder.path().join("w"));
        Self { folder, now: self.now }
    }

    pub fn publish(&self, version: &str, channel: &str) -> Result<Outcome, String> {
        self.request(&request(version, channel))
    }

    pub fn request(&self, request: &Request) -> Result<Outcome, String> {
        self.publish_through(&OnDisk, request)
    }

    pub fn publish_through(&self, files: &dyn Files, request: &Request) -> Result<Outcome, String> {
        let workspace = self.open();
        let roles = publish::signing(&workspace.config, &request.channel);
        let signers = Signers::open(&workspace, &roles, None).unwrap();
        let bench =
            Bench { workspace: &workspace, signers: &signers, files, progress: &Silent, now: self.now };
        publish::publish(&bench, request).map_err(|error| error.to_string())
    }

    /// Gives channels to a team, with a key of its own, in upright.toml.
    pub fn team(&self, name: &str, channels: &str) {
        let key = KeyPair::generate().unwrap();
        key.save(&self.root().join(format!("keys/{name}.pem")), None).unwrap();
        let path = self.root().join("upright.toml");
        let text = fs::read_to_string(&path).unwrap();
        let team = format!("[teams.{name}]\nchannels = {channels}\nkeys = [\"keys/{name}.pem\"]\n");
        fs::write(path, text + &team).unwrap();
    }

    /// Makes what is published say what upright.toml says; `keys` sign too.
    pub fn rotate(&self, keys: &[&str]) -> Result<rotate::Outcome, String> {
        self.rotate_through(&OnDisk, keys)
    }

    pub fn rotate_through(&self, files: &dyn Files, keys: &[&str]) -> Result<rotate::Outcome, String> {
        let workspace = self.open();
        let text = |error: upright_image_builder::repo::Error| error.to_string();
        let roles: Vec<String> = workspace.config.all_roles().into_iter().map(|(name, _)| name).collect();
        let mut signers = Signers::open(&workspace, &roles, None).unwrap();
        for key in keys {
            signers.add_file(&self.root().join("keys").join(key), None).map_err(text)?;
        }
        let bench =
            Bench { workspace: &workspace, signers: &signers, files, progress: &Silent, now: self.now };
        rotate::rotate(&bench, rotate::prepare(&bench, None).map_err(text)?, None).map_err(text)
    }

    /// Moves private keys away, as if they had never been here.
    pub fn lose(&self, keys: &[&str]) {
        for key in keys {
            fs::remove_file(self.root().join(format!("keys/{key}.pem"))).unwrap();
        }
    }

    /// Puts a build into the workspace: an image of `files`, each a number of blocks of bytes drawn from a seed.
    pub fn build(&self, version: &str, files: &[(&str, u64, u64)]) -> Build {
        self.build_padded(version, files, 0)
    }

    /// The same with `padding` more bytes in the UKI.
    pub fn build_padded(&self, version: &str, files: &[(&str, u64, u64)], padding: usize) -> Build {
        let mut image = noise(1, 1);
        let mut layout = Layout { metadata: vec![Run { start: 0, blocks: 1 }], ..Layout::default() };
        for (path, blocks, seed) in files {
            let content = noise(*seed, *blocks);
            layout.files.push(FileRun {
                start: image.len() as u64 / 4096,
                size: content.len() as u64,
                sha256: Digest::of(&content),
                path: (*path).to_owned(),
            });
            image.extend(content);
        }
        layout.blocks = image.len() as u64 / 4096;
        let kernel = &image[4096..8192];
        let uki = [b"stub of ".as_slice(), version.as_bytes(), &vec![0; padding], kernel].concat();
        let part = UkiPart { at: uki.len() as u64 - 4096, length: 4096, root_offset: 4096 };
        self.write_build(version, &image, &layout, &uki, part)
    }

    fn write_build(&self, version: &str, image: &[u8], layout: &Layout, uki: &[u8], part: UkiPart) -> Build {
        let os = "acme".parse().unwrap();
        let mut tree = TreeBuilder::new(salt(&os), layout.blocks, Discard).unwrap();
        tree.update(image).unwrap();
        let build = Build {
            format: FORMAT,
            os,
            arch: Arch::X86_64,
            version: version.parse().unwrap(),
            time: Timestamp::UNIX_EPOCH,
            commit: Digest::of(version.as_bytes()),
            base: None,
            followed: None,
            root: Image {
                size: image.len() as u64,
                sha256: Digest::of(image),
                uuid: "00000000-0000-0000-0000-000000000000".into(),
                verity: tree.finish().unwrap().0,
            },
            uki: UkiFile {
                certificate: None,
                size: uki.len() as u64,
                sha256: Digest::of(uki),
                kernel: "6.1".into(),
                parts: vec![part],
            },
            versioned: Vec::new(),
        };
        let folder = self.root().join("builds").join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("root.erofs"), image).unwrap();
        fs::write(folder.join("uki.efi"), uki).unwrap();
        let text = serde_json::to_vec(layout).unwrap();
        zstd::stream::copy_encode(&text[..], File::create(folder.join("layout.json.zst")).unwrap(), 3)
            .unwrap();
        fs::write(folder.join("build.json"), build.to_bytes().unwrap()).unwrap();
        build
    }

    /// All files of the repository by path.
    pub fn repository(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let root = self.root().join("repository");
        let mut files = Vec::new();
        walk(&root, &mut |path| {
            files.push((path.strip_prefix(&root).unwrap().to_owned(), fs::read(path).unwrap()));
        });
        files.sort();
        files
    }

    pub fn later(mut self, days: i64) -> Self {
        self.now = self.now.checked_add(SignedDuration::from_hours(days * 24)).unwrap();
        self
    }
}

/// The three releases that most tests use: the second changes a file and adds one.
pub fn three(shop: &Shop) {
    shop.build("1.0", &[("vmlinuz", 1, 2), ("libc", 40, 3), ("tool", 20, 4)]);
    shop.build("1.1", &[("vmlinuz", 1, 2), ("libc", 40, 3), ("tool", 20, 5), ("more", 2, 6)]);
    shop.build("1.2", &[("vmlinuz", 1, 7), ("libc", 40, 3), ("tool", 20, 5)]);
}

/// Two releases that are published in no time.
pub fn small(shop: &Shop) {
    shop.build("1.0", &[("vmlinuz", 1, 2), ("tool", 4, 4)]);
    shop.build("1.1", &[("vmlinuz", 1, 2), ("tool", 4, 5), ("more", 2, 6)]);
}

pub fn request(version: &str, channel: &str) -> Request {
    Request {
        version: version.parse().unwrap(),
        channel: channel.parse().unwrap(),
        from: None,
        waves: None,
        hold: None,
        floor: None,
        allow_downgrade: false,
        edges: None,
    }
}

pub fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Bytes without a pattern, the same for the same seed (xorshift64*).
fn noise(seed: u64, blocks: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..blocks * 512).flat_map(word).collect()
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    walk(from, &mut |path| {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    });
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}
