//! What who fetches relies on: exact bytes over any line, an error that says what is wrong, and an end to everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use upright_manifests::digest::Digest;
use upright_manifests::release::Blob;

use super::fake::{FakeClock, FakeRemote, Trouble};
use super::http::HttpOptions;
use super::pace::Floor;
use super::*;
use crate::host::{Clock, Remote, RemoteError};

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A server that answers each request with what `answer` makes of its head, and closes the connection.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/repo", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut head).is_ok_and(|length| length > 2) {}
            let _ = stream.write_all(&closing(answer(&head)));
        }
    });
    address
}

/// The answer with the announcement that the connection ends, so that no client tries to use it again.
fn closing(answer: Vec<u8>) -> Vec<u8> {
    match answer.strip_prefix(b"HTTP/1.1 ") {
        Some(rest) => {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let (status, headers) = rest.split_at(end);
            [b"HTTP/1.1 ", status, b"\r\nconnection: close", headers].concat()
        }
        None => answer,
    }
}

fn remote(address: &str) -> HttpRemote {
    HttpRemote::new(address, None).unwrap()
}

fn get(address: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = remote(address).open("a/b.json", range).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| format!("read: {error}"))?;
    Ok(bytes)
}

#[test]
fn a_range_is_asked_for_and_given() {
    let address = serve(|head| {
        assert!(head.starts_with("GET /repo/a/b.json HTTP/1.1\r\n"), "{head}");
        let lower = head.to_lowercase();
        assert!(lower.contains("range: bytes=2-4\r\n"), "{head}");
        assert!(lower.contains("accept-encoding: identity\r\n"), "{head}");
        assert!(lower.contains("user-agent: upright/"), "{head}");
        b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2-4/9\r\ncontent-length: 3\r\n\r\ncde".to_vec()
    });
    assert_eq!(get(&address, 2..5).unwrap(), b"cde");
    assert_eq!(get(&address.replace("127.0.0.1", "localhost"), 2..5).unwrap(), b"cde", "names resolve");
}

#[test]
fn bodies_that_are_too_long_or_too_short_are_errors() {
    let answers: [(&str, &str); 3] = [
        ("HTTP/1.1 206 OK\r\ncontent-range: bytes 0-4/9\r\n\r\nabcdefgh", "more than was asked for"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", "read: "),
        ("HTTP/1.1 206 OK\r\ncontent-range: bytes 0-4/9\r\n\r\nabc", "2 bytes too early"),
    ];
    for (answer, expected) in answers {
        let address = serve(move |_| answer.into());
        let error = get(&address, 0..5).unwrap_err();
        assert!(error.contains(expected), "{answer}: {error}");
    }
}

#[test]
fn of_a_server_without_ranges_the_start_of_a_file_is_taken_and_no_more() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\nabcdef",
        "HTTP/1.0 200 OK\r\n\r\nabcdefgh",
    ] {
        let address = serve(move |_| answer.into());
        assert_eq!(get(&address, 0..5).unwrap(), b"abcde", "{answer}");
        let error = get(&address, 2..5).unwrap_err();
        assert!(error.contains("from byte 2 on: the server does not serve ranges"), "{error}");
    }
    let short = serve(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc".to_vec());
    assert_eq!(get(&short, 0..5).unwrap(), b"abc");
}

