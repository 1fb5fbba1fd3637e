use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Site {
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    fs::create_dir_all(root.join("metadata")).unwrap();
    fs::create_dir_all(root.join(".staging")).unwrap();
    fs::write(root.join("metadata/timestamp.json"), "0123456789").unwrap();
    fs::write(root.join(".staging/half"), "secret").unwrap();
    fs::write(folder.path().join("outside"), "secret").unwrap();
    symlink("../../outside", root.join("metadata/link")).unwrap();
    let server = Server::bind(([127, 0, 0, 1], 0).into(), &root, Arc::new(|_, _, _| {})).unwrap();
    let address = server.address().unwrap();
    thread::spawn(move || server.run());
    Site { address, _folder: folder }
}

/// Sends `requests` over one connection and returns all that comes back.
fn talk(site: &Site, requests: &str) -> String {
    let mut stream = TcpStream::connect(site.address).unwrap();
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // A server that refuses an oversized request may close before it has read all of it.
    let _ = stream.read_to_string(&mut answer);
    answer
}

const FILE: &str = "/metadata/timestamp.json HTTP/1.1\r\n";

#[test]
fn a_connection_carries_many_requests() {
    let answer = talk(&site(), &format!("GET {FILE}\r\nGET {FILE}Range: bytes=3-5\r\n\r\nHEAD {FILE}\r\n"));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("0123456789").count(), 1, "{answer}");
    assert!(answer.contains("HTTP/1.1 206 Partial Content"), "{answer}");
    assert!(
        answer.contains("Content-Range: bytes 3-5/10\r\n") && answer.contains("\r\n\r\n345HTTP"),
        "{answer}"
    );
    assert!(answer.ends_with("Content-Length: 10\r\n\r\n"), "{answer}");
}

#[test]
fn a_range_beyond_the_end_is_416_with_the_length() {
    let answer = talk(&site(), &format!("GET {FILE}Range: bytes=10-\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 416 ") && answer.contains("Content-Range: bytes */10\r\n"),
        "{answer}"
    );
}

#[test]
fn nothing_outside_or_hidden_is_served() {
    let site = site();
    for path in
        ["/../outside", "/%2e%2e/outside", "/metadata/link", "/.staging/half", "/metadata", "/", "/none"]
    {
        let answer = talk(&site, &format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("secret"), "{path}: {answer}");
    }
}

#[test]
fn a_head_without_an_end_does_not_grow_forever() {
    let mut endless = std::io::Cursor::new(vec![b'a'; 20 << 10]);
    assert_eq!(read_head(&mut endless).unwrap().unwrap().len() as u64, MAX_HEAD);
}

#[test]
fn a_known_tag_is_not_sent_again() {
    let site = site();
    let answer = talk(&site, &format!("GET {FILE}\r\n"));
    let tag = answer.split("ETag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let answer = talk(&site, &format!("GET {FILE}If-None-Match: {tag}\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}
