use std::fs;

use tempfile::TempDir;

use super::*;

/// An export with these files, as a file.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, content) in files {
        bytes.extend(archive::head(path, content.len() as u64, 0).unwrap());
        bytes.extend(*content);
        bytes.resize(bytes.len() + archive::padding(content.len() as u64), 0);
    }
    bytes.extend(archive::END);
    bytes
}

const FILES: [(&str, &[u8]); 3] =
    [("metadata/timestamp.json", b"{}"), ("payloads/x", b"0123456789"), ("payloads/none", b"")];

/// The same export as a folder and as a file.
fn both(at: &TempDir) -> [PathBuf; 2] {
    let (folder, file) = (at.path().join("folder"), at.path().join("file"));
    for (path, content) in FILES {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), content).unwrap();
    }
    fs::write(&file, archive(&FILES)).unwrap();
    [folder, file]
}

fn read(medium: &Medium, path: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = Vec::new();
    medium.open(path, range)?.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

#[test]
fn a_folder_and_a_file_are_read_alike() {
    let at = tempfile::tempdir().unwrap();
    for path in both(&at) {
        let medium = Medium::open(&path).unwrap();
        assert_eq!(read(&medium, "payloads/x", 0..10).unwrap(), b"0123456789");
        assert_eq!(read(&medium, "payloads/x", 3..5).unwrap(), b"34");
        assert_eq!(read(&medium, "payloads/x", 8..u64::MAX).unwrap(), b"89");
        assert_eq!(read(&medium, "payloads/none", 0..9).unwrap(), b"");
        assert!(matches!(read(&medium, "payloads/x", 10..11), Err(RemoteError::Protocol { .. })));
        assert!(matches!(read(&medium, "payloads/y", 0..1), Err(RemoteError::NotFound { .. })));
        assert!(read(&medium, "../folder/payloads/x", 0..1).is_err());
        assert!(medium.has("payloads/x") && !medium.has("payloads/y") && !medium.has("../file"));
    }
}

#[test]
fn a_medium_that_was_taken_out_is_asked_for_again() {
    let at = tempfile::tempdir().unwrap();
    for path in both(&at) {
        let medium = Medium::open(&path).unwrap();
        let away = at.path().join("away");
        fs::rename(&path, &away).unwrap();
        // Where it is mounted there is still a folder.
        for mounted in [false, true] {
            if mounted && away.is_dir() {
                fs::create_dir(&path).unwrap();
            }
            let error = read(&medium, "payloads/x", 0..1).unwrap_err();
            assert!(matches!(error, RemoteError::Gone { .. }) && error.is_final(), "{error}");
            assert!(error.to_string().contains("insert it again"), "{error}");
        }
        if away.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        fs::rename(&away, &path).unwrap();
        assert_eq!(read(&medium, "payloads/x", 0..1).unwrap(), b"0");
    }
    let [_, file] = both(&at);
    let medium = Medium::open(&file).unwrap();
    fs::write(&file, archive(&FILES[..1])).unwrap();
    assert!(matches!(read(&medium, "payloads/x", 0..1), Err(RemoteError::Gone { .. })));
}

#[test]
fn what_is_no_export_is_said_to_be_none() {
    let at = tempfile::tempdir().unwrap();
    let [folder, file] = both(&at);
    fs::remove_file(folder.join(TIMESTAMP)).unwrap();
    assert!(matches!(Medium::open(&folder), Err(MediumError::Empty { .. })));
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 600]).unwrap();
    let error = Medium::open(&file).unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("copy it again"), "{error}");
    fs::write(&file, b"#!/bin/sh").unwrap();
    assert!(Medium::open(&file).unwrap_err().to_string().contains("not an export"));
    fs::write(&file, archive(&FILES[1..])).unwrap();
    assert!(matches!(Medium::open(&file), Err(MediumError::Empty { .. })));
    let error = Medium::open(&at.path().join("nothing")).unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("insert and mount"), "{error}");
}

#[test]
fn what_cannot_be_read_on_a_medium_is_not_read_again() {
    let at = tempfile::tempdir().unwrap();
    let [folder, _] = both(&at);
    let medium = Medium::open(&folder).unwrap();
    // Reading the first page of one's own memory is an error of input or output, as a bad sector is.
    fs::remove_file(folder.join("payloads/x")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", folder.join("payloads/x")).unwrap();
    let mut reader = medium.open("payloads/x", 0..1).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    let error = RemoteError::of_reading(error, || panic!("not the line"));
    assert!(error.is_final() && error.is_unreadable() && !error.is_gone(), "{error}");
    assert!(
        error.to_string().contains("payloads/x on") && error.to_string().contains("Input/output"),
        "{error}"
    );
}

#[test]
fn whatever_a_path_has_in_it_is_told_on_one_line() {
    let at = tempfile::tempdir().unwrap();
    for path in both(&at) {
        let odd = at.path().join("a\nb\u{1b}[31m");
        fs::rename(&path, &odd).unwrap();
        let medium = Medium::open(&odd).unwrap();
        let mut told = vec![medium.address(), read(&medium, "payloads/y", 0..1).unwrap_err().to_string()];
        match odd.is_dir() {
            true => fs::remove_file(odd.join(TIMESTAMP)).unwrap(),
            false => fs::write(&odd, b"#!/bin/sh").unwrap(),
        }
        told.push(Medium::open(&odd).unwrap_err().to_string());
        told.push(Medium::open(&odd.join("none")).unwrap_err().to_string());
        fs::rename(&odd, at.path().join("away")).unwrap();
        told.push(read(&medium, "payloads/x", 0..1).unwrap_err().to_string());
        for line in told {
            assert!(line.contains("a\\nb\\u{1b}[31m") && !line.contains(char::is_control), "{line:?}");
        }
        let away = at.path().join("away");
        let _ = fs::remove_dir_all(&away).or_else(|_| fs::remove_file(&away));
    }
}