#[test]
fn errors_say_what_is_wrong_in_one_line_and_keep_secrets() {
    for (answer, expected) in [
        ("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "does not exist on the server (404)"),
        ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 503"),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\nabc", "gzip"),
        ("garbage\r\n\r\n", "could not be fetched"),
        ("", "could not be fetched"),
    ] {
        let address = serve(move |_| answer.into());
        let secret = address.replace("http://", "http://user:secret@") + "?token=secret";
        let error = get(&secret, 0..5).unwrap_err();
        assert!(error.contains(expected), "{answer}: {error}");
        assert!(error.contains("/repo/a/b.json") && !error.contains("secret"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn redirects_end_and_stay_on_the_web() {
    let target = serve(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let redirect = |to: String| {
        serve(move |_| {
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        })
    };
    assert_eq!(get(&redirect(format!("{target}/x")), 0..5).unwrap(), b"ok");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let endless = serve(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        b"HTTP/1.1 302 Found\r\nlocation: /repo/again\r\ncontent-length: 0\r\n\r\n".to_vec()
    });
    let error = get(&endless, 0..5).unwrap_err();
    assert!(error.contains("redirects more than 5 times"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 6);
    assert!(get(&redirect("file:///etc/passwd".into()), 0..5).is_err());
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let options = HttpOptions { idle: Duration::from_millis(100), ..HttpOptions::default() };
    let impatient = HttpRemote::with(&address, None, options).unwrap();
    let error = impatient.open("x", 0..5).err().unwrap();
    assert!(matches!(error, RemoteError::Unavailable { .. }), "{error}");
    drop(listener);
    let error = remote(&address).open("x", 0..5).err().unwrap();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_server_below_the_floor_is_given_up_in_the_middle() {
    let address = serve(|_| {
        let length = 64 << 20;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; length]].concat()
    });
    let read = |rate| {
        let floor = Floor { rate, over: Duration::from_millis(1) };
        let remote =
            HttpRemote::with(&address, None, HttpOptions { floor, ..HttpOptions::default() }).unwrap();
        let mut body = remote.open("x", 0..64 << 20).unwrap();
        std::io::copy(&mut body, &mut std::io::sink())
    };
    // No line is as fast as the first floor, and none as slow as the second.
    let error = read(1 << 50).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("less than"), "{error}");
    assert_eq!(read(1).unwrap(), 64 << 20);
}

#[test]
fn paths_that_leave_the_repository_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repo");
    std::fs::create_dir_all(root.join("metadata")).unwrap();
    std::fs::write(folder.path().join("secret"), b"secret").unwrap();
    std::fs::write(root.join("metadata/root.json"), b"root").unwrap();
    let address = format!("file://{}", root.display());
    let remote = HttpRemote::new(&address, None).unwrap();
    for path in ["../secret", "metadata/../../secret", "/etc/passwd", "a\\b", "x?y", "x#y", "", "a//b"] {
        assert!(matches!(remote.open(path, 0..9), Err(RemoteError::Protocol { .. })), "{path}");
    }
    let mut bytes = Vec::new();
    remote.open("metadata/root.json", 1..3).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"oo");
    assert!(matches!(remote.open("metadata/none", 0..9), Err(RemoteError::NotFound { .. })));
    assert!(matches!(remote.open("metadata", 0..9), Err(RemoteError::Unavailable { .. })));
    std::fs::remove_dir_all(&root).unwrap();
    assert!(matches!(remote.open("metadata/root.json", 0..9), Err(RemoteError::Unavailable { .. })));
}

#[test]
fn paths_that_leave_the_repository_are_not_asked_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let address = serve(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret".to_vec()
    });
    for path in ["../secret", "metadata/../../secret", "/etc/passwd", "a\\b", "x?y", "x#y", "", "a//b"] {
        let error = remote(&address).open(path, 0..9).err();
        assert!(matches!(error, Some(RemoteError::Protocol { .. })), "{path}: {error:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn addresses_that_cannot_be_used_are_named() {
    for address in ["ftp://x/", "updates.example", "", "file://server/share"] {
        let error = HttpRemote::new(address, None).err().unwrap().to_string();
        assert!(error.contains("give http://, https:// or file:///"), "{error}");
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = HttpRemote::new("https://x/", Some(empty.path())).err().unwrap().to_string();
    assert!(error.contains("PEM is expected"), "{error}");
}

fn parts(
    remote: &FakeRemote,
    ranges: &[std::ops::Range<u64>],
) -> (Result<Vec<Vec<u8>>, FetchError>, u64, Duration) {
    let clock = FakeClock::default();
    let fetcher = Fetcher::new(remote, &clock, Patience::default());
    let got = fetcher.with_parts("x", ranges, |parts| ranges.iter().map(|_| parts.next()).collect());
    (got, fetcher.fetched(), clock.monotonic())
}

#[test]
fn neighbouring_parts_are_one_request_and_far_ones_are_not() {
    let remote = FakeRemote::default();
    let file = noise(100_000);
    remote.put("x", file.clone());
    let ranges = [0..10, 10..5000, 6000..7000, 60_000..70_000];
    let (got, fetched, _) = parts(&remote, &ranges);
    for (range, got) in ranges.iter().zip(got.unwrap()) {
        assert!(got == file[range.start as usize..range.end as usize]);
    }
    let requests: Vec<_> = remote.requests().into_iter().map(|(_, range)| range).collect();
    assert_eq!(requests, [0..7000, 60_000..70_000]);
    assert_eq!(fetched, 17_000);
}

#[test]
fn a_run_of_parts_is_had_without_ranges_and_taken_up_once_more() {
    let remote = FakeRemote::default();
    let file = noise(100_000);
    remote.put("x", file.clone());
    remote.give_up_ranges();
    let run = [40_000..50_000, 50_000..90_000, 90_000..100_000];
    let (got, fetched, _) = parts(&remote, &run);
    assert!(got.unwrap().concat() == file[40_000..]);
    assert_eq!(fetched, 100_000, "what is thrown away counts");
    // From the start it drops once without harm; whoever comes again later goes on where this one stopped.
    remote.once([Trouble::Drop(60_000)]);
    let (got, fetched, _) = parts(&remote, &[0..50_000, 50_000..100_000]);
    assert!(got.unwrap().concat() == file);
    assert_eq!(fetched, 160_000);
    remote.once([Trouble::Drop(60_000), Trouble::Drop(70_000)]);
    let (got, fetched, _) = parts(&remote, &[0..50_000, 50_000..100_000]);
    let error = got.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("does not serve ranges"), "{error}");
    assert_eq!(fetched, 130_000, "no more than the file, and what there was before");
    // Parts here and there are no reason to read all of it.
    let (got, fetched, _) = parts(&remote, &[10..20, 60_000..70_000]);
    assert!(got.unwrap_err().is_temporary());
    assert_eq!(fetched, 0);
}

#[test]
fn a_dead_server_is_given_up_after_a_while() {
    let remote = FakeRemote::default();
    remote.put("x", noise(1000));
    // A few bytes at a time are no progress: an update would take for ever.
    for trouble in [Trouble::Busy, Trouble::Drop(0), Trouble::End(0), Trouble::Drop(1), Trouble::End(1)] {
        remote.always("x", trouble);
        let (got, _, waited) = parts(&remote, std::slice::from_ref(&(0..1000)));
        let error = got.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        let total = Patience::default().total;
        assert!(waited <= total && waited > total / 2, "{waited:?}");
    }
    remote.recover();
    for trouble in [Trouble::Missing, Trouble::Wrong] {
        remote.always("x", trouble);
        let (got, _, waited) = parts(&remote, std::slice::from_ref(&(0..1000)));
        assert!(got.is_err());
        assert_eq!(waited, Duration::ZERO, "what is final is not tried again");
    }
}

/// A server that gives so many bytes a second, and drops each connection after four seconds.
struct Slow {
    clock: Arc<FakeClock>,
    file: Vec<u8>,
    rate: usize,
}

struct SlowLine {
    clock: Arc<FakeClock>,
    bytes: std::io::Cursor<Vec<u8>>,
    rate: usize,
    seconds: u32,
}

impl Remote for Slow {
    fn open(&self, _: &str, range: std::ops::Range<u64>) -> Result<Box<dyn Read + Send>, RemoteError> {
        let bytes = self.file[range.start as usize..range.end as usize].to_vec();
        let (clock, bytes) = (self.clock.clone(), std::io::Cursor::new(bytes));
        Ok(Box::new(SlowLine { clock, bytes, rate: self.rate, seconds: 4 }))
    }
    fn address(&self) -> String {
        "slow:".into()
    }
}

impl Read for SlowLine {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.seconds = self.seconds.checked_sub(1).ok_or(std::io::ErrorKind::TimedOut)?;
        self.clock.sleep(Duration::from_secs(1));
        let most = buffer.len().min(self.rate);
        self.bytes.read(&mut buffer[..most])
    }
}

