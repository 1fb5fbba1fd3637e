//! python-tuf, the reference implementation, reads what the publisher writes, and the agent's client reads what
//! python-tuf writes; tough reads and verifies a repository as it is served. Needs the packages of
//! `tests/interop/requirements.txt`, in the interpreter that `UPRIGHT_PYTHON` names if it is not `python3`, and the
//! program in `tests/interop/tough`, which `make` builds into `target/interop-tough`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use jiff::{SignedDuration, Timestamp};
use upright_image_builder::repo::metadata::{Lifetimes, Metadata, RoleSpec, Roles};
use upright_keys::{KeyPair, Signer};
use upright_manifests::digest::Digest;
use upright_manifests::release::Release;
use upright_manifests::tuf::{Answer, Client, Fetch, Outside, Stored, TufError};
use upright_tests::fixture::{Fixture, OS};

fn python(script: &str, arguments: &[&Path]) -> String {
    let python = std::env::var("UPRIGHT_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "see tests/interop/requirements.txt: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

struct Folder<'a>(&'a Path);

impl Outside for Folder<'_> {
    type Error = TufError;

    fn fetch(&mut self, file: &Fetch) -> Result<Answer, TufError> {
        match fs::read(self.0.join(&file.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::NotFound),
            bytes => Ok(Answer::Bytes(bytes.unwrap())),
        }
    }

    fn persist(&mut self, _: &str, _: &[u8]) -> Result<(), TufError> {
        Ok(())
    }

    fn forget(&mut self, _: &str) -> Result<(), TufError> {
        Ok(())
    }
}

#[test]
fn python_tuf_reads_what_the_publisher_writes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pairs: Vec<_> = (0..6).map(|seed| KeyPair::from_seed([seed; 32])).collect();
    let signers: Vec<_> = pairs.iter().map(|pair| pair as &dyn Signer).collect();
    let spec = |pairs: &[KeyPair], threshold| RoleSpec {
        keys: pairs.iter().map(|pair| *pair.public()).collect(),
        threshold,
    };
    let roles = Roles {
        root: spec(&pairs[..2], 2),
        targets: spec(&pairs[2..3], 1),
        snapshot: spec(&pairs[3..4], 1),
        timestamp: spec(&pairs[4..5], 1),
    };
    let write = |metadata: &mut Metadata| {
        for file in metadata.sign(&signers, Timestamp::now()).unwrap() {
            fs::write(folder.join(file.name), file.bytes).unwrap();
        }
    };
    let mut metadata = Metadata::create(&roles, Lifetimes::default(), Timestamp::now()).unwrap();
    metadata.set_target("releases/acme/1.json", 3, Digest::of(b"one")).unwrap();
    write(&mut metadata);
    metadata.set_target("releases/acme/2~rc1.json", 3, Digest::of(b"two")).unwrap();
    metadata.set_role("timestamp", &spec(&pairs[5..], 1)).unwrap();
    metadata.set_role("root", &spec(&pairs[1..4], 2)).unwrap();
    write(&mut metadata);
    for (path, content) in [("releases/acme/1.json", b"one"), ("releases/acme/2~rc1.json", b"two")] {
        let found = python("read_repository.py", &[folder, &folder.join("1.root.json"), Path::new(path)]);
        assert_eq!(found.trim(), format!("3 {}", Digest::of(content)));
    }
}

#[test]
fn the_agents_client_reads_what_python_tuf_writes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    python("write_repository.py", &[folder]);
    let root = fs::read(folder.join("1.root.json")).unwrap();
    let now = Timestamp::now() + SignedDuration::from_hours(1);
    let mut client = Client::new(Stored::new(Some(root), BTreeMap::new()).unwrap(), now).unwrap();
    for (path, content) in [("file.txt", &b"content"[..]), ("team/ä b.txt", b"delegated")] {
        let target = client.target(path, &mut Folder(folder)).unwrap();
        assert_eq!((target.length, target.sha256().unwrap()), (content.len() as u64, Digest::of(content)));
    }
    let versions: Vec<_> = client.status().into_iter().map(|role| (role.role, role.version)).collect();
    assert_eq!(
        versions,
        [("root", 2), ("timestamp", 1), ("snapshot", 1), ("targets", 1)].map(|(r, v)| (r.into(), v))
    );
}

#[test]
fn tough_reads_and_verifies_what_was_published() {
    let fixture = Fixture::new().unwrap();
    fixture.build(&["publish", "1.1.0"]).unwrap();
    fixture.build(&["refresh"]).unwrap();
    let repository = fixture.workspace().join("repository");
    let metadata = repository.join("metadata");
    let read = |target: &str| {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop-tough/debug/upright-tough");
        let arguments = [metadata.as_path(), &repository, &metadata.join("1.root.json"), Path::new(target)];
        Command::new(program).args(arguments).output().unwrap()
    };
    let path = "releases/acme/x86-64/1.1.0.json";
    let output = read(path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let release = Release::parse(&output.stdout).unwrap();
    assert_eq!((release.os.as_str(), release.version.as_str()), (OS, "1.1.0"));
    assert!(!read("releases/acme/x86-64/9.json").status.success());
    // It is the signatures that it goes by.
    let timestamp = metadata.join("timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap().replace("\"sig\": \"", "\"sig\": \"00");
    fs::write(timestamp, text).unwrap();
    assert!(!read(path).status.success());
}
