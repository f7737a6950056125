//! What is asked of a generator and what it answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation, in the shape chat templates expect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// Calls that an assistant message made, in OpenAI's shape, with `arguments` as an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A plain message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), tool_calls: None, tool_call_id: None }
    }

    /// A `system` message.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A `user` message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An `assistant` message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// What the output must match; enforced on every token.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// A JSON Schema. Unless its `x-guidance` says otherwise, the JSON is written without optional white space, which
    /// makes most of its punctuation and all of its keys forced tokens.
    JsonSchema(Value),
    /// A grammar in llguidance's variant of Lark.
    Grammar(String),
    /// A regular expression that the whole output matches.
    Regex(String),
}

/// One generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Tools to show to the model, in OpenAI's function shape, if its template can.
    pub tools: Option<Vec<Value>>,
    /// What the output must match.
    pub constraint: Option<Constraint>,
    /// Text of the answer that was already produced, here or elsewhere; the output goes on after it.
    pub continue_from: Option<String>,
    /// At most this many tokens are produced; counted against the context beforehand.
    pub max_tokens: u32,
    /// 0 decodes greedily.
    pub temperature: f32,
    /// Nucleus sampling: the smallest set of tokens with at least this probability; 1 takes all.
    pub top_p: f32,
    /// Seed of the sampler; the same seed, request and batch composition give the same output.
    pub seed: u64,
    /// Output ends before any of these.
    pub stop: Vec<String>,
}

impl GenerateRequest {
    /// A greedy request for at most `max_tokens` tokens.
    pub fn new(messages: Vec<Message>, max_tokens: u32) -> Self {
        Self {
            messages,
            tools: None,
            constraint: None,
            continue_from: None,
            max_tokens,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

/// What a stream yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The next piece of text, never empty, cut at character boundaries.
    Delta(String),
    /// The end; nothing follows.
    Done(Usage),
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn, the constraint is fulfilled, or a stop string came.
    Stop,
    /// `max_tokens` were produced.
    Length,
    /// The engine was shut down.
    Cancelled,
}

/// What a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// How many of them were still in the cache from earlier requests.
    pub tokens_cached: u32,
    /// Tokens produced, forced ones included.
    pub tokens_out: u32,
    /// Tokens that the constraint left no choice about; fed in a batch, not sampled.
    pub tokens_forced: u32,
    /// From submission to the start of work, in milliseconds.
    pub queue_ms: u64,
    /// From the start of work to the first sampled token, in milliseconds.
    pub prefill_ms: u64,
    /// From the first sampled token to the end, in milliseconds.
    pub decode_ms: u64,
    /// Why it ended.
    pub finish: Finish,
}