#[test]
fn a_server_that_trickles_over_many_connections_is_given_up_and_a_slow_one_is_not() {
    let fetch = |rate: usize, ranges: &[std::ops::Range<u64>]| {
        let clock = Arc::new(FakeClock::default());
        let remote = Slow { clock: clock.clone(), file: noise(1 << 20), rate };
        let fetcher = Fetcher::new(&remote, clock.as_ref(), Patience::default());
        let got: Result<Vec<Vec<u8>>, FetchError> =
            fetcher.with_parts("x", ranges, |parts| ranges.iter().map(|_| parts.next()).collect());
        (got.map(|parts| parts.concat().len()), clock.monotonic())
    };
    let large = std::slice::from_ref(&(0..1 << 20));
    // Each within a connection's time, and far enough from each other for a connection each.
    let small: Vec<_> = (0..8).map(|n| n * 100_000..n * 100_000 + 700).collect();
    let (got, time) = fetch(300, large);
    assert!(got.unwrap_err().is_temporary());
    assert!(time < Patience::default().total * 2, "{time:?}");
    assert_eq!(fetch(300, &small).0.unwrap(), 5600, "nothing dropped");
    let next: Vec<_> = (0..1 << 20).step_by(700).map(|at| at..at + 700).take(1000).collect();
    assert!(
        fetch(300, &next).0.unwrap_err().is_temporary(),
        "many parts, none of them longer than a connection brings"
    );
    let (got, time) = fetch(1024, large);
    assert_eq!((got.unwrap(), time.as_secs()), (1 << 20, 1024), "no wait");
}

