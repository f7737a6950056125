//! The network between the orchestrator and its nodes.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kamil_protocol::NodeId;
use tokio::sync::Notify;

use crate::{random::Random, weather::Weather};

/// How a node can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As always.
    Open,
    /// Connections are refused at once.
    Refused,
    /// What is sent stays under way until the way is open again.
    Silent,
}

/// Why a message did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Delays, loses and holds back what is sent.
#[derive(Debug)]
pub(crate) struct Wire {
    random: Random,
    weather: Weather,
    calm: AtomicBool,
    ways: Mutex<BTreeMap<NodeId, Way>>,
    changed: Notify,
}

impl Wire {
    pub(crate) fn new(random: Random, weather: Weather) -> Self {
        Self { random, weather, calm: AtomicBool::new(false), ways: Mutex::default(), changed: Notify::new() }
    }

    fn ways(&self) -> MutexGuard<'_, BTreeMap<NodeId, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn way(&self, node: NodeId) -> Way {
        self.ways().get(&node).copied().unwrap_or(Way::Open)
    }

    pub(crate) fn set(&self, node: NodeId, way: Way) {
        self.ways().insert(node, way);
        self.changed.notify_waiters();
    }

    /// From now on nothing is lost, and nothing takes long.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.ways().clear();
        self.changed.notify_waiters();
    }

    /// Whether something may go wrong now, so many times in a thousand.
    pub(crate) fn mishap(&self, per_mille: u64) -> bool {
        !self.calm.load(Ordering::Relaxed) && self.random.per_mille(per_mille)
    }

    /// One message goes between a node and the orchestrator, either way. It may never return.
    pub(crate) async fn pass(&self, node: NodeId) -> Result<(), Broken> {
        loop {
            let changed = self.changed.notified();
            match self.way(node) {
                Way::Open => break,
                Way::Refused => return Err(Broken),
                Way::Silent => changed.await,
            }
        }
        if self.mishap(self.weather.hangs_per_mille) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.delay()).await;
        if self.mishap(self.weather.breaks_per_mille) { Err(Broken) } else { Ok(()) }
    }

    fn delay(&self) -> Duration {
        if self.mishap(self.weather.delays_per_mille) {
            self.random.millis(50, 4_000)
        } else {
            self.random.millis(0, 5)
        }
    }
}
