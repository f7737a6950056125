//! Tasks: what a person asks for, the graph of steps, and the task document.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ErrorCode, NodeId, SessionId, StepId, TaskId,
    flow::{Condition, ForEach},
    label::ArgumentSpan,
    placement::Placement,
    reason::{ChatMessage, Sampling},
};

pub use crate::label::{Labels, Source, Trust};

/// Longest `input` of a task, in bytes.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;
/// A task is given up this long after it was made, unless it says otherwise.
pub const DEFAULT_DEADLINE_MS: u64 = 3_600_000;
/// Tokens that models may write for a task unless it says how many.
pub const DEFAULT_MAX_TOKENS_OUT: u32 = 65_536;
/// Most tokens that a task may let models write.
pub const MOST_TOKENS_OUT: u32 = 10_000_000;
/// Most steps that a task's graph may ever hold.
pub const MAX_STEPS: usize = 64;

/// `POST /v1/tasks`. The header `Idempotency-Key` (1–128 visible ASCII characters) makes a repeat answer with the first task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// What the person asks for, in their words; 1 byte to 64 KiB.
    pub input: String,
    /// The conversation it belongs to; without one it stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Earlier turns that the caller supplies itself, oldest first; at most 200. Without them the working memory of the session serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<ChatMessage>,
    /// A graph to run as it stands, instead of planning; at most 64 steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepSpec>>,
    /// The model that reasons, by name; without one, placement chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How the answer is sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The answer must be JSON of this schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_schema: Option<Value>,
    /// Answer at once: no recall, no plan, no remembering.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// Most tokens that models may write for the task, over all its steps; 1 to 10,000,000, default 65,536, or `sampling.max_tokens` if
    /// that is more. When they are used up, the task fails with `budget_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_out: Option<u32>,
    /// The task is given up this long after it was made; 1 s to 24 h, default 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Whether a person waits for it.
    #[serde(default, skip_serializing_if = "Priority::is_interactive")]
    pub priority: Priority,
}

/// Which steps go first where more are ready than nodes can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person waits for it: its steps overtake those of batch tasks.
    #[default]
    Interactive,
    /// Nobody waits for it. A step of it that has waited for 60 s ranks like an interactive one that comes then.
    Batch,
}

impl Priority {
    /// Whether it is the default.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        *self == Self::Interactive
    }
}

/// `POST /v1/tasks/{id}/forks`: the task once more, with one result changed. Results that do not depend on it are kept; whatever does
/// really runs again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// The step.
    pub step: StepId,
    /// Its result instead: a text for `plan`, `reason` and `answer`, JSON for the others; at most 64 KiB.
    #[schema(value_type = Object)]
    pub output: Value,
    /// Tools that change something may run again. Without it, a fork in which one would is refused with `approval_required`, and the
    /// problem's `data` lists them as an array of [`RepeatedEffect`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub effects: bool,
}

/// A step of a fork that runs again and changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepeatedEffect {
    /// The step.
    pub step: StepId,
    /// Its tool.
    pub tool: String,
    /// What the tool may change.
    pub effect: crate::tool::SideEffect,
}

/// What `POST /v1/tasks` answers (202).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskAccepted {
    /// The task's id.
    pub id: TaskId,
    /// Its status at this moment.
    pub status: TaskStatus,
    /// Whether an earlier request with the same idempotency key made it.
    pub repeated: bool,
    /// Steps that could start at this moment and wait, with their places in the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingStep>,
}

/// A step that could start and does not, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingStep {
    /// The step.
    pub step: StepId,
    /// What it waits for, for the person.
    pub reason: String,
    /// Its place in the queue, where all nodes that could run it are full; absent if it waits for something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
}

/// A place in the queue of steps that wait for the same kind of node (LLM, tool or memory), at the moment of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuePlace {
    /// 1 is the next.
    pub position: u32,
    /// How many steps wait.
    pub of: u32,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Asks the memory node for what bears on the request.
    Recall,
    /// Asks an LLM node for further steps.
    Plan,
    /// Asks an LLM node for a result that other steps use.
    Reason,
    /// Runs a tool on a tool node.
    Tool,
    /// Streams the reply to the person from an LLM node.
    Answer,
    /// Gives the memory node what is worth keeping.
    Remember,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Waits for steps it depends on.
    Pending,
    /// Could start now.
    Ready,
    /// Waits for the person's yes.
    AwaitingApproval,
    /// Was given to a node.
    Running,
    /// Ended with an output.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Was not run, or was stopped.
    Cancelled,
    /// The node went away and nobody knows whether the effect happened; the person decides.
    OutcomeUnknown,
}

impl StepStatus {
    /// Whether nothing more will happen to the step by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Accepted, nothing has started.
    Queued,
    /// At least one step has started.
    Running,
    /// Cannot go on without the person.
    AwaitingApproval,
    /// Ended with an answer.
    Succeeded,
    /// Ended without one.
    Failed,
    /// Was stopped by the person or its deadline.
    Cancelled,
}

