//! How many requests are worked on at once, and how many may wait.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use kamil_protocol::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that are worked on at once.
pub(crate) const SLOTS: u32 = 8;
/// Requests that may wait.
const QUEUE: u32 = 256;

/// The door of the node's work: a request waits for its turn, or is told to come back.
#[derive(Clone)]
pub(crate) struct Admission {
    slots: Arc<Semaphore>,
    present: Arc<AtomicU32>,
}

/// A request's turn; it ends when this is dropped.
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    _presence: Presence,
}

struct Presence(Arc<AtomicU32>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(SLOTS as usize)), present: Arc::new(AtomicU32::new(0)) }
    }

    /// Waits for a turn.
    pub(crate) async fn enter(&self) -> Result<Turn, Problem> {
        let before = self.present.fetch_add(1, Ordering::Relaxed);
        let presence = Presence(Arc::clone(&self.present));
        if before >= SLOTS + QUEUE {
            let detail = format!(
                "{before} requests are being worked on or waiting, which is all this memory node takes."
            );
            return Err(Problem::new(ErrorCode::Busy, detail).retry_after_ms(100));
        }
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        let permit =
            permit.map_err(|_| Problem::new(ErrorCode::Busy, "The memory node is shutting down."))?;
        Ok(Turn { _permit: permit, _presence: presence })
    }

    /// Requests being worked on, and waiting.
    pub(crate) fn load(&self) -> (u32, u32) {
        let present = self.present.load(Ordering::Relaxed);
        (present.min(SLOTS), present.saturating_sub(SLOTS))
    }
}
