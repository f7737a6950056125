//! The orchestrator without its HTTP API.

use std::{sync::Arc, time::Duration};

use kamil_node::{ClusterKey, Home, Metrics};
use kamil_plan::Task;
use kamil_protocol::{
    NodeId, Problem, StepId, TaskId,
    event::EventRecord,
    node::{Heartbeat, RegisterNode, Registered},
    replay::ReplayReport,
    task::{ApprovalDecision, TaskAccepted, TaskDoc, TaskRequest},
};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Command, Hub},
    journal::{Disk, Journal, JournalError, Writer},
    link::HttpNetwork,
    measures::Measures,
    options::{OrchestratorOptions, StartError},
    registry::Registry,
    replay::replay,
};

/// How often nodes are checked for heartbeats that did not come.
const SWEEP: Duration = Duration::from_millis(200);

/// A running orchestrator, for those in the same process; cheap to clone.
#[derive(Clone)]
pub struct Orchestrator {
    pub(crate) hub: Arc<Hub>,
}

impl std::fmt::Debug for Orchestrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestrator").field("open_tasks", &self.hub.open_tasks()).finish_non_exhaustive()
    }
}

impl Orchestrator {
    /// Opens the journal of this home and takes up unfinished tasks.
    ///
    /// # Errors
    /// [`StartError::Journal`]: the journal cannot be used.
    pub async fn open(
        home: &Home,
        key: Option<ClusterKey>,
        options: OrchestratorOptions,
        metrics: &Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let measures = Measures::new(metrics);
        let (journal, writer) = open_journal(home, metrics, &options).await?;
        let network = options.network.clone().unwrap_or_else(|| Arc::new(HttpNetwork { key }));
        let registry = Arc::new(Registry::new(network, options.heartbeat_timeout));
        let (resume, disk) = (options.resume, options.disk.clone());
        let hub = Hub::new(journal, Arc::clone(&registry), options, measures, shutdown.clone());
        run_writer(&hub, writer, &disk)?;
        hub.expect_fleet().await?;
        if resume {
            let resumed = hub.resume().await?;
            if resumed > 0 {
                tracing::info!(resumed, "unfinished tasks are taken up again");
            }
        }
        hub.running.spawn(Arc::clone(&hub.dispatcher).run(shutdown.clone()));
        hub.running.spawn(sweep(registry, shutdown));
        Ok(Self { hub })
    }

    /// Accepts a request: when this returns, the task is durable. A repeat with the same key answers with the first task.
    ///
    /// # Errors
    /// `validation_failed`, `plan_invalid`, `tool_unknown`, `invalid_arguments`, `model_unknown`, `idempotency_mismatch`,
    /// `busy`, `storage_full`; `node_unreachable` if the orchestrator stops meanwhile.
    pub async fn submit(
        &self,
        request: TaskRequest,
        idempotency_key: Option<String>,
    ) -> Result<TaskAccepted, Problem> {
        self.hub.create(request, idempotency_key).await
    }

    /// Stops a task.
    ///
    /// # Errors
    /// `task_unknown`, `conflict` if it has ended.
    pub async fn cancel(&self, task: TaskId) -> Result<(), Problem> {
        let reason = "the person stopped it".to_owned();
        self.hub.command(task, |reply| Command::Cancel { reason, reply }).await
    }

    /// Decides on a step that waits for the person.
    ///
    /// # Errors
    /// `task_unknown`, `step_unknown`, `conflict` if nothing is asked, or something else.
    pub async fn decide(
        &self,
        task: TaskId,
        step: StepId,
        decision: ApprovalDecision,
    ) -> Result<(), Problem> {
        self.hub.command(task, |reply| Command::Decide { step, decision, reply }).await
    }

    /// The task document.
    ///
    /// # Errors
    /// `task_unknown`.
    pub async fn document(&self, task: TaskId) -> Result<TaskDoc, Problem> {
        self.hub.document(task).await
    }

    /// The state of a task as its driver has it; `None` if the task has ended, and has none any more.
    ///
    /// # Errors
    /// `task_unknown`.
    pub async fn live(&self, task: TaskId) -> Result<Option<Task>, Problem> {
        self.hub.live(task).await
    }

    /// A task's records, as the journal has them on the disk; none if there is no such task.
    ///
    /// # Errors
    /// [`JournalError`] if they cannot be read.
    pub async fn records(&self, task: TaskId) -> Result<Vec<EventRecord>, JournalError> {
        let records = self.hub.journal.records_of(task).await?;
        let record = |stored: crate::journal::StoredRecord| EventRecord {
            seq: stored.seq,
            task: stored.task,
            at: stored.at,
            event: stored.event,
        };
        Ok(records.into_iter().map(record).collect())
    }

    /// Decides a task again from its records, on the caller's thread.
    ///
    /// # Errors
    /// [`JournalError`] if they cannot be read.
    pub async fn replay(&self, task: TaskId) -> Result<ReplayReport, JournalError> {
        Ok(replay(task, &self.hub.journal.history(task).await?))
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn open_tasks(&self) -> usize {
        self.hub.open_tasks()
    }

    /// Takes a node in, or takes it back after a restart.
    ///
    /// # Errors
    /// `validation_failed`, `invalid_parameter`, `busy`.
    pub async fn register(&self, node: RegisterNode) -> Result<Registered, Problem> {
        self.hub.register(node).await
    }

    /// Takes a node's sign of life.
    ///
    /// # Errors
    /// `node_unknown`: it has to register again.
    pub fn heartbeat(&self, node: NodeId, beat: Heartbeat) -> Result<Registered, Problem> {
        self.hub.heartbeat(node, beat)
    }

    /// A node says goodbye.
    ///
    /// # Errors
    /// `node_unknown`.
    pub async fn remove(&self, node: NodeId) -> Result<(), Problem> {
        self.hub.remove(node).await
    }

    /// Returns when everything that it runs has ended, after the shutdown that it was opened with.
    pub async fn stopped(self) {
        self.hub.running.close();
        self.hub.running.wait().await;
    }
}

async fn open_journal(
    home: &Home,
    metrics: &Arc<Metrics>,
    options: &OrchestratorOptions,
) -> Result<(Journal, Writer), JournalError> {
    let (path, identity) = (home.journal(), home.identity());
    let (metrics, limit, disk) = (Arc::clone(metrics), options.journal_limit_bytes, options.disk.clone());
    if matches!(disk, Disk::Simulated(_)) {
        return Journal::open(&path, &identity, &metrics, limit, disk);
    }
    let opening = tokio::task::spawn_blocking(move || Journal::open(&path, &identity, &metrics, limit, disk));
    opening.await.map_err(|error| JournalError::Database(error.to_string()))?
}

fn run_writer(hub: &Hub, writer: Writer, disk: &Disk) -> Result<(), JournalError> {
    if matches!(disk, Disk::Simulated(_)) {
        hub.running.spawn(writer.run_here(hub.shutdown.clone()));
        return Ok(());
    }
    // The thread ends by itself when the last handle on the journal is gone.
    let thread = std::thread::Builder::new().name("kamil-journal".to_owned());
    let started = thread.spawn(move || writer.run());
    started
        .map(|_| ())
        .map_err(|error| JournalError::Database(format!("its writer cannot be started: {error}")))
}

async fn sweep(registry: Arc<Registry>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        registry.sweep();
    }
}
