//! What copies are made with, and looked at.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use upright_image_builder::repo::check::{Report, Source, check};
use upright_image_builder::repo::copy::{Copied, Copy, Pick, into_folder};
use upright_image_builder::repo::error::Class;
use upright_image_builder::repo::files::{Files, OnDisk};
use upright_image_builder::repo::progress::Silent;

use super::{NOW, Shop, three};

pub struct Wanted<'a> {
    pub pick: Pick,
    pub files: &'a dyn Files,
    pub now: Timestamp,
    pub allow_expired: bool,
    pub prune: bool,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { pick: Pick::default(), files: &OnDisk, now: NOW, allow_expired: false, prune: false }
    }
}

impl Wanted<'_> {
    pub fn copy<T>(
        &self,
        shop: &Shop,
        work: impl FnOnce(&Copy<'_>) -> upright_image_builder::repo::Result<T>,
    ) -> Result<T, (Class, String)> {
        let source = Source::folder(shop.root().join("repository")).unwrap();
        let copy = Copy {
            source: &source,
            root: Some(fs::read(shop.root().join("root.json")).unwrap()),
            pick: &self.pick,
            allow_expired: self.allow_expired,
            prune: self.prune,
            now: self.now,
            files: self.files,
            progress: &Silent,
        };
        work(&copy).map_err(|error| (error.class(), error.to_string()))
    }

    pub fn mirror(&self, shop: &Shop, folder: &Path) -> Result<Copied, (Class, String)> {
        self.copy(shop, |copy| into_folder(copy, folder))
    }
}

pub fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
        }
    }
    found.sort();
    found
}

pub fn channel(name: &str) -> Pick {
    Pick { channels: vec![name.parse().unwrap()], ..Pick::default() }
}

pub fn audit(shop: &Shop, place: &Path) -> Report {
    let root = fs::read(shop.root().join("root.json")).unwrap();
    check(&Source::new(place.to_str().unwrap()).unwrap(), root, NOW, &Silent).unwrap()
}

/// The paths of all files below a folder.
pub fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(paths(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A repository whose channel beta, which has nothing yet, is a team's.
pub fn team_shop() -> Shop {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    shop.team("edge", "[\"beta\"]");
    shop.rotate(&[]).unwrap();
    shop
}
