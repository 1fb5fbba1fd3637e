//! The server against a client that is as plain as can be.

use std::io::{Read, Write};

use super::*;

fn served(content: &[u8]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/file"), content).unwrap();
    let server = Server::start(folder.path()).unwrap();
    (folder, server)
}

/// The status and what came of the body, over a connection of its own.
fn get(server: &Server, path: &str, range: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(server.address).unwrap();
    write!(connection, "GET /{path} HTTP/1.1\r\nHost: x\r\n{range}\r\n").unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (0, answer) };
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn files_and_ranges_are_served_and_counted() {
    let (_folder, server) = served(b"0123456789");
    assert_eq!(get(&server, "sub/file", ""), (200, "0123456789".to_owned()));
    assert_eq!(get(&server, "sub/file", "Range: bytes=2-4\r\n"), (206, "234".to_owned()));
    assert_eq!(get(&server, "sub/file", "Range: bytes=8-\r\n"), (206, "89".to_owned()));
    assert_eq!(get(&server, "sub/file", "Range: bytes=10-\r\n").0, 416);
    assert_eq!(get(&server, "none", "").0, 404);
    assert_eq!(get(&server, "../etc/passwd", "").0, 404);
    assert_eq!(server.sent("sub/"), 10 + 3 + 2 + "<html><body>416</body></html>\n".len() as u64);
    assert_eq!(server.requests()[1].range, Some((2, Some(4))));
}

#[test]
fn each_fault_is_what_it_says() {
    let (_folder, server) = served(b"0123456789");
    for (fault, expected) in [
        (Fault::Status(500), (500, "<html><body>500</body></html>\n")),
        (Fault::Instead(b"portal".to_vec()), (200, "portal")),
        (Fault::TooMuch(3), (200, "0123456789xxx")),
        (Fault::TooLittle(3), (200, "0123456")),
        (Fault::Cut(4), (200, "0123")),
        (Fault::Trickle(5), (200, "0123456789")),
        (Fault::HangUp, (0, "")),
    ] {
        server.mend();
        server.spoil("file", fault.clone());
        let (status, body) = get(&server, "sub/file", "");
        assert_eq!((status, body.as_str()), expected, "{fault:?}");
    }
    server.mend();
    server.spoil("file", Fault::NoRanges);
    assert_eq!(get(&server, "sub/file", "Range: bytes=2-4\r\n"), (200, "0123456789".to_owned()));
}

#[test]
fn a_fault_ends_after_its_times() {
    let (_folder, server) = served(b"0123456789");
    server.spoil_times("file", Fault::Status(503), 1);
    assert_eq!(get(&server, "sub/file", "").0, 503);
    assert_eq!(get(&server, "sub/file", "").0, 200);
}

#[test]
fn a_stalled_answer_ends_when_the_faults_are_mended() {
    let (_folder, server) = served(b"0123456789");
    server.spoil("file", Fault::Stall(6));
    let mut connection = TcpStream::connect(server.address).unwrap();
    write!(connection, "GET /sub/file HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"012345") {
        connection.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    server.mend();
    connection.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"012345"));
}
