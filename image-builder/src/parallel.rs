//! Runs independent work on all cores, with results in a fixed order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Runs `work` for 0 to before `count` on all cores and hands the results to `take` in that order, so that what is made does
/// not depend on timing. Few results wait at a time. Stops at the first error, in that order.
pub(crate) fn ordered<R: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<R, E> + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads().min(count).max(1);
    let gate = Gate::new(threads * 2);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads {
            let sender = sender.clone();
            let (gate, work) = (&gate, &work);
            scope.spawn(move || {
                while let Some(number) = gate.next(count) {
                    if sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (number, result) in receiver {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&next) {
                if let Err(error) = result.and_then(&mut take) {
                    gate.close();
                    return Err(error);
                }
                next += 1;
                gate.taken(next);
            }
        }
        Ok(())
    })
}

/// Runs `work` on all cores for each item; results in the order of the items.
pub(crate) fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let mut done = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(number) else { return done };
                done.push((number, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Hands out numbers, never further ahead of what was taken than `window`.
struct Gate {
    state: Mutex<(usize, usize)>,
    moved: Condvar,
    window: usize,
}

impl Gate {
    fn new(window: usize) -> Self {
        Self { state: Mutex::new((0, 0)), moved: Condvar::new(), window }
    }

    fn next(&self, count: usize) -> Option<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |(next, taken): &mut (usize, usize)| *next < count && *next >= *taken + self.window;
        let mut state = self.moved.wait_while(state, wait).unwrap_or_else(PoisonError::into_inner);
        let number = state.0;
        (number < count).then(|| {
            state.0 += 1;
            number
        })
    }

    fn taken(&self, count: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = count;
        self.moved.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = usize::MAX;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let mut seen = Vec::new();
        let take = |n: usize| {
            seen.push(n);
            Ok::<_, usize>(())
        };
        assert_eq!(ordered(1000, |n| Ok(n * 2), take), Ok(()));
        assert_eq!(seen, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        let failing = |n: usize| if n % 7 == 6 { Err(n) } else { Ok(n) };
        assert_eq!(ordered(1000, failing, |_| Ok(())), Err(6));
        assert_eq!(ordered(0, failing, |_| Ok(())), Ok(()));
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(map(&items, |n| Ok::<_, ()>(n + 1)).unwrap(), (1..101).collect::<Vec<_>>());
        assert_eq!(map(&items, |n| failing(*n)), Err(6));
    }
}
