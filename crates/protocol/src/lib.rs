//! Every message on Kamil's wire, and nothing else: no I/O, no behaviour beyond parsing.
//!
//! * [`id`]: typed ids. [`problem`]: error codes and RFC 9457 problem documents.
//! * [`task`]: requests, the task document, steps. [`flow`]: how results steer later steps. [`event`]: what the journal records and
//!   the event stream carries. [`label`]: where a value came from and how far it may be believed. [`digest`]: what approvals are bound to.
//! * [`node`]: registration, heartbeats, hardware. [`placement`]: why a step runs where it runs.
//! * [`planning`]: what would be planned for a request. [`reason`], [`tool`], [`memory`]: what the three kinds of worker nodes accept and answer.
//! * [`openai`]: the OpenAI-compatible surface. [`log`]: checkpoints and verification.
//!
//! Requests refuse unknown fields; replies may grow. Sizes are in bytes (`_bytes`), durations in milliseconds
//! (`_ms`), moments are RFC 3339 timestamps, ratios lie in 0–1.

pub mod digest;
pub mod event;
pub mod flow;
pub mod id;
pub mod label;
pub mod log;
pub mod memory;
pub mod node;
pub mod openai;
pub mod placement;
pub mod planning;
pub mod problem;
pub mod reason;
pub mod replay;
pub mod task;
pub mod tool;

pub use id::{InstanceId, MemoryId, NodeId, SessionId, StepId, TaskId};
pub use problem::{ErrorCode, Problem};

/// Where an orchestrator listens unless told otherwise.
pub const ORCHESTRATOR_PORT: u16 = 8000;
/// Where an LLM node listens unless told otherwise.
pub const LLM_PORT: u16 = 8001;
/// Where a tool node listens unless told otherwise.
pub const TOOL_PORT: u16 = 8002;
/// Where a memory node listens unless told otherwise.
pub const MEMORY_PORT: u16 = 8003;
/// Largest request body that any endpoint accepts, in bytes.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Largest step output that the journal holds, in bytes; a larger one is cut to an excerpt.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// One page of a list.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items of this page, in the order that the endpoint documents.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// How a list is paged.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// At most this many items, 1–200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The page size that applies, 1–200.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 200) as usize
    }
}

/// What `GET /health` answers on every node.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok` while the node takes work.
    pub status: String,
    /// Which role answers.
    pub role: node::Role,
    /// The node's id.
    pub node: NodeId,
    /// Kamil's version.
    pub version: String,
    /// Milliseconds since the service started.
    pub uptime_ms: u64,
}
