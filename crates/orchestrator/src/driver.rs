//! One task's driver: carries out what its state machine decides.
//!
//! Whatever comes in becomes events; steps that become ready are placed at once, so that a reply and the start of what
//! follows it share one append; only when that is durable are the requests sent.

mod attempt;
pub(crate) mod decision;
pub(crate) mod fork;
mod growth;
mod labelling;
mod outcome;
pub(crate) mod placing;
pub(crate) mod request;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use kamil_plan::{Input, Rejection, Task};
use kamil_protocol::{
    ErrorCode, Problem, StepId,
    event::TaskEvent,
    task::{TaskAccepted, TaskStatus},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    dispatcher::{Grant, Ticket},
    feed::Record,
    hub::{self, Command, Hub, Live},
    journal::{Appended, Beginning, Entry, JournalError},
    sessions::Turn,
    tool_set::ToolSet,
};
use attempt::{Attempt, Ended};
use decision::Known;
pub(crate) use placing::NOTHING_TO_KEEP;
pub(crate) use request::reading;

/// The disk being full, a task that is under way tries again this often.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// What the driver starts with.
pub(crate) enum First {
    /// A new task; nothing of it is durable yet.
    New {
        at: Timestamp,
        events: Vec<TaskEvent>,
        beginning: Beginning,
        reply: oneshot::Sender<Result<TaskAccepted, Problem>>,
    },
    /// A task of an earlier run.
    Resumed,
}

/// What is known of a step beyond the journal; lost at a restart.
#[derive(Default)]
struct Note {
    /// Not to be started before.
    not_before: Option<Instant>,
    /// Since when no node could take it.
    waiting_since: Option<Instant>,
    /// Since when it waits for a slot; kept when a full node turns it away.
    queued_since: Option<Instant>,
    /// Its place in the queue for a slot.
    ticket: Option<Ticket>,
}

type Grants = (mpsc::Sender<Box<Grant>>, mpsc::Receiver<Box<Grant>>);

/// Events that wait for the next append.
struct Batch {
    at: Timestamp,
    events: Vec<TaskEvent>,
}

pub(crate) struct Driver {
    hub: Arc<Hub>,
    live: Arc<Live>,
    task: Task,
    inbox: mpsc::Receiver<Command>,
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    notes: BTreeMap<StepId, Note>,
    known: Known,
    batch: Batch,
    deadline: Instant,
    /// Its place in its session.
    turn: Option<Turn>,
    /// An earlier task of the session has to end first.
    held: bool,
    /// Where slots are announced; made when the first step has to wait for one.
    grants: Option<Grants>,
    /// Attempts on granted slots, to be made once their start is durable.
    granted: Vec<Attempt>,
}

enum Wake {
    Ended(Ended),
    Granted(Box<Grant>),
    Command(Command),
    Deadline,
    Look,
    Shutdown,
}

impl Driver {
    /// `tools` are the sets of tools that the task has known, the one in force last.
    pub(crate) fn new(
        hub: Arc<Hub>,
        live: Arc<Live>,
        task: Task,
        tools: Vec<Arc<ToolSet>>,
        inbox: mpsc::Receiver<Command>,
        turn: Option<Turn>,
    ) -> Self {
        let now = hub.now();
        let left = left_ms(&task, now);
        let known = Known::of(tools, &task);
        Self {
            hub,
            live,
            task,
            inbox,
            attempts: FuturesUnordered::new(),
            notes: BTreeMap::new(),
            known,
            batch: Batch { at: now, events: Vec::new() },
            deadline: Instant::now() + Duration::from_millis(left),
            turn,
            held: false,
            grants: None,
            granted: Vec::new(),
        }
    }

    /// Drives the task to its end, or until the orchestrator stops.
    pub(crate) async fn run(mut self, first: First) {
        let id = self.task.id();
        let beginning = match first {
            First::New { at, events, beginning, reply } => {
                self.batch = Batch { at, events };
                Some((beginning, reply))
            }
            First::Resumed => {
                self.hub.await_nodes().await;
                self.batch.at = self.hub.now();
                self.advance(Input::Restarted);
                None
            }
        };
        if self.begin(beginning).await && self.drive().await {
            self.hub.retire(id);
        } else {
            self.hub.forget(id);
        }
    }