#[test]
fn a_file_that_was_damaged_on_its_way_is_fetched_once_more() {
    let remote = FakeRemote::default();
    let file = noise(5000);
    remote.put("x", file.clone());
    let blob = Blob { path: "x".parse().unwrap(), size: 5000, sha256: Digest::of(&file) };
    let clock = FakeClock::default();
    let fetcher = Fetcher::new(&remote, &clock, Patience::default());
    remote.once([Trouble::Damage(7)]);
    assert!(fetcher.blob(&blob, 5000).unwrap() == file);
    remote.always("x", Trouble::Damage(7));
    assert!(matches!(fetcher.blob(&blob, 5000), Err(FetchError::Hash { .. })));
    assert!(matches!(fetcher.blob(&blob, 4999), Err(FetchError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn any_drops_give_the_exact_bytes(
        cuts in prop::collection::vec((0u64..4000, any::<bool>()), 0..40),
        lengths in prop::collection::vec((1u64..3000, 0u64..40_000), 1..12),
    ) {
        let remote = FakeRemote::default();
        let (mut ranges, mut at) = (Vec::new(), 0);
        for (length, gap) in lengths {
            ranges.push(at..at + length);
            at += length + gap;
        }
        let file = noise(at as usize);
        remote.put("x", file.clone());
        let trouble = |(after, fails)| if fails { Trouble::Drop(after) } else { Trouble::End(after + 1) };
        remote.once(cuts.into_iter().map(trouble));
        let (got, _, _) = parts(&remote, &ranges);
        for (range, got) in ranges.iter().zip(got.unwrap()) {
            prop_assert!(got == file[range.start as usize..range.end as usize]);
        }
    }
}

const CERTIFICATE: &str = "[req]\ndistinguished_name = dn\nx509_extensions = ext\n[dn]\n[ext]\n\
    basicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost\n";

/// A certificate for `localhost` that vouches for itself, and its key; PEM files.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let config = folder.join("config");
    std::fs::write(&config, CERTIFICATE).unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-config"])
        .arg(&config)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

const AUTHORITY: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\nnew_certs_dir = .\n\
    default_md = sha256\npolicy = any\nx509_extensions = ext\n[any]\ncommonName = supplied\n";

/// A certificate for `localhost` whose time was over long ago, and its key.
fn expired(folder: &Path) -> (PathBuf, PathBuf) {
    let (fresh, key) = certificate(folder);
    std::fs::write(folder.join("config"), format!("{AUTHORITY}{CERTIFICATE}")).unwrap();
    std::fs::write(folder.join("index"), "").unwrap();
    std::fs::write(folder.join("serial"), "01").unwrap();
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    openssl("req -new -key key.pem -subj /CN=test -config config -out request.pem");
    openssl(
        "ca -batch -notext -config config -selfsign -keyfile key.pem -in request.pem -out certificate.pem \
         -startdate 20200101000000Z -enddate 20200102000000Z",
    );
    (fresh, key)
}

/// Serves one file over TLS; the address.
fn serve_tls(certificate: &Path, key: &Path) -> String {
    answer_tls(certificate, key, "200 OK\r\ncontent-length: 4\r\n\r\nsafe".to_owned())
}

/// Answers everything the same over TLS.
fn answer_tls(certificate: &Path, key: &Path, answer: String) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok() {
                let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    format!("https://localhost:{port}")
}

#[test]
fn only_those_who_are_trusted_vouch_for_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, key) = certificate(folder.path());
    let address = serve_tls(&ours, &key);
    let mut bytes = Vec::new();
    let trusting = HttpRemote::new(&address, Some(&ours)).unwrap();
    trusting.open("x", 0..9).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"safe");
    let elsewhere = tempfile::tempdir().unwrap();
    let (others, _) = certificate(elsewhere.path());
    let wrong_name = address.replace("localhost", "127.0.0.1");
    for (address, authorities) in [(&address, Some(others)), (&address, None), (&wrong_name, Some(ours))] {
        let remote = HttpRemote::new(address, authorities.as_deref()).unwrap();
        let error = remote.open("x", 0..9).err().unwrap();
        // Another try would not help.
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[test]
fn a_certificate_whose_time_is_over_vouches_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = expired(folder.path());
    let remote = HttpRemote::new(&serve_tls(&certificate, &key), Some(&certificate)).unwrap();
    let error = remote.open("x", 0..9).err().unwrap();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn a_server_that_does_not_speak_tls_is_not_talked_to_without() {
    let plain = serve(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain".to_vec());
    let error = remote(&plain.replace("http://", "https://")).open("x", 0..9).err().unwrap();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error}");
}

#[test]
fn a_redirect_never_leads_from_https_to_http() {
    let redirected =
        |from: &str, to: &str| super::http::downgrades(&from.parse().unwrap(), &to.parse().unwrap());
    assert!(redirected("https://a/x", "http://a/x"));
    assert!(!redirected("https://a/x", "https://b/x"));
    assert!(!redirected("http://a/x", "https://a/x"));
    assert!(!redirected("http://a/x", "http://b/x"));

    let folder = tempfile::tempdir().unwrap();
    let (ours, key) = certificate(folder.path());
    let plain = serve(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain".to_vec());
    let redirect = format!("302 Found\r\nlocation: {plain}/x\r\ncontent-length: 0\r\n\r\n");
    let remote = HttpRemote::new(&answer_tls(&ours, &key, redirect), Some(&ours)).unwrap();
    let error = remote.open("x", 0..9).err().unwrap();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("from https to http"), "{error}");
}
