//! What a memory node accepts and answers: `POST /v1/recall`, `POST /v1/remember`, `/v1/memories…`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{MemoryId, SessionId, StepId, TaskId, label::Labels};

/// Longest text of one memory, in bytes.
pub const MAX_MEMORY_BYTES: usize = 16 * 1024;

/// What kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// The running conversation.
    Working,
    /// Passages.
    Semantic,
    /// What happened when.
    Episodic,
    /// Facts.
    Structured,
}

/// Where a memory came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Who is behind it.
    pub origin: Origin,
    /// The task that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Labels on the text, so that it is not believed further when it is recalled than when it was kept. Without them the origin
    /// decides: only what the person said is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// Who is behind a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The person said or entered it.
    Person,
    /// The assistant said it.
    Assistant,
    /// A tool's result.
    Tool,
    /// It was imported.
    Import,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Whom or what it is about.
    pub subject: String,
    /// What is said of it.
    pub predicate: String,
    /// The value.
    pub object: String,
    /// Since when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// Until when it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
}

/// A memory to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMemory {
    /// Its id, chosen by the writer: a repeat with the same id changes nothing.
    pub id: MemoryId,
    /// What kind.
    pub kind: MemoryKind,
    /// The text; 1 byte to 16 KiB.
    pub text: String,
    /// The fact, for kind `structured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// The conversation; required for kind `working`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Where it came from.
    pub source: Provenance,
    /// When what it tells happened.
    pub occurred_at: Timestamp,
}

/// A memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// Its id.
    pub id: MemoryId,
    /// What kind.
    pub kind: MemoryKind,
    /// The text.
    pub text: String,
    /// The fact, for kind `structured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// The fact that took this one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MemoryId>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Where it came from.
    pub source: Provenance,
    /// When what it tells happened.
    pub occurred_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
}

/// `POST /v1/remember`, from the orchestrator only: all or nothing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RememberRequest {
    /// 1–256 memories.
    pub memories: Vec<NewMemory>,
}

/// What was kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RememberReply {
    /// Ids of the memories that are new.
    pub stored: Vec<MemoryId>,
    /// Ids that were there already.
    pub known: Vec<MemoryId>,
}

/// `POST /v1/recall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecallRequest {
    /// What to look for; 1 byte to 64 KiB.
    pub query: String,
    /// At most this many hits, 1–100; default 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only these kinds; empty: semantic, episodic and structured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<MemoryKind>,
    /// The running conversation: its turns are returned apart, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// At most this many tokens (about) of the conversation; default 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_tokens: Option<u32>,
    /// The moment of asking, for expressions such as "yesterday".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
}

/// Which way a memory was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// By its words (BM25).
    Lexical,
    /// By its meaning (cosine of embeddings).
    Vector,
    /// By the time that the query names, or by being recent.
    Time,
    /// By a name that both hold.
    Entity,
}

/// How much one signal contributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignalScore {
    /// The signal.
    pub signal: Signal,
    /// Its own score, in its own scale.
    pub raw: f32,
    /// What it added to the hit's score.
    pub contribution: f32,
}

/// A memory that was found, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hit {
    /// The memory.
    pub memory: Memory,
    /// Sum of the contributions; hits are sorted by it, greatest first.
    pub score: f32,
    /// The signals that found it.
    pub signals: Vec<SignalScore>,
}

/// What memory knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecallReply {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// Turns of the running conversation, oldest first.
    pub conversation: Vec<Memory>,
    /// How long it took, the query's embedding included.
    pub took_ms: f32,
    /// What was not used, for example vectors without an embedding model; empty if all was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// `POST /v1/memories`: the person adds one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMemory {
    /// The text; 1 byte to 16 KiB.
    pub text: String,
    /// What kind; default `semantic`, or `structured` with a fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MemoryKind>,
    /// The fact, for kind `structured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// When what it tells happened; default now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
}

/// `PATCH /v1/memories/{id}`: the person corrects one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditMemory {
    /// The new text; 1 byte to 16 KiB.
    pub text: String,
}

/// What is held, by kind.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryStats {
    /// Memories of each kind.
    pub by_kind: std::collections::BTreeMap<String, u64>,
    /// All memories.
    pub total: u64,
    /// Memories with an embedding.
    pub embedded: u64,
    /// The embedding model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder: Option<String>,
    /// Size of the store, in bytes.
    pub bytes: u64,
}

/// `GET /v1/memories`: newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMemories {
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub kind: Option<MemoryKind>,
    /// At most this many, 1–200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
