//! What an LLM node accepts and answers: `POST /v1/reason`.
//!
//! With `stream` the answer is a stream of server-sent events: `delta` (data: [`ReasonDelta`]), then `done` (data: [`ReasonReply`])
//! or `error` (data: a problem document). Without it, the answer is one [`ReasonReply`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Speaker,
    /// What they say.
    pub content: String,
}

impl ChatMessage {
    /// A turn.
    #[must_use]
    pub fn new(role: Speaker, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Tokens that a model writes at most unless a request says how many.
pub const DEFAULT_MAX_TOKENS: u32 = 512;

/// How tokens are chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 takes the likeliest token always (the default); up to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Only tokens that make up this share of the probability, 0–1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Makes sampling repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// At most this many tokens are written; default 512, bounded by the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Writing ends before any of these; at most 8 of at most 64 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// What the output must look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// JSON of this schema; compact, without white space between tokens.
    JsonSchema {
        /// A JSON Schema (2020-12).
        schema: Value,
    },
    /// A Lark grammar as llguidance reads it.
    Lark {
        /// The grammar.
        grammar: String,
    },
    /// A regular expression that the whole output matches.
    Regex {
        /// The expression.
        pattern: String,
    },
}

/// `POST /v1/reason`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// The model, as the node names it; without one, the node's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The conversation, oldest first; 1–256 turns.
    pub messages: Vec<ChatMessage>,
    /// Tools in OpenAI's function form, for the chat template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// What the output must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// How tokens are chosen.
    #[serde(default)]
    pub sampling: Sampling,
    /// Text that the answer already begins with: writing goes on from there, and the reply holds only what is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_from: Option<String>,
    /// Answer as a stream.
    #[serde(default)]
    pub stream: bool,
    /// Give up after this long; default 10 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonDelta {
    /// The text.
    pub text: String,
}

/// Why writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done, or a stop string came.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
}

/// What the model wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReasonReply {
    /// The model that wrote it.
    pub model: String,
    /// All that is new.
    pub text: String,
    /// Why writing ended.
    pub finish: Finish,
    /// What it cost.
    pub usage: Usage,
}

/// What a generation cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// Of those, tokens that were in the cache already.
    pub tokens_cached: u32,
    /// Tokens written.
    pub tokens_out: u32,
    /// Of those, tokens that the constraint forced and that were fed in a batch.
    pub tokens_forced: u32,
    /// Time waited before the first token was read.
    pub queue_ms: u64,
    /// Time spent reading the prompt.
    pub prefill_ms: u64,
    /// Time spent writing.
    pub decode_ms: u64,
}
