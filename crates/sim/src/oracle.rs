//! What must be true of every run: the oracle sees every commit, every request and every effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kamil_orchestrator::NodeCall;
use kamil_plan::{Step, Task};
use kamil_protocol::{
    ErrorCode, MemoryId, NodeId, StepId, TaskId,
    event::{EventRecord, TaskEvent},
    task::{StepKind, StepStatus},
};
use serde_json::Value;

use crate::{clock::Clock, node::tool};

/// What was acknowledged, committed and done.
#[derive(Debug, Default)]
struct State {
    /// The fold of what is committed.
    tasks: BTreeMap<TaskId, Task>,
    next_seq: u64,
    records_of: BTreeMap<TaskId, u64>,
    acknowledged: BTreeSet<TaskId>,
    /// Effects of tools, by idempotency key.
    effects: BTreeMap<String, Vec<NodeId>>,
    effects_of_steps: BTreeMap<(TaskId, StepId), u32>,
    remembered: BTreeSet<MemoryId>,
    violations: Vec<String>,
    digest: u64,
    lines: Option<Vec<String>>,
    requests: u64,
}

/// Sees everything, and says what must not have been.
#[derive(Debug)]
pub(crate) struct Oracle {
    clock: Arc<Clock>,
    state: Mutex<State>,
}

/// What a run leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Every invariant that was broken, with the moment.
    pub violations: Vec<String>,
    /// Digest of all that happened, in order: the same for the same seed.
    pub digest: u64,
    /// All that happened, if that was asked for.
    pub lines: Vec<String>,
    /// Tasks that were accepted.
    pub tasks: u64,
    /// Records in the journal.
    pub records: u64,
    /// Requests to nodes.
    pub requests: u64,
    /// Effects of tools.
    pub effects: u64,
}

