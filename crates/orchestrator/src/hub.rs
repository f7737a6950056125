//! What all tasks share, and the way to each of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kamil_plan::{
    Step, Task,
    graph::{self, Author},
};
use kamil_protocol::{
    ErrorCode, NodeId, Problem, SessionId, TaskId,
    event::TaskEvent,
    node::{Heartbeat, RegisterNode, Registered, Role},
    replay::ReplayReport,
    task::{
        ApprovalDecision, DEFAULT_DEADLINE_MS, ForkRequest, MAX_INPUT_BYTES, MOST_TOKENS_OUT, QueuePlace,
        TaskAccepted, TaskRequest, TaskStatus, TaskSummary, WaitingStep,
    },
};
use kamil_protocol::{StepId, task::TaskDoc};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    dispatcher::Dispatcher,
    driver::{
        Driver, First, decision,
        fork::{self, Fork},
        placing,
    },
    feed::{Feed, Record},
    journal::{Beginning, Journal, JournalError},
    measures::Measures,
    options::OrchestratorOptions,
    registry::Registry,
    replay::replay,
    sessions::{Sessions, Turn},
    tool_set::ToolSet,
};

/// Most tasks that ended lately and are kept at hand.
const MAX_RECENT: usize = 256;
/// Commands that may wait for a task.
const INBOX: usize = 64;
const MAX_HISTORY: usize = 200;
/// Most tasks that are looked at for one page of a list with a status.
const MOST_LISTED: usize = 1_000;
const LEAST_DEADLINE_MS: u64 = 1_000;
const MOST_DEADLINE_MS: u64 = 24 * 3_600_000;
/// After the start, tasks wait this long at most for the nodes to register again.
const NODES_WAIT: Duration = Duration::from_millis(1_500);

/// The first record of a task that is durable is shown long before this.
const FIRST_RECORD_WAIT: Duration = Duration::from_secs(2);

/// What a person does to a task, or wants to know of its driver.
#[derive(Debug)]
pub(crate) enum Command {
    Cancel {
        reason: String,
        reply: oneshot::Sender<Result<(), Problem>>,
    },
    Decide {
        step: StepId,
        decision: ApprovalDecision,
        reply: oneshot::Sender<Result<(), Problem>>,
    },
    /// Shows the state that the driver has.
    Show {
        reply: oneshot::Sender<Task>,
    },
}

/// A task at hand.
pub(crate) struct Live {
    pub(crate) feed: Arc<Feed>,
    inbox: mpsc::Sender<Command>,
}

#[derive(Default)]
struct Tasks {
    open: BTreeMap<TaskId, Arc<Live>>,
    recent: BTreeMap<TaskId, Arc<Live>>,
    order: VecDeque<TaskId>,
}

/// What all tasks share.
pub(crate) struct Hub {
    pub(crate) journal: Journal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) options: OrchestratorOptions,
    pub(crate) measures: Measures,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: TaskTracker,
    begun: Instant,
    /// Nodes that were there when the last run ended, until they are back or have been waited for.
    expected: Mutex<BTreeSet<NodeId>>,
    tasks: Mutex<Tasks>,
}

impl Hub {
    pub(crate) fn new(
        journal: Journal,
        registry: Arc<Registry>,
        options: OrchestratorOptions,
        measures: Measures,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            dispatcher: Dispatcher::new(Arc::clone(&registry), &measures),
            sessions: Arc::default(),
            journal,
            registry,
            options,
            measures,
            shutdown,
            running: TaskTracker::new(),
            begun: Instant::now(),
            expected: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        self.options.world.now()
    }

    /// How many tasks have not ended.
    pub(crate) fn open_tasks(&self) -> usize {
        self.tasks().open.len()
    }

