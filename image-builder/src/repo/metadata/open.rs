//! Reads published metadata back, and believes it no more than a host would.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp as Time;
use upright_manifests::tuf::schema::Body;
use upright_manifests::tuf::{Answer, Client, Document, Fetch, Outside, Problem, Stored, TufError};

use super::{Draft, Lifetimes, Metadata, MetadataError};

impl Metadata {
    /// Reads published metadata through `read`, which gives a file of `metadata/` or nothing if there is none, and
    /// verifies it from `trusted_root` on. What has expired is taken too: to renew it is the point. A delegated role whose
    /// document is refused stands in nobody else's way ([`Metadata::unusable`]).
    pub fn open(
        trusted_root: &[u8],
        lifetimes: Lifetimes,
        read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
    ) -> Result<Self, MetadataError> {
        let mut published = Published { read, files: BTreeMap::new() };
        let stored = Stored { root: trusted_root.to_vec(), files: BTreeMap::new() };
        let mut client = Client::new(stored, Time::MIN)?;
        client.refresh(&mut published)?;
        let (mut delegated, mut unusable) = (BTreeMap::new(), BTreeMap::new());
        for role in client.delegated(&mut published)? {
            match role.document {
                Ok(body) => {
                    let draft = Draft { published: Some(body.clone()), body, changed: false };
                    delegated.insert(role.name, draft);
                }
                Err(error) => {
                    unusable.insert(role.name, error);
                }
            }
        }
        let mut files = published.files;
        files.entry("root.json".into()).or_insert_with(|| trusted_root.to_vec());
        Ok(Self {
            lifetimes,
            root: draft(&files, "root.json")?,
            targets: draft(&files, "targets.json")?,
            delegated,
            unusable,
            snapshot: draft(&files, "snapshot.json")?,
            timestamp: draft(&files, "timestamp.json")?,
        })
    }
}

fn draft<T: Body + Clone>(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<Draft<T>, MetadataError> {
    let error = |problem| TufError { document: name.to_owned(), problem };
    let bytes = files.get(name).ok_or_else(|| error(Problem::NotFound))?;
    let body = Document::<T>::parse(bytes).map_err(error)?.signed;
    Ok(Draft { published: Some(body.clone()), body, changed: false })
}

/// The repository as a host's client sees it, and the documents that the client accepted.
struct Published<R> {
    read: R,
    files: BTreeMap<String, Vec<u8>>,
}

impl<R: FnMut(&str) -> io::Result<Option<Vec<u8>>>> Outside for Published<R> {
    type Error = MetadataError;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, MetadataError> {
        let bytes = (self.read)(&file.name)
            .map_err(|source| MetadataError::Read { name: file.name.clone(), source })?;
        Ok(bytes.map_or(Answer::NotFound, Answer::Bytes))
    }

    fn persist(&mut self, name: &str, bytes: &[u8]) -> Result<(), MetadataError> {
        self.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), MetadataError> {
        self.files.remove(name);
        Ok(())
    }
}
