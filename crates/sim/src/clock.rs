//! The time of day in the simulation, and the ids of tasks.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use kamil_orchestrator::World;
use kamil_protocol::TaskId;
use tokio::time::Instant;

use crate::random::Random;

/// When every run begins: 2026-01-01T00:00:00Z.
const BEGINNING_MS: i64 = 1_767_225_600_000;

/// Virtual time, and a time of day that jumps against it.
#[derive(Debug)]
pub(crate) struct Clock {
    begun: Instant,
    offset_ms: AtomicI64,
    random: Random,
}

impl Clock {
    pub(crate) fn new(random: Random) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), offset_ms: AtomicI64::new(0), random })
    }

    /// Virtual milliseconds since the run began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sets the time of day forward, or back.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.elapsed_ms()).unwrap_or(i64::MAX);
        BEGINNING_MS.saturating_add(elapsed).saturating_add(self.offset_ms.load(Ordering::Relaxed))
    }
}

impl World for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn task_id(&self) -> TaskId {
        let millis = u64::try_from(self.now_ms()).unwrap_or(0);
        let random = self.random.bytes();
        TaskId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}
