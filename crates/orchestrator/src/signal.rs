//! Word that something has changed, for many who wait.
//!
//! Those who wait are woken in the order in which they began to, which a `tokio::sync::watch` does not promise: its order
//! is random, and a run could not be repeated.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// The end that tells.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    version: AtomicU64,
    waiting: Notify,
}

/// The end that waits.
#[derive(Debug)]
pub(crate) struct Changes {
    signal: Arc<Signal>,
    seen: u64,
}

impl Signal {
    /// Tells everyone.
    pub(crate) fn tell(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Waits for what is told from now on.
    pub(crate) fn listen(self: &Arc<Self>) -> Changes {
        Changes { signal: Arc::clone(self), seen: self.version.load(Ordering::Acquire) }
    }
}

impl Changes {
    /// Returns when something has been told that was not yet heard here. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) {
        loop {
            let told = self.signal.waiting.notified();
            let version = self.signal.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return;
            }
            told.await;
        }
    }

    /// Counts everything told so far as heard.
    pub(crate) fn catch_up(&mut self) {
        self.seen = self.signal.version.load(Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_told_is_missed_and_nothing_is_heard_twice() {
        let signal = Arc::new(Signal::default());
        let mut early = signal.listen();
        signal.tell();
        let mut late = signal.listen();
        early.changed().await;
        let mut waiting = tokio::spawn(async move {
            late.changed().await;
            early.changed().await;
        });
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut waiting).is_pending());
        signal.tell();
        waiting.await.unwrap();
    }
}
