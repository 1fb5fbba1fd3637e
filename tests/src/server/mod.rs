//! An HTTP server of static files that counts what it sends and misbehaves on request.
//!
//! HTTP/1.1 as far as a repository needs it: GET and HEAD, one byte range, connections that stay open.

mod fault;
mod request;
mod response;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use fault::Fault;
pub use request::Request;

/// A server on this machine's loopback, until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// What the threads of a server share.
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Request>,
    sent: BTreeMap<String, u64>,
    /// Those that are open, by when they came.
    connections: BTreeMap<u64, TcpStream>,
    accepted: u64,
    ended: bool,
}

struct Rule {
    /// Part of the paths it is for.
    within: String,
    fault: Fault,
    /// How many answers it still spoils.
    left: u32,
}

impl Server {
    /// Serves the files below `root` at a free port.
    pub fn start(root: &Path) -> io::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        let shared =
            Arc::new(Shared { root: root.to_owned(), state: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let listener = Some(thread::spawn(move || own.listen(&socket)));
        Ok(Self { address, shared, listener })
    }

    /// Its address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port, for a guest that reaches this machine by another address.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, answers for paths that contain `within` have `fault`; of several rules the latest counts.
    pub fn spoil(&self, within: &str, fault: Fault) {
        self.spoil_times(within, fault, u32::MAX);
    }

    /// Like [`Self::spoil`], for the next `times` answers only.
    pub fn spoil_times(&self, within: &str, fault: Fault, times: u32) {
        self.shared.lock().rules.push(Rule { within: within.to_owned(), fault, left: times });
    }

    /// Ends all faults; answers that stall are cut off.
    pub fn mend(&self) {
        self.shared.lock().rules.clear();
        self.shared.changed.notify_all();
    }

    /// How many bytes of bodies were sent for paths that contain `within`.
    pub fn sent(&self, within: &str) -> u64 {
        let state = self.shared.lock();
        state.sent.iter().filter(|(path, _)| path.contains(within)).map(|(_, bytes)| bytes).sum()
    }

    /// Waits until this many bytes of bodies were sent, for `time` at most; says whether they were.
    pub fn until_sent(&self, bytes: u64, time: Duration) -> bool {
        let sent = |state: &State| state.sent.values().sum::<u64>();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), time, |state| sent(state) < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        sent(&state) >= bytes
    }

    /// What was asked for so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Forgets what was sent and asked for.
    pub fn reset_counts(&self) {
        let mut state = self.shared.lock();
        state.sent.clear();
        state.requests.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.lock();
            state.ended = true;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        for connection in connections.into_values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, socket: &TcpListener) {
        for connection in socket.incoming().flatten() {
            let mut state = self.lock();
            if state.ended {
                return;
            }
            let Ok(ours) = connection.try_clone() else { continue };
            state.accepted += 1;
            let id = state.accepted;
            state.connections.insert(id, ours);
            drop(state);
            let own = Arc::clone(self);
            thread::spawn(move || {
                // A client that hangs up is no concern of the server's.
                let _ = own.converse(connection);
                if let Some(connection) = own.lock().connections.remove(&id) {
                    let _ = connection.shutdown(Shutdown::Both);
                }
            });
        }
    }

    fn converse(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut output = connection.try_clone()?;
        let mut input = BufReader::new(connection);
        while let Some(request) = Request::read(&mut input)? {
            let fault = self.take_note(&request);
            let keep_open = self.answer(&request, fault, &mut output)?;
            output.flush()?;
            if !keep_open {
                break;
            }
        }
        Ok(())
    }

    fn take_note(&self, request: &Request) -> Option<Fault> {
        let mut state = self.lock();
        state.requests.push(request.clone());
        let applies = |rule: &&mut Rule| rule.left > 0 && request.path.contains(&rule.within);
        let rule = state.rules.iter_mut().rev().find(applies)?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }

    fn count(&self, path: &str, bytes: u64) {
        *self.lock().sent.entry(path.to_owned()).or_default() += bytes;
        self.changed.notify_all();
    }

    /// Waits for `time`, or until the faults are mended or the server ends; says whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let spoiled = |state: &mut State| !state.ended && !state.rules.is_empty();
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, spoiled)
            .unwrap_or_else(PoisonError::into_inner);
        !state.ended
    }
}

#[cfg(test)]
mod tests;