    /// Accepts a request: when this returns, the task is durable, and so is the start of its first steps.
    ///
    /// # Errors
    /// `validation_failed`, `plan_invalid`, `tool_unknown`, `invalid_arguments`, `model_unknown`, `idempotency_mismatch`, `busy`, `storage_full`.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: TaskRequest,
        idempotency_key: Option<String>,
    ) -> Result<TaskAccepted, Problem> {
        self.check(&request)?;
        self.await_nodes().await;
        self.check_graph(&request)?;
        let fingerprint = fingerprint(&request)?;
        let id = self.options.world.task_id();
        let at = self.now();
        let (tools, memory) = (self.registry.tools(), self.registry.knows(Role::Memory));
        let events = decision::begin(request, idempotency_key.clone(), at, &tools, memory);
        let task = Task::fold(id, events.iter().map(|event| (at, event)))
            .map_err(|error| Problem::new(ErrorCode::Internal, format!("The task cannot begin: {error}.")))?;
        self.begin(task, tools, at, events, Beginning { idempotency_key, fingerprint }).await
    }

    /// Makes a task that is another one but for one result.
    ///
    /// # Errors
    /// `task_unknown`, `step_unknown`, `conflict` if the other has not ended, `validation_failed`, `plan_invalid`,
    /// `approval_required` if tools would change something again, `idempotency_mismatch`, `busy`, `storage_full`.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        origin: TaskId,
        request: ForkRequest,
        idempotency_key: Option<String>,
    ) -> Result<TaskAccepted, Problem> {
        self.await_nodes().await;
        let fingerprint = fingerprint(&(origin, &request))?;
        let task = self.task(origin).await?;
        if task.ended().is_none() {
            return Err(Problem::new(ErrorCode::Conflict, format!("Task {origin} has not ended."))
                .next("Wait for its end, or stop it with POST /v1/tasks/{id}/cancel."));
        }
        let (id, at) = (self.options.world.task_id(), self.now());
        let (tools, memory) = (self.registry.tools(), self.registry.knows(Role::Memory));
        let Fork { events, task, effects } =
            fork::fork(&task, id, at, &request.step, request.output, &tools, memory)?;
        if !effects.is_empty() && !request.effects {
            let steps: Vec<String> =
                effects.iter().map(|effect| format!("`{}` ({})", effect.step, effect.tool)).collect();
            let detail = format!("Steps that change something would run again: {}.", steps.join(", "));
            return Err(Problem::new(ErrorCode::ApprovalRequired, detail)
                .data(serde_json::to_value(effects).unwrap_or_default())
                .next("Send `effects`: true if they may."));
        }
        self.begin(task, tools, at, events, Beginning { idempotency_key, fingerprint }).await
    }

    /// Starts the driver of a new task; when this returns, the task is durable.
    async fn begin(
        self: &Arc<Self>,
        task: Task,
        tools: Arc<ToolSet>,
        at: Timestamp,
        events: Vec<TaskEvent>,
        beginning: Beginning,
    ) -> Result<TaskAccepted, Problem> {
        let id = task.id();
        let (live, inbox) = live(id);
        let turn = self.admit(id, &live, task.request().session)?;
        let (reply, accepted) = oneshot::channel();
        let driver = Driver::new(Arc::clone(self), live, task, vec![tools], inbox, turn);
        self.running.spawn(driver.run(First::New { at, events, beginning, reply }));
        accepted.await.map_err(|_| Problem::from(JournalError::Closed))?
    }

    fn admit(
        &self,
        id: TaskId,
        live: &Arc<Live>,
        session: Option<SessionId>,
    ) -> Result<Option<Turn>, Problem> {
        let mut tasks = self.tasks();
        if tasks.open.len() >= self.options.max_open_tasks {
            let detail = format!("{} tasks are unfinished, which is the most.", tasks.open.len());
            return Err(Problem::new(ErrorCode::Busy, detail).retry_after_ms(1_000));
        }
        tasks.open.insert(id, Arc::clone(live));
        self.measures.open_tasks.set(i64::try_from(tasks.open.len()).unwrap_or(i64::MAX));
        Ok(session.map(|session| self.sessions.join(session, id)))
    }

    /// A task that never became durable.
    pub(crate) fn forget(&self, id: TaskId) {
        let mut tasks = self.tasks();
        tasks.open.remove(&id);
        self.measures.open_tasks.set(i64::try_from(tasks.open.len()).unwrap_or(i64::MAX));
    }

    /// A task that has ended.
    pub(crate) fn retire(&self, id: TaskId) {
        let mut tasks = self.tasks();
        if let Some(live) = tasks.open.remove(&id) {
            tasks.recent.insert(id, live);
            tasks.order.push_back(id);
        }
        while tasks.order.len() > MAX_RECENT {
            if let Some(oldest) = tasks.order.pop_front() {
                tasks.recent.remove(&oldest);
            }
        }
        self.measures.open_tasks.set(i64::try_from(tasks.open.len()).unwrap_or(i64::MAX));
    }

    /// Takes up every task that an earlier run left unfinished.
    ///
    /// # Errors
    /// If the journal cannot be read, or tells of something that cannot have happened.
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<usize, JournalError> {
        let unfinished = self.journal.unfinished().await?;
        let mut taken_up = Vec::with_capacity(unfinished.len());
        for id in unfinished {
            let (live, inbox) = live(id);
            let records = self.stored(id).await?;
            let accepted = records.first().map_or(u64::MAX, |record| record.seq);
            live.feed.publish(records);
            let task = fold(&live.feed).map_err(|problem| JournalError::Database(problem.detail))?;
            let untouched = task.steps().iter().all(|step| step.attempt == 0);
            let tools = self.journal.tools_of(&live.feed.tool_sets()).await?;
            taken_up.push(((untouched, accepted), live, inbox, task, tools));
        }
        // Within a session what had begun goes on, and the rest follows in the order of acceptance.
        taken_up.sort_by_key(|(order, ..)| *order);
        let count = taken_up.len();
        for (_, live, inbox, task, tools) in taken_up {
            let turn = task.request().session.map(|session| self.sessions.join(session, task.id()));
            self.tasks().open.insert(task.id(), Arc::clone(&live));
            let driver = Driver::new(Arc::clone(self), live, task, tools, inbox, turn);
            self.running.spawn(driver.run(First::Resumed));
        }
        self.measures.open_tasks.set(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(count)
    }

    async fn stored(&self, id: TaskId) -> Result<Vec<Record>, JournalError> {
        let records = self.journal.records_of(id).await?;
        let record = |stored: crate::journal::StoredRecord| Record {
            seq: stored.seq,
            at: stored.at,
            event: stored.event,
            body: String::new(),
        };
        Ok(records.into_iter().map(record).collect())
    }

    /// Takes a node in, and tells it what is expected of it.
    ///
    /// # Errors
    /// `validation_failed`, `invalid_parameter`, `busy`.
    pub(crate) async fn register(&self, node: RegisterNode) -> Result<Registered, Problem> {
        let id = node.id;
        self.registry.register(node, self.now())?;
        self.note_node(id, true).await;
        Ok(self.terms())
    }

    /// Takes a node's sign of life.
    ///
    /// # Errors
    /// `node_unknown`: it has to register again.
    pub(crate) fn heartbeat(&self, id: NodeId, beat: Heartbeat) -> Result<Registered, Problem> {
        self.registry.heartbeat(id, beat, self.now())?;
        Ok(self.terms())
    }

    /// A node says goodbye.
    ///
    /// # Errors
    /// `node_unknown`.
    pub(crate) async fn remove(&self, id: NodeId) -> Result<(), Problem> {
        self.registry.remove(id)?;
        self.note_node(id, false).await;
        Ok(())
    }

    fn terms(&self) -> Registered {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Registered {
            heartbeat_interval_ms: millis(self.options.heartbeat_interval),
            heartbeat_timeout_ms: millis(self.options.heartbeat_timeout),
        }
    }

    /// Decides a task again, from what the journal has of it.
    ///
    /// # Errors
    /// `task_unknown`, `internal` if the journal cannot be read.
    pub(crate) async fn replay(&self, id: TaskId) -> Result<ReplayReport, Problem> {
        let history = self.journal.history(id).await?;
        if history.records.is_empty() {
            return Err(unknown(id));
        }
        let replaying = tokio::task::spawn_blocking(move || replay(id, &history));
        replaying.await.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("The replay of task {id} broke off: {error}."))
        })
    }

    fn at_hand(&self, id: TaskId) -> Option<Arc<Live>> {
        let tasks = self.tasks();
        tasks.open.get(&id).or_else(|| tasks.recent.get(&id)).map(Arc::clone)
    }

    /// The feed of a task, from memory or from the journal.
    ///
    /// # Errors
    /// `task_unknown`.
    pub(crate) async fn feed(&self, id: TaskId) -> Result<Arc<Feed>, Problem> {
        let feed = match self.at_hand(id) {
            Some(live) => {
                // The first record is durable before it is shown, and a repeated request may have its id in between.
                let _ = tokio::time::timeout(FIRST_RECORD_WAIT, live.feed.begun()).await;
                Arc::clone(&live.feed)
            }
            None => {
                let feed = Arc::new(Feed::new(id));
                feed.publish(self.stored(id).await?);
                feed
            }
        };
        if feed.is_empty() { Err(unknown(id)) } else { Ok(feed) }
    }

    /// A page of the list of tasks, newest first, and where it goes on.
    ///
    /// With a status that only open tasks have, these alone are looked at; with another one, at most [`MOST_LISTED`] tasks
    /// for each page, so that a page may be short though there are more.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) async fn list(
        &self,
        status: Option<TaskStatus>,
        mut before: Option<TaskId>,
        limit: usize,
    ) -> Result<(Vec<TaskSummary>, Option<TaskId>), Problem> {
        let places = self.dispatcher.places(None);
        let mut items = Vec::new();
        let mut looked_at = 0;
        loop {
            let ids = match status {
                Some(status) if !status.is_final() => self.open_before(before, MOST_LISTED),
                Some(_) => self.journal.page(before, MOST_LISTED / 4).await.map_err(Problem::from)?,
                None => self.journal.page(before, limit).await.map_err(Problem::from)?,
            };
            if ids.is_empty() {
                return Ok((items, None));
            }
            for id in ids {
                before = Some(id);
                looked_at += 1;
                let Some(summary) = self.summary(id, &places).await? else { continue };
                if status.is_none_or(|status| status == summary.status) {
                    items.push(summary);
                }
                if items.len() == limit {
                    return Ok((items, before));
                }
            }
            if looked_at >= MOST_LISTED {
                return Ok((items, before));
            }
        }
    }

    /// Open tasks before this one, newest first.
    fn open_before(&self, before: Option<TaskId>, limit: usize) -> Vec<TaskId> {
        let tasks = self.tasks();
        let mut open: Vec<TaskId> = tasks.open.keys().copied().collect();
        drop(tasks);
        open.retain(|id| before.is_none_or(|before| *id < before));
        open.sort_unstable_by(|left, right| right.cmp(left));
        open.truncate(limit);
        open
    }

    /// A task's line in a list, with its places in the queue; `None` if nothing of it is durable yet.
    async fn summary(
        &self,
        id: TaskId,
        places: &BTreeMap<(TaskId, StepId), QueuePlace>,
    ) -> Result<Option<TaskSummary>, Problem> {
        if self.at_hand(id).is_some_and(|live| live.feed.is_empty()) {
            return Ok(None);
        }
        let task = self.task(id).await?;
        let mut summary = task.summary();
        let waiting = task.steps().iter().filter_map(|step| waiting_step(id, step, places));
        summary.waiting = waiting.collect();
        Ok(Some(summary))
    }

    /// The state of a task.
    ///
    /// # Errors
    /// `task_unknown`.
    pub(crate) async fn task(&self, id: TaskId) -> Result<Task, Problem> {
        fold(&*self.feed(id).await?)
    }

    /// The task document, with the answer as far as it is written.
    ///
    /// # Errors
    /// `task_unknown`.
    pub(crate) async fn document(&self, id: TaskId) -> Result<TaskDoc, Problem> {
        let feed = self.feed(id).await?;
        let task = fold(&feed)?;
        let mut document = task.document();
        for waiting in self.waiting(&task) {
            if let Some(step) = document.steps.iter_mut().find(|step| step.id == waiting.step) {
                (step.waiting, step.queue) = (Some(waiting.reason), waiting.queue);
            }
        }
        if document.answer.is_none() && !document.status.is_final() {
            document.answer = feed.written();
        }
        Ok(document)
    }

    /// The steps of a task that could start and do not, with their places in the queue as they are now.
    pub(crate) fn waiting(&self, task: &Task) -> Vec<WaitingStep> {
        let mut waiting = task.steps().iter().filter(|step| step.waiting.is_some()).peekable();
        if waiting.peek().is_none() {
            return Vec::new();
        }
        let places = self.dispatcher.places(Some(task.id()));
        waiting.filter_map(|step| waiting_step(task.id(), step, &places)).collect()
    }

    /// Sends a command to a task that has not ended.
    ///
    /// # Errors
    /// `task_unknown`, `conflict` if it has ended, or what the task answers.
    pub(crate) async fn command(
        &self,
        id: TaskId,
        command: impl FnOnce(oneshot::Sender<Result<(), Problem>>) -> Command,
    ) -> Result<(), Problem> {
        let open = self.tasks().open.get(&id).map(Arc::clone);
        let ended = || Problem::new(ErrorCode::Conflict, format!("Task {id} has ended."));
        let Some(live) = open else {
            self.feed(id).await?;
            return Err(ended());
        };
        let (reply, done) = oneshot::channel();
        live.inbox.send(command(reply)).await.map_err(|_| ended())?;
        done.await.map_err(|_| ended())?
    }

    /// The state that a task's driver has; `None` if the task has ended.
    ///
    /// # Errors
    /// `task_unknown`.
    pub(crate) async fn live(&self, id: TaskId) -> Result<Option<Task>, Problem> {
        let open = self.tasks().open.get(&id).map(Arc::clone);
        let Some(live) = open else {
            return self.feed(id).await.map(|_| None);
        };
        let (reply, shown) = oneshot::channel();
        // A task that ends meanwhile has no driver to answer.
        let _ = live.inbox.send(Command::Show { reply }).await;
        Ok(shown.await.ok())
    }

    pub(crate) fn check(&self, request: &TaskRequest) -> Result<(), Problem> {
        let invalid = |detail: String| Err(Problem::new(ErrorCode::ValidationFailed, detail));
        if request.input.is_empty() || request.input.len() > MAX_INPUT_BYTES {
            return invalid(format!(
                "`input` has {} bytes; 1 to {MAX_INPUT_BYTES} are allowed.",
                request.input.len()
            ));
        }
        if request.history.len() > MAX_HISTORY {
            return invalid(format!(
                "`history` has {} turns; at most {MAX_HISTORY} are allowed.",
                request.history.len()
            ));
        }
        if let Some(deadline) = request.deadline_ms
            && !(LEAST_DEADLINE_MS..=MOST_DEADLINE_MS).contains(&deadline)
        {
            return invalid(format!(
                "`deadline_ms` is {deadline}; {LEAST_DEADLINE_MS} to {MOST_DEADLINE_MS} are allowed."
            ));
        }
        if let Some(tokens) = request.max_tokens_out
            && !(1..=MOST_TOKENS_OUT).contains(&tokens)
        {
            return invalid(format!("`max_tokens_out` is {tokens}; 1 to {MOST_TOKENS_OUT} are allowed."));
        }
        if request.direct && request.steps.is_some() {
            return invalid("`direct` and `steps` exclude each other.".to_owned());
        }
        if request.answer_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            return invalid("`answer_schema` is not a JSON Schema object.".to_owned());
        }
        Ok(())
    }

    fn check_graph(&self, request: &TaskRequest) -> Result<(), Problem> {
        if let Some(model) = &request.model {
            let models = self.registry.models(true);
            if self.registry.alive(Role::Llm) > 0 && !models.contains(model) {
                let detail = format!("No node offers the model `{model}`. There are: {}.", models.join(", "));
                return Err(Problem::new(ErrorCode::ModelUnknown, detail)
                    .next("Choose one of these, or start an LLM node with that model."));
            }
        }
        let Some(steps) = &request.steps else { return Ok(()) };
        if steps.is_empty() {
            return Err(Problem::new(ErrorCode::PlanInvalid, "`steps` is empty."));
        }
        Ok(graph::validate(Author::Person, &[], steps, &self.registry.tools())?)
    }

    /// Learns which nodes were there when the last run ended.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) async fn expect_fleet(&self) -> Result<(), JournalError> {
        let fleet = self.journal.fleet().await?;
        *self.expected() = fleet.into_iter().collect();
        Ok(())
    }

    fn expected(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node came, or said goodbye: a later start waits for it, or no longer does.
    async fn note_node(&self, node: NodeId, there: bool) {
        if !there {
            self.expected().remove(&node);
        }
        if let Err(error) = self.journal.note_node(node, there).await {
            tracing::warn!(%node, %error, "a later start will not know whether to wait for this node");
        }
    }

    /// After the start the nodes need a moment to come back; a task that is planned without them would be a poor one.
    /// Those that were there before are waited for, of a new hub any first one.
    pub(crate) async fn await_nodes(&self) {
        let mut changes = self.registry.changes();
        let back = || self.expected().iter().all(|node| self.registry.handle(*node).is_some());
        while self.registry.is_empty() || !back() {
            let left = NODES_WAIT.saturating_sub(self.begun.elapsed());
            if tokio::time::timeout(left, changes.changed()).await.is_err() {
                break;
            }
        }
        let expected = std::mem::take(&mut *self.expected());
        for node in expected.into_iter().filter(|node| self.registry.handle(*node).is_none()) {
            self.note_node(node, false).await;
        }
    }
}

