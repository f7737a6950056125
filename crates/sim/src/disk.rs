//! The disk under the journal.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use kamil_orchestrator::journal::{Fault, Faults};
use kamil_protocol::event::EventRecord;
use tokio::sync::Notify;

use crate::oracle::Oracle;

/// Where, relative to a commit, the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// A disk that can be full, and a machine that can stop at a commit.
#[derive(Debug)]
pub(crate) struct SimulatedDisk {
    oracle: Arc<Oracle>,
    full: AtomicBool,
    /// Commits until the machine stops, times two, and one more if it stops after the commit; 0: it does not.
    armed: AtomicU64,
    stopped: Notify,
}

impl SimulatedDisk {
    pub(crate) fn new(oracle: Arc<Oracle>) -> Arc<Self> {
        Arc::new(Self {
            oracle,
            full: AtomicBool::new(false),
            armed: AtomicU64::new(0),
            stopped: Notify::new(),
        })
    }

    pub(crate) fn fill(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// The machine stops at the commit after so many others.
    pub(crate) fn arm(&self, others: u64, moment: Moment) {
        self.armed.store((others + 1) * 2 + u64::from(moment == Moment::After), Ordering::Relaxed);
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(0, Ordering::Relaxed);
    }

    /// Returns when the machine has stopped at a commit.
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    fn stops(&self, moment: Moment) -> bool {
        let armed = self.armed.load(Ordering::Relaxed);
        let here = match moment {
            Moment::Before => armed == 2,
            Moment::After => armed == 3,
        };
        if here {
            self.disarm();
            self.oracle.note(&format!("the machine stops {moment:?} a commit"));
            self.stopped.notify_one();
        }
        here
    }
}

impl Faults for SimulatedDisk {
    fn before_commit(&self, records: &[EventRecord]) -> Fault {
        if self.full.load(Ordering::Relaxed) {
            self.oracle.note(&format!("no room for {} records", records.len()));
            return Fault::Full;
        }
        if self.stops(Moment::Before) { Fault::Crash } else { Fault::None }
    }

    fn after_commit(&self, records: &[EventRecord]) -> Fault {
        self.oracle.committed(records);
        if self.stops(Moment::After) {
            return Fault::Crash;
        }
        let armed = self.armed.load(Ordering::Relaxed);
        if armed >= 4 {
            self.armed.store(armed - 2, Ordering::Relaxed);
        }
        Fault::None
    }
}