    /// The first append. Returns whether there is a task to drive.
    async fn begin(
        &mut self,
        beginning: Option<(Beginning, oneshot::Sender<Result<TaskAccepted, Problem>>)>,
    ) -> bool {
        let Some((beginning, reply)) = beginning else { return true };
        let id = self.task.id();
        let fingerprint = beginning.fingerprint;
        let attempts = self.place();
        let (entries, at) = match self.take_batch() {
            Ok(taken) => taken,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                return false;
            }
        };
        let (entries, written) = self.hub.journal.append(id, at, entries, Some(beginning)).await;
        let answer = match &written {
            Ok(Appended::At(first)) => {
                self.publish(*first, at, entries);
                self.hub.measures.tasks.inc();
                let waiting = self.hub.waiting(&self.task);
                Ok(TaskAccepted { id, status: self.task.status(), repeated: false, waiting })
            }
            Ok(Appended::Known { task, fingerprint: known }) if *known == fingerprint => {
                let known = self.hub.task(*task).await;
                known.map(|known| {
                    let waiting = self.hub.waiting(&known);
                    TaskAccepted { id: known.id(), status: known.status(), repeated: true, waiting }
                })
            }
            Ok(Appended::Known { task, .. }) => {
                let detail =
                    format!("The idempotency key was used for task {task}, whose request was another.");
                Err(Problem::new(ErrorCode::IdempotencyMismatch, detail)
                    .next("Use a new key for a new request."))
            }
            Err(error) => Err(error.clone().into()),
        };
        // A caller that has gone away can ask again under the same key.
        let _ = reply.send(answer);
        let begun = matches!(written, Ok(Appended::At(_)));
        if begun {
            self.attempts.extend(attempts.into_iter().map(launch));
        }
        begun
    }

    /// Returns whether the task has ended.
    async fn drive(&mut self) -> bool {
        let shutdown = self.hub.shutdown.clone();
        let mut changes = self.hub.registry.changes();
        loop {
            let mut attempts = std::mem::take(&mut self.granted);
            attempts.extend(self.place());
            if !self.commit().await {
                return false;
            }
            self.leave_queue();
            if let Some(turn) = &self.turn {
                turn.step_aside(self.task.status() == TaskStatus::AwaitingApproval);
            }
            self.attempts.extend(attempts.into_iter().map(launch));
            if self.task.ended().is_some() {
                self.end();
                return true;
            }
            let look_at = self.look_at();
            let waits = look_at.is_some();
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => Wake::Shutdown,
                Some(ended) = self.attempts.next(), if !self.attempts.is_empty() => Wake::Ended(ended),
                Some(grant) = granted(&mut self.grants) => Wake::Granted(grant),
                Some(command) = self.inbox.recv() => Wake::Command(command),
                () = tokio::time::sleep_until(self.deadline) => Wake::Deadline,
                () = changes.changed(), if waits => Wake::Look,
                () = sleep_until(look_at), if waits => Wake::Look,
                () = moved(self.turn.as_ref()), if self.held => Wake::Look,
            };
            self.batch.at = self.hub.now();
            match wake {
                Wake::Ended(ended) => self.take_outcome(ended),
                Wake::Granted(grant) => self.take_grant(*grant),
                Wake::Command(command) => {
                    // What is decided next must not stand in the journal without what it follows from.
                    if !self.obey(command).await {
                        return false;
                    }
                }
                Wake::Deadline => {
                    self.advance(Input::Deadline);
                }
                Wake::Look => self.hurry(),
                Wake::Shutdown => return false,
            }
        }
    }

    /// Returns whether what followed is durable.
    async fn obey(&mut self, command: Command) -> bool {
        let (input, reply) = match command {
            Command::Show { reply } => {
                let _ = reply.send(self.task.clone());
                return true;
            }
            Command::Cancel { reason, reply } => (Input::Cancel { reason }, reply),
            Command::Decide { step, decision, reply } => {
                (Input::Decided { step, decision: decision.decision, digest: decision.digest }, reply)
            }
        };
        let outcome = self.try_advance(input);
        if self.task.ended().is_some() {
            // What was in flight is dropped at once: its connection closes, and the node stops.
            self.attempts.clear();
        }
        let durable = self.commit().await;
        let answer = match outcome {
            Ok(()) if durable => Ok(()),
            Ok(()) => Err(JournalError::Closed.into()),
            Err(rejection) => Err(rejection.into()),
        };
        let _ = reply.send(answer);
        durable
    }

    fn end(&mut self) {
        self.attempts.clear();
        let waiting = self.notes.values().filter(|note| note.waiting_since.is_some()).count();
        self.hub.measures.waiting_steps.add(-i64::try_from(waiting).unwrap_or(0));
        if let Some(ended) = self.task.ended() {
            self.hub.measures.task_ended(ended.status);
        }
    }

    /// Goes by the tools that are registered now, if any can matter.
    fn refresh_tools(&mut self) {
        if self.task.request().direct {
            return;
        }
        let tools = self.hub.registry.tools();
        if self.task.tools() != Some(tools.digest()) {
            let digest = tools.digest().to_owned();
            self.known.take(tools);
            self.advance(Input::ToolsChanged { tools: digest });
        }
    }

    fn try_advance(&mut self, input: Input) -> Result<(), Rejection> {
        let events = self.task.advance(self.batch.at, input)?;
        self.batch.events.extend(events);
        self.known.observe(&self.task);
        Ok(())
    }

    /// Advances with an input of the driver's own; one that comes too late is left out.
    fn advance(&mut self, input: Input) -> bool {
        match self.try_advance(input) {
            Ok(()) => true,
            Err(rejection @ Rejection::Fold(_)) => {
                tracing::error!(task = %self.task.id(), %rejection, "a decision does not fit its task");
                false
            }
            Err(rejection) => {
                tracing::debug!(task = %self.task.id(), %rejection, "left out");
                false
            }
        }
    }

    fn take_batch(&mut self) -> Result<(Vec<Entry>, Timestamp), JournalError> {
        let events = std::mem::take(&mut self.batch.events);
        let entry = |event: TaskEvent| {
            let tools = event.tool_set().and_then(|digest| self.known.set(digest)).cloned();
            Entry::new(event, tools)
        };
        let entries = events.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok((entries, self.batch.at))
    }

    /// Makes the batch durable and shows it. Returns whether that was possible.
    async fn commit(&mut self) -> bool {
        if self.batch.events.is_empty() {
            return true;
        }
        let id = self.task.id();
        let (mut entries, at) = match self.take_batch() {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(task = %id, %error, "an event cannot be recorded; the task stops here until a restart");
                return false;
            }
        };
        loop {
            let (back, written) = self.hub.journal.append(id, at, entries, None).await;
            entries = back;
            match written {
                Ok(Appended::At(first)) => {
                    self.publish(first, at, entries);
                    return true;
                }
                Ok(Appended::Known { .. }) | Err(JournalError::Closed) => return false,
                // Nothing is lost by waiting: no effect of these events has begun.
                Err(error) => {
                    tracing::warn!(task = %id, %error, "the task waits until the journal can be written");
                }
            }
            let retry = tokio::time::sleep(FULL_DISK_RETRY);
            if self.hub.shutdown.run_until_cancelled(retry).await.is_none() {
                return false;
            }
        }
    }

    fn publish(&self, first: u64, at: Timestamp, entries: Vec<Entry>) {
        for entry in &entries {
            match &entry.event {
                TaskEvent::StepStarted { step, .. } => {
                    if let Some(step) = self.task.step(step) {
                        self.hub.measures.step(step.spec.kind);
                    }
                }
                TaskEvent::StepFailed { retry: true, .. } => self.hub.measures.retries.inc(),
                _ => {}
            }
        }
        let records = (first..).zip(entries);
        let record = |(seq, entry): (u64, Entry)| Record { seq, at, event: entry.event, body: entry.body };
        self.live.feed.publish(records.map(record));
    }
}

fn launch(attempt: Attempt) -> BoxFuture<'static, Ended> {
    Box::pin(attempt.run())
}

async fn granted(grants: &mut Option<Grants>) -> Option<Box<Grant>> {
    match grants {
        Some((_, grants)) => grants.recv().await,
        None => std::future::pending().await,
    }
}

async fn moved(turn: Option<&Turn>) {
    match turn {
        Some(turn) => turn.moved().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What is left of a task's time.
pub(crate) fn left_ms(task: &Task, now: Timestamp) -> u64 {
    let spent = now.as_millisecond().saturating_sub(task.created_at().as_millisecond());
    hub::deadline_ms(task.request()).saturating_sub(u64::try_from(spent).unwrap_or(0))
}