impl TaskStatus {
    /// Whether the task has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A step as it is planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Its name in the task.
    pub id: StepId,
    /// What it does.
    pub kind: StepKind,
    /// For kind `tool`: which one, e.g. `file_ops.read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Literals, or references to earlier outputs anywhere inside: `{"$from": "step", "path": "/json/pointer"}`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub inputs: serde_json::Map<String, Value>,
    /// Steps that must have ended first, beyond those that `inputs` refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<StepId>,
    /// What kind of model it wants, for steps that an LLM node runs: `general`, `coding`, `math`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialization: Option<String>,
    /// May run though a step it depends on has failed, whose output then reads as null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tolerates_failure: bool,
    /// Run it once for each item of a list; for `tool` and `reason` steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Run it only if this holds; for `tool` and `reason` steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// The step fails if it has not ended this long after it could start, or after the person agreed to it; 100 ms to 24 h. For `tool` and `reason` steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl StepSpec {
    /// A step without tool, inputs or conditions.
    #[must_use]
    pub fn new(id: StepId, kind: StepKind) -> Self {
        Self {
            id,
            kind,
            tool: None,
            inputs: serde_json::Map::new(),
            depends_on: Vec::new(),
            specialization: None,
            tolerates_failure: false,
            for_each: None,
            when: None,
            deadline_ms: None,
        }
    }
}

/// Why an attempt at a step ended without an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepError {
    /// The stable code.
    pub code: ErrorCode,
    /// What failed, on what, and why.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// What the person is asked before a step may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequest {
    /// The tool.
    pub tool: String,
    /// The exact arguments.
    pub arguments: Value,
    /// What would be executed, where the tool starts a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Why the person is asked: the rule or the side-effect class.
    pub reason: String,
    /// Digest of tool and arguments that the answer is bound to: 64 hexadecimal digits (SHA-256).
    pub digest: String,
    /// The parts of the arguments that others may have written; empty if that is not why the person is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<ArgumentSpan>,
}

/// `POST /v1/tasks/{id}/steps/{step}/approval`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDecision {
    /// Whether the step may run.
    pub decision: Decision,
    /// The digest of the request that the person saw. It may be left out; if given and the request is another, nothing is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The person's decision on a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Run it. For a step whose outcome is unknown: run it again.
    Approve,
    /// Do not run it. For a step whose outcome is unknown: leave it and count it as failed.
    Deny,
}

/// The state of one step, as `GET /v1/tasks/{id}` shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepDoc {
    /// Its name in the task.
    pub id: StepId,
    /// What it does.
    pub kind: StepKind,
    /// Where it stands.
    pub status: StepStatus,
    /// Steps that must end first: those named, those that it refers to, and, for a step that runs over a list, those of its items.
    pub depends_on: Vec<StepId>,
    /// The step whose end called for it; absent for the first steps of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<StepId>,
    /// The tool, for kind `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// As planned, references unresolved.
    #[schema(value_type = Object)]
    pub inputs: serde_json::Map<String, Value>,
    /// The list that it runs over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// What must hold for it to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// What it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// The node of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The model of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Attempts so far; 0 before the first.
    pub attempt: u32,
    /// Why it ran where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Why it has not started though it could: which node is missing, or its place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Its place in the queue, where all nodes that could run it are full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
    /// What kind of model it wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialization: Option<String>,
    /// Labels on the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Labels on the literals among the inputs: those of the plan that wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_labels: Option<Labels>,
    /// What the person is asked, while they are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRequest>,
    /// Layers of confinement that were really enforced, for tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enforced: Vec<String>,
    /// Start of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// End of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Prompt tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u32>,
    /// Tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u32>,
}

/// The task document.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskDoc {
    /// The task's id.
    pub id: TaskId,
    /// Where it stands.
    pub status: TaskStatus,
    /// What was asked.
    pub input: String,
    /// The reply; while it is being written, the part written so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why the task failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The task that it is, but for one result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<crate::event::ForkedFrom>,
    /// What was done less well than asked, and why; empty if nothing.
    pub degraded: Vec<String>,
    /// The graph, in the order in which the steps were added.
    pub steps: Vec<StepDoc>,
}

/// One line of `GET /v1/tasks`, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// The task's id.
    pub id: TaskId,
    /// Where it stands.
    pub status: TaskStatus,
    /// The first 200 characters of what was asked.
    pub input: String,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How many steps are in which status.
    pub steps: BTreeMap<String, u32>,
    /// Whether a person waits for it.
    #[serde(default)]
    pub priority: Priority,
    /// When it is given up, if it has not ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// Steps that could start and do not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingStep>,
    /// Steps that nodes are working on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub running: Vec<RunningStep>,
}

/// A step that a node is working on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningStep {
    /// The step.
    pub step: StepId,
    /// The node.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// The model, for steps of an LLM node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When it was given to the node.
    pub started_at: Timestamp,
}
