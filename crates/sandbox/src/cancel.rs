//! A handle that ends a running command from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Waker = Box<dyn Fn() + Send + Sync>;

/// Cheap to clone; all clones are one. One token may govern several commands; it cannot be taken back.
#[derive(Clone, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    /// Keyed, so that a command that has ended takes its own waker away again.
    wakers: Mutex<Vec<(u64, Waker)>>,
}

impl CancelToken {
    /// A token that nobody has cancelled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills the process trees of all commands under this token. Returns at once; the commands' [`run`](crate::run)
    /// calls return when the trees are dead.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        for (_, wake) in self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wake();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Calls `wake` on cancellation, at once if that has happened already, until the guard is dropped.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs there"))]
    pub(crate) fn watch(&self, wake: impl Fn() + Send + Sync + 'static) -> Watch<'_> {
        let mut wakers = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = wakers.last().map_or(0, |(key, _)| key + 1);
        if self.is_cancelled() {
            wake();
        }
        wakers.push((key, Box::new(wake)));
        Watch { token: self, key }
    }
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

pub(crate) struct Watch<'a> {
    token: &'a CancelToken,
    key: u64,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut wakers = self.token.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|(key, _)| *key != self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn wakes_those_who_watch_and_no_others() {
        let token = CancelToken::new();
        let count = Arc::new(AtomicUsize::new(0));
        let wake = || {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        let first = token.watch(wake());
        let second = token.watch(wake());
        drop(first);
        token.clone().cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let late = token.watch(wake());
        assert_eq!(count.load(Ordering::SeqCst), 2, "a token cancelled before is noticed at once");
        drop((second, late));
        assert!(token.shared.wakers.lock().unwrap().is_empty());
    }
}
