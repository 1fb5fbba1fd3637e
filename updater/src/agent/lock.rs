//! One agent at a time: a lock on a file in the state folder, which the kernel drops with the process.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::host::Clock;
use crate::store::{StoreError, is_odd, make_place};

/// How often a lock that is held is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The right to change the record, for as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// Another process holds it.
    #[error(
        "another upright is at work{}; wait for it, or see `upright status` for what it does",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Held {
        /// The other process, if it said so yet: it has the lock for a moment before it writes that.
        pid: Option<u32>,
    },
    /// The lock's file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Lock {
    /// Takes the lock in `folder`, or says who has it if that is still the case after `patience`: the agent holds it for
    /// a moment each time it looks for work.
    pub fn wait(folder: &Path, clock: &dyn Clock, patience: Duration) -> Result<Self, Busy> {
        let until = clock.monotonic().saturating_add(patience);
        loop {
            match Self::take(folder) {
                Err(Busy::Held { .. }) if clock.monotonic() < until => clock.sleep(ASK_AGAIN),
                result => return result,
            }
        }
    }

    /// Takes the lock in `folder`, or says who has it.
    pub fn take(folder: &Path) -> Result<Self, Busy> {
        let path = folder.join("lock");
        let failed = |source| StoreError::Write { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let opened = make_place(&path).and_then(|()| options.open(&path));
        // A file system that became read-only must not keep anyone from going back, nor what is in the lock's place and cannot be moved, and
        // a lock needs no writing.
        let opened = opened.or_else(|error| match error.kind() {
            _ if is_odd(&path) => File::open(folder),
            ErrorKind::ReadOnlyFilesystem => File::open(&path).or_else(|_| File::open(folder)),
            _ => Err(error),
        });
        let mut file = opened.map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = (&file).take(32).read_to_string(&mut pid);
                return Err(Busy::Held { pid: pid.trim().parse().ok() });
            }
            Err(error) => return Err(failed(error.into()).into()),
        }
        // Who holds it is for people; a full disk must not keep the agent from working.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;

    /// A clock that moves by sleeping only; the other agent lets go of the lock at the third look.
    struct Waiting {
        slept: Mutex<Duration>,
        others: Mutex<Option<Lock>>,
    }

    impl Clock for Waiting {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            *self.slept.lock().unwrap()
        }
        fn sleep(&self, time: Duration) {
            *self.slept.lock().unwrap() += time;
            if self.monotonic() >= ASK_AGAIN * 2 {
                self.others.lock().unwrap().take();
            }
        }
    }

    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let others = || Mutex::new(Lock::take(folder.path()).ok());
        let patient = Waiting { slept: Mutex::default(), others: others() };
        assert!(Lock::wait(folder.path(), &patient, Duration::from_secs(10)).is_ok());
        assert_eq!(patient.monotonic(), ASK_AGAIN * 2);
        let hasty = Waiting { slept: Mutex::default(), others: others() };
        assert!(matches!(Lock::wait(folder.path(), &hasty, ASK_AGAIN), Err(Busy::Held { .. })));
    }

    #[test]
    fn what_is_in_the_locks_place_keeps_nobody_from_working() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let odd: [&dyn Fn(); 3] = [
            &|| fs::create_dir_all(path.join("inside")).unwrap(),
            &|| std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap(),
            &|| std::os::unix::fs::symlink("lock.left-0", &path).unwrap(),
        ];
        for put in odd {
            fs::remove_file(&path).unwrap_or_default();
            put();
            let lock = Lock::take(folder.path()).unwrap();
            assert!(path.symlink_metadata().unwrap().is_file());
            assert!(matches!(Lock::take(folder.path()), Err(Busy::Held { .. })));
            drop(lock);
        }
        assert!(folder.path().join("lock.left-0/inside").is_dir(), "what was there is lost");
    }

    #[test]
    fn who_has_the_lock_and_has_not_said_so_yet_is_not_named() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = Lock::take(folder.path()).unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        let busy = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(busy.starts_with("another upright is at work; wait"), "{busy}");
    }

    #[test]
    fn two_agents_do_not_work_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let busy = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(busy.contains(&format!("at work (process {});", std::process::id())), "{busy}");
        drop(lock);
        assert!(Lock::take(folder.path()).is_ok());
    }
}
