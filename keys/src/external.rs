//! External signers: a command that gets the bytes on standard input and writes the signature.
//!
//! So a PKCS#11 token, a cloud KMS or Vault signs without being linked in. Nothing the command says is
//! believed: its output is bounded, and the signature is verified before it is used.
//!
//! Without a terminal, such as in CI, the command has a process group of its own, which is killed as a whole when the time is
//! up. With one it stays in the group that the terminal listens to: it may have to ask a person for a PIN, and a process of
//! another group that reads the terminal is stopped. Then the command alone is killed, and what it left behind is
//! the person's, who sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::public::PublicKey;
use crate::signature::Signature;
use crate::signer::{SignError, Signer};

/// The most that is read from a command's output, in bytes.
const MAX_OUTPUT: u64 = 4096;

/// How long a command may take, unless more is asked for: long enough for a person to touch a token.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How often a command that has ended its output is asked whether it has ended itself.
const POLL: Duration = Duration::from_millis(10);

/// A command that signs with one key. The bytes to sign are its standard input; the signature, on its
/// standard output, is 64 raw bytes, 128 hexadecimal digits or base64, with or without a newline.
#[derive(Debug, Clone)]
pub struct ExternalSigner {
    public: PublicKey,
    program: String,
    arguments: Vec<String>,
    limit: Duration,
}

impl ExternalSigner {
    /// A signer that runs `program` with `arguments`, without a shell, and should sign with `public`.
    pub fn new(public: PublicKey, program: impl Into<String>, arguments: Vec<String>) -> Self {
        Self { public, program: program.into(), arguments, limit: TIME_LIMIT }
    }

    /// The same with another limit to the time that the command may take.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// What the command writes; `apart` from the group of this process, or within it.
    fn run(&self, bytes: &[u8], apart: bool) -> Result<Vec<u8>, SignError> {
        let failed = |source| SignError::Command { command: self.program.clone(), source };
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if apart {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(failed)?;
        // Each pipe has its own thread, so that neither side waits for the other to read first. They are not waited for: a
        // process that the command left behind may hold the pipes for ever.
        let (output, errors) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let (stdin, input) = (child.stdin.take(), bytes.to_vec());
        // A command that does not read all of its input is judged by its output alone.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let output = output.recv_timeout(self.limit).ok();
        let status = output.as_ref().map(|_| self.wait(&mut child, started)).transpose().map_err(failed)?;
        let (Some(output), Some(status)) = (output, status.flatten()) else {
            stop(&mut child, apart);
            return Err(SignError::TimedOut { command: self.program.clone(), limit: self.limit });
        };
        if !status.success() {
            let errors = errors.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            let stderr = String::from_utf8_lossy(&errors);
            let line = stderr.lines().last().unwrap_or("it wrote no reason");
            // Whoever reads this does so on a terminal.
            let stderr = line.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(SignError::Failed { command: self.program.clone(), status, stderr });
        }
        Ok(output)
    }

    /// Waits for the command's end; none when the time is up.
    fn wait(&self, child: &mut Child, started: Instant) -> std::io::Result<Option<ExitStatus>> {
        loop {
            match child.try_wait()? {
                None if started.elapsed() < self.limit => thread::sleep(POLL),
                outcome => return Ok(outcome),
            }
        }
    }
}

/// Kills a command that has not been waited for, so that its number is still its own, with its group if it has one.
fn stop(child: &mut Child, apart: bool) {
    if apart {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether a person can be asked at the terminal of this process.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// The first [`MAX_OUTPUT`] bytes; the rest is read and dropped, so that the writer is not stopped.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (done, kept) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        // Nobody listens any more once the time is up.
        let _ = done.send(bytes);
    });
    kept
}

fn parse(output: &[u8]) -> Option<Signature> {
    if let Ok(signature) = Signature::try_from(output) {
        return Some(signature);
    }
    // `base64` and others break lines within a signature.
    let text: String = std::str::from_utf8(output).ok()?.split_ascii_whitespace().collect();
    text.parse().ok().or_else(|| Signature::try_from(Base64::decode_vec(&text).ok()?.as_slice()).ok())
}

