//! The machine of the orchestrator: it runs the real one, stops, and starts it again on the same journal.

use std::sync::{Arc, Mutex, PoisonError};

use kamil_node::{Home, Metrics};
use kamil_orchestrator::{Orchestrator, OrchestratorOptions};
use kamil_protocol::TaskId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{disk::SimulatedDisk, oracle::Oracle, random::Random};

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    home: Home,
    options: OrchestratorOptions,
    oracle: Arc<Oracle>,
    disk: Arc<SimulatedDisk>,
    random: Random,
    current: Mutex<Option<Orchestrator>>,
    stop: Notify,
    changed: Notify,
}

impl Machine {
    pub(crate) fn new(
        home: Home,
        options: OrchestratorOptions,
        oracle: Arc<Oracle>,
        disk: Arc<SimulatedDisk>,
        random: Random,
    ) -> Arc<Self> {
        Arc::new(Self {
            home,
            options,
            oracle,
            disk,
            random,
            current: Mutex::new(None),
            stop: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// The orchestrator, while it runs.
    pub(crate) fn current(&self) -> Option<Orchestrator> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The orchestrator, as soon as it runs.
    pub(crate) async fn reached(&self) -> Orchestrator {
        loop {
            let changed = self.changed.notified();
            match self.current() {
                Some(orchestrator) => return orchestrator,
                None => changed.await,
            }
        }
    }

    fn set(&self, orchestrator: Option<Orchestrator>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = orchestrator;
        self.changed.notify_waiters();
    }

    /// The machine stops now.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Runs the orchestrator, again and again, until the run is over.
    pub(crate) async fn operate(self: Arc<Self>, over: CancellationToken) {
        loop {
            let stop = CancellationToken::new();
            let metrics = Metrics::new();
            let opening =
                Orchestrator::open(&self.home, None, self.options.clone(), &metrics, stop.clone()).await;
            let orchestrator = match opening {
                Ok(orchestrator) => orchestrator,
                Err(error) => {
                    self.oracle.violated(&format!("the orchestrator cannot start again: {error}"));
                    return;
                }
            };
            self.oracle.note("the orchestrator runs");
            self.hold_against_journal(&orchestrator).await;
            self.set(Some(orchestrator.clone()));
            let last = tokio::select! {
                biased;
                () = over.cancelled() => true,
                () = self.disk.stopped() => false,
                () = self.stop.notified() => false,
            };
            self.set(None);
            stop.cancel();
            orchestrator.stopped().await;
            self.oracle.note("the orchestrator has stopped");
            if last {
                return;
            }
            tokio::time::sleep(self.random.millis(0, 3_000)).await;
        }
    }

    /// Everything that was acknowledged is there, and as it was committed.
    pub(crate) async fn hold_against_journal(&self, orchestrator: &Orchestrator) {
        for id in self.oracle.acknowledged_tasks() {
            match orchestrator.records(id).await {
                Ok(records) if records.is_empty() => {
                    self.oracle.violated(&format!("task {id} was acknowledged and is lost"));
                }
                Ok(records) => {
                    let events = records.iter().map(|record| (record.at, &record.event));
                    if kamil_plan::Task::fold(id, events).ok() != self.oracle.task(id) {
                        self.oracle
                            .violated(&format!("the journal tells of task {id} otherwise than it did"));
                    }
                    match orchestrator.replay(id).await.map(|report| report.difference) {
                        Ok(None) => {}
                        Ok(Some(difference)) => self.oracle.violated(&format!(
                            "task {id} would be decided otherwise: {}",
                            difference.detail
                        )),
                        Err(error) => self.oracle.violated(&format!("task {id} cannot be read: {error}")),
                    }
                }
                Err(error) => self.oracle.violated(&format!("task {id} cannot be read: {error}")),
            }
        }
    }

    /// The driver's own state of a task is the fold of what is durable, and so is its document.
    pub(crate) async fn hold_against_driver(&self, id: TaskId) {
        let Some(orchestrator) = self.current() else { return };
        let before = self.oracle.records_of(id);
        let live = orchestrator.live(id).await;
        let shown = orchestrator.document(id).await;
        let Some(after) = self.oracle.task(id) else { return };
        if self.oracle.records_of(id) != before {
            // It has gone on meanwhile; it is looked at again.
            return;
        }
        if let Ok(Some(live)) = live
            && live != after
        {
            let (live, after) = (format!("{live:#?}"), format!("{after:#?}"));
            let differs = live.lines().zip(after.lines()).find(|(live, after)| live != after);
            let what = format!("the driver of task {id} has it otherwise than its journal: {differs:?}");
            self.oracle.violated(&what);
        }
        if let Ok(shown) = shown
            && shown.status != after.status()
        {
            let what = format!("task {id} is shown as {:?}, and is {:?}", shown.status, after.status());
            self.oracle.violated(&what);
        }
    }
}
