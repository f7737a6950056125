//! How many requests a node takes: a few run, a few wait, the rest is refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use kamil_protocol::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds what runs and what waits.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    slots: u32,
    queue: u32,
    free: Arc<Semaphore>,
    /// Running and waiting together.
    inside: AtomicU32,
    /// How long a request took lately, to tell the refused when to come back.
    typical_ms: AtomicU32,
}

/// A place in the queue, then a slot; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(slots: u32, queue: u32) -> Self {
        let slots = slots.max(1);
        let free = Arc::new(Semaphore::new(slots as usize));
        Self(Arc::new(Gate {
            slots,
            queue,
            free,
            inside: AtomicU32::new(0),
            typical_ms: AtomicU32::new(1_000),
        }))
    }

    /// A place, at once.
    ///
    /// # Errors
    /// `busy` if slots and queue are full.
    pub(crate) fn enter(&self) -> Result<Ticket, Problem> {
        let gate = &self.0;
        let limit = gate.slots.saturating_add(gate.queue);
        let step_in = |inside| (inside < limit).then_some(inside + 1);
        if gate.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, step_in).is_err() {
            let detail = format!("This node is full: {} requests run and {} wait.", gate.slots, gate.queue);
            let wait_ms = u64::from(gate.typical_ms.load(Ordering::Relaxed)).clamp(200, 30_000);
            return Err(Problem::new(ErrorCode::Busy, detail)
                .next("Try again later, or start another LLM node.")
                .retry_after_ms(wait_ms));
        }
        let slot = Arc::clone(&gate.free).try_acquire_owned().ok();
        Ok(Ticket { gate: Arc::clone(gate), slot })
    }

    /// How many requests run, and how many wait.
    pub(crate) fn load(&self) -> (u32, u32) {
        let gate = &self.0;
        let free = u32::try_from(gate.free.available_permits()).unwrap_or(u32::MAX);
        let running = gate.slots.saturating_sub(free);
        (running, gate.inside.load(Ordering::Acquire).saturating_sub(running))
    }

    /// Notes how long a request took.
    pub(crate) fn took_ms(&self, ms: u64) {
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        let blend = |old: u32| Some(old - old / 4 + ms / 4);
        // The closure never refuses.
        let _ = self.0.typical_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, blend);
    }
}

impl Ticket {
    /// Waits for a slot, first come, first served.
    pub(crate) async fn slot(&mut self) {
        if self.slot.is_none() {
            // The semaphore is never closed.
            self.slot = Arc::clone(&self.gate.free).acquire_owned().await.ok();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot = None;
        self.gate.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_places_come_free() {
        let admission = Admission::new(2, 1);
        let first = admission.enter().unwrap();
        let second = admission.enter().unwrap();
        assert_eq!(admission.load(), (2, 0));
        let mut third = admission.enter().unwrap();
        assert_eq!(admission.load(), (2, 1));
        let refused = admission.enter().unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        assert!(refused.retry_after_ms.unwrap() >= 200);

        assert!(third.slot().now_or_never().is_none(), "it has to wait");
        drop(first);
        assert!(third.slot().now_or_never().is_some());
        assert_eq!(admission.load(), (2, 0));
        let waiting = admission.enter().unwrap();
        drop(waiting);
        drop(second);
        drop(third);
        assert_eq!(admission.load(), (0, 0));
    }

    #[test]
    fn the_time_to_come_back_follows_how_long_requests_take() {
        let admission = Admission::new(1, 0);
        let _first = admission.enter().unwrap();
        for _ in 0..40 {
            admission.took_ms(8_000);
        }
        let wait = admission.enter().unwrap_err().retry_after_ms.unwrap();
        assert!((7_000..=8_000).contains(&wait), "{wait}");
    }
}