/// The moment at which a task is given up, in milliseconds after it was made.
pub(crate) fn deadline_ms(request: &TaskRequest) -> u64 {
    request.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS)
}

/// What a step waits for: its place in the queue as it is now, or what was recorded.
fn waiting_step(
    task: TaskId,
    step: &Step,
    places: &BTreeMap<(TaskId, StepId), QueuePlace>,
) -> Option<WaitingStep> {
    let recorded = step.waiting.as_ref()?;
    let queue = places.get(&(task, step.id().clone())).copied();
    let reason = match queue {
        Some(place) => placing::queued(step.spec.kind, Some(place)),
        None => recorded.clone(),
    };
    Some(WaitingStep { step: step.id().clone(), reason, queue })
}

fn live(id: TaskId) -> (Arc<Live>, mpsc::Receiver<Command>) {
    let (inbox, receiver) = mpsc::channel(INBOX);
    (Arc::new(Live { feed: Arc::new(Feed::new(id)), inbox }), receiver)
}

fn fold(feed: &Feed) -> Result<Task, Problem> {
    let records = feed.records();
    let events = records.iter().map(|record| (record.at, &record.event));
    Task::fold(feed.task(), events).map_err(|error| {
        let detail = format!("The records of task {} do not fit together: {error}.", feed.task());
        Problem::new(ErrorCode::Internal, detail)
    })
}

fn fingerprint(request: &impl serde::Serialize) -> Result<[u8; 32], Problem> {
    let value = serde_json::to_value(request).map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The request cannot be written: {error}."))
    })?;
    Ok(Sha256::digest(kamil_ledger::canonical_json(&value)).into())
}

pub(crate) fn unknown(id: TaskId) -> Problem {
    Problem::new(ErrorCode::TaskUnknown, format!("There is no task {id}."))
        .next("GET /v1/tasks lists the tasks.")
}
