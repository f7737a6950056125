//! What the journal records, and what the event stream of a task carries.
//!
//! `GET /v1/tasks/{id}/events` is a stream of server-sent events of three kinds:
//! `record` (data: [`EventRecord`], id: its `seq`), `delta` (data: [`Delta`], no id) and, last, `end` (data: [`End`]).
//! A client that reconnects with `Last-Event-ID` gets every later record, then, for an answer still being written, one
//! `delta` with offset 0 and all of the text so far. A client therefore keeps text up to `offset` and puts `text` there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ErrorCode, NodeId, StepId, TaskId,
    placement::Placement,
    task::{ApprovalRequest, Decision, Labels, StepError, StepSpec, StepStatus, TaskRequest, TaskStatus},
    tool::SideEffect,
};

/// An event with its place in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// Position in the journal, from 0, without gaps; also the index of its leaf in the Merkle tree.
    pub seq: u64,
    /// The task it belongs to.
    pub task: TaskId,
    /// When it was decided.
    pub at: Timestamp,
    /// What happened.
    pub event: TaskEvent,
}

/// What happened to a task. The state of a task is the fold over its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskEvent {
    /// A person's request was accepted.
    TaskCreated {
        /// The request.
        request: TaskRequest,
        /// The idempotency key, if one was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        /// What was registered when its first steps were decided; absent for a request that nothing registered bears on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offers: Option<Offers>,
        /// The task that it is, but for one result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forked_from: Option<ForkedFrom>,
    },
    /// A forked task takes over how a step ended in the task that it was forked from; nothing runs.
    ResultKept {
        /// The step.
        step: StepId,
        /// How it ended.
        status: StepStatus,
        /// The result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// Labels on the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<Labels>,
        /// Why there is no result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StepError>,
    },
    /// The person gives a step of a forked task another result than it had.
    ResultGiven {
        /// The step.
        step: StepId,
        /// The result.
        output: Value,
        /// Labels on the result.
        labels: Labels,
    },
    /// Other tools are registered than the task's decisions knew so far.
    ToolsChanged {
        /// Digest of the tools.
        tools: String,
    },
    /// The graph grew.
    StepsAdded {
        /// The step whose end called for it: a recall or a plan, a step that runs over a list (one step for each item), or one that
        /// failed in a way that another plan may mend. Absent for the first steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<StepId>,
        /// The new steps.
        steps: Vec<StepSpec>,
        /// What they are known by, fixed before any of them runs: 64 hexadecimal digits (SHA-256 over their canonical JSON).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// Something is done less well than asked.
    Degraded {
        /// What, and why, for the person.
        reason: String,
    },
    /// The person has to agree before the step runs.
    ApprovalRequested {
        /// The step.
        step: StepId,
        /// What the person is asked.
        request: ApprovalRequest,
    },
    /// The person has decided.
    ApprovalDecided {
        /// The step.
        step: StepId,
        /// What they decided.
        decision: Decision,
        /// The digest they decided on.
        digest: String,
    },
    /// The step is given to a node; recorded before the request leaves.
    StepStarted {
        /// The step.
        step: StepId,
        /// 1 for the first.
        attempt: u32,
        /// The node.
        node: NodeId,
        /// The model, for steps of an LLM node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// What the tool may change, for steps that run one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effect: Option<SideEffect>,
        /// Most tokens that the model may write, for steps of an LLM node: what was wanted, or what is left of the task's budget.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
        /// The node has this long.
        lease_ms: u64,
        /// Why there.
        placement: Placement,
        /// Digest of the request without `continue_from`, of its canonical JSON: the first 32 hexadecimal digits of SHA-256.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_digest: Option<String>,
    },
    /// An attempt goes on with the answer where the node of an earlier one broke off; recorded with its start.
    StreamSpliced {
        /// The step.
        step: StepId,
        /// The attempt that goes on.
        attempt: u32,
        /// How much was written before, in Unicode scalar values.
        offset: u64,
        /// The node that broke off.
        from: NodeId,
        /// The node that goes on.
        to: NodeId,
        /// The model that began, if another one goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_model: Option<String>,
    },
    /// The step could start, but no node can take it now.
    StepWaiting {
        /// The step.
        step: StepId,
        /// What it waits for, for the person: which node is missing, or its place in the queue.
        reason: String,
    },
    /// The node answered, or all items of a step that runs over a list have ended.
    StepSucceeded {
        /// The step.
        step: StepId,
        /// The attempt that ended; 0 for a step that runs over a list, for which no node is asked.
        attempt: u32,
        /// The result, at most 64 KiB of JSON.
        output: Value,
        /// Labels on the result.
        labels: Labels,
        /// Layers of confinement that were enforced, for tools.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        enforced: Vec<String>,
        /// Prompt tokens read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens_in: Option<u32>,
        /// Tokens written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens_out: Option<u32>,
    },
    /// The attempt ended without a result.
    StepFailed {
        /// The step.
        step: StepId,
        /// The attempt that ended; 0 if none was started.
        attempt: u32,
        /// Why.
        error: StepError,
        /// Whether another attempt follows.
        retry: bool,
        /// Nobody told how the attempt ended: the connection broke, or the lease ran out.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
        /// For a `plan` step whose model answered: the reply that is no valid plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<RefusedPlan>,
    },
    /// Nobody knows whether the effect happened.
    StepOutcomeUnknown {
        /// The step.
        step: StepId,
        /// The attempt in question.
        attempt: u32,
        /// Why nobody knows.
        reason: String,
        /// How the attempt ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
        /// Nobody told how the attempt ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
    },
    /// The step will not run, or was stopped.
    StepCancelled {
        /// The step.
        step: StepId,
        /// Why.
        reason: String,
    },
    /// The person, or the deadline, stops the task.
    CancelRequested {
        /// Why.
        reason: String,
    },
    /// The task has ended.
    TaskCompleted {
        /// `succeeded`, `failed` or `cancelled`.
        status: TaskStatus,
        /// The reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StepError>,
    },
}

impl TaskEvent {
    /// Digest of the tools that decisions go by from here on, if the event names one.
    #[must_use]
    pub fn tool_set(&self) -> Option<&str> {
        match self {
            Self::TaskCreated { offers: Some(Offers { tools, .. }), .. } | Self::ToolsChanged { tools } => {
                Some(tools)
            }
            _ => None,
        }
    }
}

/// Where a forked task comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkedFrom {
    /// The task.
    pub task: TaskId,
    /// The step whose result is another.
    pub step: StepId,
}

/// What was registered when a task's first steps were decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offers {
    /// Digest of the registered tools: SHA-256 of the JSON that the journal keeps under it, in 64 hexadecimal digits.
    pub tools: String,
    /// Whether a memory node was known.
    pub memory: bool,
}

/// A model's reply that is no valid plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedPlan {
    /// The reply.
    pub reply: String,
    /// What is wrong with it, in words for the model.
    pub reason: String,
    /// The models on offer, where it was to be decided whether another one takes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<String>,
    /// The model that takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub another: Option<String>,
}

/// A piece of the answer as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// The step that writes.
    pub step: StepId,
    /// Where the text goes, in Unicode scalar values from the beginning of the answer.
    pub offset: u64,
    /// The text.
    pub text: String,
}

/// The last event of a task's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct End {
    /// How the task ended.
    pub status: TaskStatus,
}