impl Signer for ExternalSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, bytes: &[u8]) -> Result<Signature, SignError> {
        let output = self.run(bytes, !has_terminal())?;
        let command = self.program.clone();
        let Some(signature) = parse(&output) else {
            return Err(SignError::Output { command, length: output.len() });
        };
        match self.public.verify(bytes, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err(SignError::WrongKey { command, key: self.public.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_pair::KeyPair;

    /// A command whose input is `bytes` of some length and whose output is what `script` writes.
    fn signer(script: &str) -> ExternalSigner {
        let public = *KeyPair::from_seed([1; 32]).public();
        ExternalSigner::new(public, "sh", vec!["-c".into(), script.into()])
    }

    #[test]
    fn every_spelling_of_a_signature_is_read() {
        let bytes = vec![7; 1 << 20];
        let signature = KeyPair::from_seed([1; 32]).sign(&bytes).unwrap();
        let base64 = Base64::encode_string(signature.as_bytes());
        let octal: String = signature.as_bytes().iter().map(|b| format!("\\{b:03o}")).collect();
        for script in [
            format!("cat >/dev/null; echo {signature}"),
            format!("echo {base64}"),
            format!("echo {} {}; echo {}", &base64[..10], &base64[10..76], &base64[76..]),
            format!("cat >/dev/null; printf '{octal}'"),
        ] {
            assert_eq!(signer(&script).sign(&bytes).unwrap(), signature, "{script}");
        }
    }

    #[test]
    fn a_signature_of_another_key_is_not_used() {
        let other = KeyPair::from_seed([2; 32]).sign(b"x").unwrap();
        let error = signer(&format!("cat >/dev/null; echo {other}")).sign(b"x").unwrap_err();
        assert!(matches!(error, SignError::WrongKey { .. }), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        // One with its output open, one that has closed it, one that leaves another process behind.
        for script in ["exec sleep 600", "exec >&- 2>&-; sleep 600", "sleep 600 & wait"] {
            let started = Instant::now();
            let error = signer(script).within(Duration::from_millis(200)).sign(b"x").unwrap_err();
            assert!(matches!(error, SignError::TimedOut { .. }), "{script}: {error}");
            assert!(started.elapsed() < Duration::from_secs(60), "{script}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_gone_afterwards() {
        // One process, one that waits for another, one that leaves another with its output.
        let alone = "echo $$ > F; exec sleep 600";
        let parent = "echo $$ > F; sleep 600 & echo $! >> F; wait";
        let orphaned = "sleep 600 & echo $! > F";
        for (script, apart) in [(alone, true), (alone, false), (parent, true), (orphaned, true)] {
            let numbers = tempfile::NamedTempFile::new().unwrap();
            let script = script.replace('F', &numbers.path().display().to_string());
            let error = signer(&script).within(Duration::from_secs(2)).run(b"x", apart).unwrap_err();
            assert!(matches!(error, SignError::TimedOut { .. }), "{script}: {error}");
            let numbers = std::fs::read_to_string(numbers.path()).unwrap();
            assert!(!numbers.is_empty(), "{script}: it had not started yet");
            for number in numbers.lines() {
                assert!(is_gone(number), "{script}: {number} still runs");
            }
        }
    }

    /// Whether a process ends: one whose parent has ended is somebody else's to wait for.
    fn is_gone(number: &str) -> bool {
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
        };
        (0..500).any(|_| {
            thread::sleep(POLL);
            !runs()
        })
    }

    #[test]
    fn what_a_command_complains_of_cannot_move_the_cursor() {
        let error = signer(r"printf '\033[2Jno token\007' >&2; exit 3").sign(b"x").unwrap_err();
        assert!(error.to_string().ends_with("failed (exit status: 3): [2Jno token"), "{error}");
    }

    #[test]
    fn a_command_that_fails_or_babbles_is_an_error() {
        let error = signer("echo no token >&2; exit 3").sign(b"x").unwrap_err();
        assert!(error.to_string().ends_with("failed (exit status: 3): no token"), "{error}");
        let error = signer("yes | head -c 10000000").sign(b"x").unwrap_err();
        assert!(matches!(error, SignError::Output { length: 4096, .. }), "{error}");
        let missing = ExternalSigner::new(*KeyPair::from_seed([1; 32]).public(), "/nonexistent", vec![]);
        assert!(matches!(missing.sign(b"x"), Err(SignError::Command { .. })));
    }
}
