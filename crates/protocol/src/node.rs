//! Nodes: registration, heartbeats, hardware, what a node offers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{InstanceId, NodeId, tool::ToolDescriptor};

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The hub.
    Orchestrator,
    /// Reasons.
    Llm,
    /// Executes tools.
    Tool,
    /// Remembers.
    Memory,
}

/// `POST /v1/nodes`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterNode {
    /// The node's id, kept over restarts.
    pub id: NodeId,
    /// This run of it.
    pub instance: InstanceId,
    /// A name for people: 1–64 characters.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where the orchestrator reaches it, e.g. `http://127.0.0.1:8001`.
    pub url: String,
    /// The secret that the orchestrator shows in every call to this node; nobody else knows it.
    pub token: String,
    /// Kamil's version.
    pub version: String,
    /// What it offers.
    pub capabilities: Capabilities,
    /// What it runs on.
    pub hardware: Hardware,
}

impl std::fmt::Debug for RegisterNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterNode")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("url", &self.url)
            .field("token", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// What registration answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// Send a heartbeat this often.
    pub heartbeat_interval_ms: u64,
    /// Without one for this long the node counts as gone.
    pub heartbeat_timeout_ms: u64,
}

/// `PUT /v1/nodes/{id}/heartbeat`. The answer 404 `node_unknown` means: register again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// This run of the node.
    pub instance: InstanceId,
    /// The load now.
    pub load: Load,
    /// What it offers now, when that has changed since the last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Accelerators now (free memory, utilisation).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<Accelerator>,
}

/// How busy a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Share of all cores in use, 0–1.
    pub cpu: f32,
    /// Free memory, in bytes.
    pub ram_available_bytes: u64,
    /// Requests being worked on.
    pub running: u32,
    /// Requests waiting.
    pub queued: u32,
}

/// What a node offers, by role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Models, for LLM nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelOffer>,
    /// Tools, for tool nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDescriptor>,
    /// Memory, for memory nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryOffer>,
    /// Requests that may run at once.
    #[serde(default)]
    pub slots: u32,
}

/// A model that a node offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelOffer {
    /// Its name, e.g. `qwen2.5-coder:1.5b`.
    pub name: String,
    /// Which engine runs it: `llama.cpp` or `openai`.
    pub engine: String,
    /// Whether it is loaded, or has to be loaded first.
    pub resident: bool,
    /// Size of its file; 0 where it is not known.
    pub bytes: u64,
    /// Tokens of context that a request may use.
    pub context_tokens: u32,
    /// What it is good at: `general`, `coding`, `math`…
    pub specializations: Vec<String>,
    /// Measured speed of reading, tokens a second; absent before the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_tokens_per_s: Option<f32>,
    /// Measured speed of writing, tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_tokens_per_s: Option<f32>,
    /// Whether it writes text (`false`: it embeds).
    pub generates: bool,
}

/// What a memory node holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryOffer {
    /// Which store: `sqlite`.
    pub store: String,
    /// The embedding model; absent when none is installed, and recall is by words alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder: Option<String>,
    /// How many memories.
    pub memories: u64,
}

/// What a node runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// The processor's name.
    pub cpu_model: String,
    /// Physical cores.
    pub physical_cores: u32,
    /// Logical cores.
    pub logical_cores: u32,
    /// Instruction sets that matter for inference, e.g. `avx2`, `avx512f`, `neon`.
    #[serde(default)]
    pub instruction_sets: Vec<String>,
    /// Memory, in bytes.
    pub ram_total_bytes: u64,
    /// Free memory, in bytes.
    pub ram_available_bytes: u64,
    /// Accelerators.
    #[serde(default)]
    pub accelerators: Vec<Accelerator>,
    /// `ac` or `battery`; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Operating system and architecture, e.g. `linux x86_64`.
    #[serde(default)]
    pub platform: String,
    /// Whether a profile file replaced the probe.
    #[serde(default)]
    pub from_profile: bool,
}

/// An accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// How it is driven.
    pub kind: AcceleratorKind,
    /// Its name.
    pub name: String,
    /// Its memory, in bytes.
    pub vram_total_bytes: u64,
    /// Free memory, in bytes.
    pub vram_available_bytes: u64,
    /// Share of time in use, 0–1; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f32>,
}

/// How an accelerator is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorKind {
    /// NVIDIA.
    Cuda,
    /// AMD.
    Rocm,
    /// Apple.
    Metal,
    /// Any, by Vulkan.
    Vulkan,
}

/// Whether a node can be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Heartbeats arrive.
    Alive,
    /// They stopped, or its connection broke.
    Dead,
}

/// One line of `GET /v1/nodes`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeDoc {
    /// The node's id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub url: String,
    /// Whether it can be given work.
    pub status: NodeStatus,
    /// Kamil's version there.
    pub version: String,
    /// What it offers.
    pub capabilities: Capabilities,
    /// What it runs on.
    pub hardware: Hardware,
    /// How busy it is.
    pub load: Load,
    /// Since when it has been registered.
    pub registered_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
}
