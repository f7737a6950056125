//! What a tool node offers, accepts and answers: `GET /v1/tools`, `POST /v1/execute`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{StepId, TaskId, task::Labels};

/// What a tool may change. An unknown class counts as `external`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SideEffect {
    /// Nothing, and it reads nothing but its arguments.
    Pure,
    /// Nothing, but it reads the workspace or the machine.
    Read,
    /// Files in the workspace.
    Write,
    /// Anything beyond.
    External,
}

/// A tool, as it is registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolDescriptor {
    /// Family and action, e.g. `file_ops.read`; 1–64 of `a–z 0–9 _ .`.
    pub name: String,
    /// What it does, in one or two sentences, for people and models.
    pub description: String,
    /// JSON Schema (2020-12) of its arguments, an object.
    pub arguments: Value,
    /// JSON Schema of its result.
    pub result: Value,
    /// What it may change.
    pub side_effect: SideEffect,
    /// Whether running it twice is the same as running it once.
    pub idempotent: bool,
    /// Longest time that one call may take.
    pub timeout_ms: u64,
    /// Requests that it answers, for example `train a model on the iris data`: help for the planner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ToolExample>,
}

/// A request and the arguments that answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolExample {
    /// What a person might ask.
    pub request: String,
    /// The arguments to use then.
    pub arguments: Value,
}

/// `POST /v1/execute`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// The task it is for.
    pub task: TaskId,
    /// The step it is for.
    pub step: StepId,
    /// The tool.
    pub tool: String,
    /// Its arguments, references resolved.
    pub arguments: Value,
    /// The same for every attempt at the same step: a repeat is answered with the first result.
    pub idempotency_key: String,
    /// Digest of the tool and arguments that the person agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// Labels on the arguments.
    pub labels: Labels,
    /// Give up after this long; bounded by the tool's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecuteReply {
    /// The result, of the tool's result schema.
    pub output: Value,
    /// Where the result's content came from.
    pub labels: Labels,
    /// Layers of confinement that were really enforced; empty for tools that start no process.
    pub enforced: Vec<String>,
    /// Which rule allowed it.
    pub policy: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether this is the stored result of an earlier call with the same key.
    pub repeated: bool,
}