impl Oracle {
    pub(crate) fn new(clock: Arc<Clock>, keep_lines: bool) -> Arc<Self> {
        let lines = keep_lines.then(Vec::new);
        // The offset basis of FNV-1a.
        let state = State { lines, digest: 0xcbf2_9ce4_8422_2325, ..State::default() };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something that happened.
    pub(crate) fn note(&self, what: &str) {
        let at = self.clock.elapsed_ms();
        self.state().note(at, what);
    }

    /// Notes that something happened that must not.
    pub(crate) fn violated(&self, what: &str) {
        let at = self.clock.elapsed_ms();
        self.state().violated(at, what);
    }

    /// Records are durable.
    pub(crate) fn committed(&self, records: &[EventRecord]) {
        let at = self.clock.elapsed_ms();
        let mut state = self.state();
        for record in records {
            state.commit(at, record);
        }
    }

    /// A client was told that its task is accepted.
    pub(crate) fn acknowledged(&self, task: TaskId) {
        let at = self.clock.elapsed_ms();
        let mut state = self.state();
        if !state.tasks.contains_key(&task) {
            state.violated(at, &format!("task {task} was acknowledged before it was durable"));
        }
        state.acknowledged.insert(task);
        state.note(at, &format!("acknowledged {task}"));
    }

    /// A request leaves for a node.
    pub(crate) fn sent(&self, call: &NodeCall<'_>, node: NodeId) {
        let at = self.clock.elapsed_ms();
        let mut state = self.state();
        state.requests += 1;
        let step = state.tasks.get(&call.task).and_then(|task| task.step(call.step));
        let durable = step.is_some_and(|step| step.status == StepStatus::Running && step.node == Some(node));
        if !durable {
            let status = step.map(|step| step.status);
            let what = format!(
                "a request of step `{}` of task {} left for {node}, but the journal has it {status:?}",
                call.step, call.task
            );
            state.violated(at, &what);
        }
    }

    /// A tool that is not idempotent has its effect.
    pub(crate) fn effect(&self, task: TaskId, step: &StepId, key: &str, node: NodeId) {
        let at = self.clock.elapsed_ms();
        let mut state = self.state();
        state.note(at, &format!("effect {key} on {node}"));
        let under_key = state.effects.entry(key.to_owned()).or_default();
        under_key.push(node);
        let times = under_key.len();
        if times > 1 {
            state.violated(at, &format!("the effect under key {key} happened {times} times"));
        }
        let count = state.effects_of_steps.entry((task, step.clone())).or_default();
        *count += 1;
        let count = *count;
        let reruns = state.tasks.get(&task).and_then(|task| task.step(step)).map_or(0, |step| step.reruns);
        if count > reruns + 1 {
            let what = format!(
                "step `{step}` of {task} had {count} effects, and the person asked for {reruns} reruns"
            );
            state.violated(at, &what);
        }
    }

    /// A memory node has kept this.
    pub(crate) fn remembered(&self, id: MemoryId) {
        self.state().remembered.insert(id);
    }

    /// A memory node has lost this.
    pub(crate) fn forgotten(&self, id: MemoryId) {
        self.state().remembered.remove(&id);
    }

    /// The committed state of a task.
    pub(crate) fn task(&self, id: TaskId) -> Option<Task> {
        self.state().tasks.get(&id).cloned()
    }

    /// How many records a task has: it has gone on where that has changed, though it may be in the same state again.
    pub(crate) fn records_of(&self, id: TaskId) -> u64 {
        self.state().records_of.get(&id).copied().unwrap_or(0)
    }

    /// All tasks that were acknowledged.
    pub(crate) fn acknowledged_tasks(&self) -> Vec<TaskId> {
        self.state().acknowledged.iter().copied().collect()
    }

    /// Durable tasks that have not ended, each with whether it waits for nobody but the person.
    pub(crate) fn open_tasks(&self) -> Vec<(TaskId, bool)> {
        let state = self.state();
        let open = state.tasks.iter().filter(|(_, task)| task.ended().is_none());
        open.map(|(id, task)| {
            let any = |wanted: [StepStatus; 2]| task.steps().iter().any(|step| wanted.contains(&step.status));
            let asked = any([StepStatus::AwaitingApproval, StepStatus::OutcomeUnknown]);
            (*id, asked && !any([StepStatus::Ready, StepStatus::Running]))
        })
        .collect()
    }

    /// Holds what was reported of every step against what happened.
    pub(crate) fn judge_reports(&self) {
        let at = self.clock.elapsed_ms();
        let mut state = self.state();
        let mut wrong = Vec::new();
        for (id, task) in &state.tasks {
            wrong.extend(task.steps().iter().filter_map(|step| state.misreported(*id, step)));
        }
        for what in wrong {
            state.violated(at, &what);
        }
    }

    /// All that was found.
    pub(crate) fn findings(&self) -> Findings {
        let state = self.state();
        Findings {
            violations: state.violations.clone(),
            digest: state.digest,
            lines: state.lines.clone().unwrap_or_default(),
            tasks: state.tasks.len() as u64,
            records: state.next_seq,
            requests: state.requests,
            effects: state.effects.values().map(|nodes| nodes.len() as u64).sum(),
        }
    }
}

impl State {
    fn note(&mut self, at: u64, what: &str) {
        let line = format!("{at:>8} {what}");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    fn violated(&mut self, at: u64, what: &str) {
        self.note(at, &format!("VIOLATED: {what}"));
        self.violations.push(format!("at {at} ms: {what}"));
    }

    fn commit(&mut self, at: u64, record: &EventRecord) {
        let body = serde_json::to_string(&record.event).unwrap_or_default();
        self.note(at, &format!("record {} {} {} {body}", record.seq, record.task, record.at));
        if record.seq != self.next_seq {
            self.violated(at, &format!("record {} follows record {}", record.seq, self.next_seq));
        }
        self.next_seq = record.seq + 1;
        *self.records_of.entry(record.task).or_default() += 1;
        let applied = match self.tasks.get_mut(&record.task) {
            Some(task) => task.apply(record.at, &record.event),
            None => Task::create(record.task, record.at, &record.event).map(|task| {
                self.tasks.insert(record.task, task);
            }),
        };
        if let Err(error) = applied {
            self.violated(at, &format!("record {} of task {} cannot be: {error}", record.seq, record.task));
        }
        if let TaskEvent::StepSucceeded { step, .. } = &record.event
            && let Some(step) = self.tasks.get(&record.task).and_then(|task| task.step(step))
            && let Some(what) = self.misreported(record.task, step)
        {
            self.violated(at, &what);
        }
    }

    fn misreported(&self, task: TaskId, step: &Step) -> Option<String> {
        let of = format!("step `{}` of task {task}", step.id());
        match (step.spec.kind, step.status) {
            (StepKind::Tool, status) => self.misreported_effect(task, step, status, &of),
            (StepKind::Answer, StepStatus::Succeeded) => {
                let written = step.output.as_deref().and_then(Value::as_str).unwrap_or_default();
                let wanted = crate::node::llm::text_of(task, step.id());
                (written != wanted).then(|| format!("{of} reads `{written}` instead of `{wanted}`"))
            }
            (StepKind::Remember, StepStatus::Succeeded) => {
                let output = step.output.as_deref()?;
                let ids = ["stored", "known"].into_iter().filter_map(|list| output.get(list)?.as_array());
                let lost = ids
                    .flatten()
                    .filter_map(Value::as_str)
                    .find(|id| id.parse().is_ok_and(|id: MemoryId| !self.remembered.contains(&id)));
                lost.map(|id| format!("{of} kept memory {id}, which the memory node does not have"))
            }
            _ => None,
        }
    }

    fn misreported_effect(&self, task: TaskId, step: &Step, status: StepStatus, of: &str) -> Option<String> {
        let tool = tool::known(step.spec.tool.as_deref().unwrap_or_default())?;
        if !tool.is_counted() {
            return None;
        }
        let happened = self.effects.contains_key(&key_of(task, step));
        let doubt_told = step.error.as_ref().is_some_and(|error| {
            error.code == ErrorCode::OutcomeUnknown
                || error.detail.contains("may have happened")
                || error.detail.contains("is not known")
        });
        match status {
            StepStatus::Succeeded if !happened => {
                Some(format!("{of} is reported done, and its effect never happened"))
            }
            StepStatus::Failed | StepStatus::Cancelled if happened && !doubt_told => {
                let told = step.error.as_ref().map_or("", |error| error.detail.as_str());
                Some(format!("{of} had its effect, and is reported {status:?}: {told}"))
            }
            _ => None,
        }
    }
}

/// The idempotency key of a step's present attempts.
fn key_of(task: TaskId, step: &Step) -> String {
    match step.reruns {
        0 => format!("{task}/{}", step.id()),
        reruns => format!("{task}/{}/{reruns}", step.id()),
    }
}
