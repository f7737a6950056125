//! The OpenAI-compatible surface: the subset of chat completions, models and embeddings that clients rely on.
//!
//! Unlike Kamil's own requests these accept fields they do not know, since clients send many; what is not named here has no effect.
//! Source: OpenAI's public API reference.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `POST /v1/chat/completions`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// A model's name, or `kamil` to let placement choose.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<OpenAiMessage>,
    /// Answer as a stream of chunks, ended by `[DONE]`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// 0–2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// 0–1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// At most this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The newer name of `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u32>,
    /// Makes sampling repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// A string or a list of strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Value>,
    /// `{"type": "json_schema", "json_schema": {"schema": …}}` or `{"type": "json_object"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<Value>,
    /// `{"include_usage": true}` adds a last chunk with the usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<Value>,
}

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenAiMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Text, or a list of parts of which the text parts are used.
    #[serde(default)]
    pub content: Value,
}

/// An answer in one piece.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-` and the task's id.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The model that answered.
    pub model: String,
    /// One choice.
    pub choices: Vec<Choice>,
    /// What it cost.
    pub usage: OpenAiUsage,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// The message.
    pub message: OpenAiMessage,
    /// `stop` or `length`.
    pub finish_reason: String,
}

/// A piece of an answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletionChunk {
    /// The same in every chunk.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The model that answers.
    pub model: String,
    /// One choice; none in the chunk with the usage.
    pub choices: Vec<ChunkChoice>,
    /// Only in the last chunk, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<OpenAiUsage>,
}

/// What a chunk adds.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChunkChoice {
    /// 0.
    pub index: u32,
    /// What is new.
    pub delta: ChunkDelta,
    /// Set in the last chunk.
    pub finish_reason: Option<String>,
}

/// What is new.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ChunkDelta {
    /// Only in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// What an answer cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct OpenAiUsage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
}

/// `GET /v1/models`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models of the whole fleet.
    pub data: Vec<ModelEntry>,
}

/// A model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Seconds since 1970; 0 where it is not known.
    pub created: i64,
    /// `kamil`.
    pub owned_by: String,
}

/// `POST /v1/embeddings`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingsRequest {
    /// A model's name, or `kamil`.
    pub model: String,
    /// A text or a list of at most 256 texts.
    pub input: Value,
}

/// Embeddings, in the order of the input.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingsReply {
    /// `list`.
    pub object: String,
    /// One for each text.
    pub data: Vec<EmbeddingEntry>,
    /// The model that made them.
    pub model: String,
    /// What it cost.
    pub usage: OpenAiUsage,
}

/// One embedding.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingEntry {
    /// `embedding`.
    pub object: String,
    /// Which input.
    pub index: u32,
    /// The vector, of length 1 in the Euclidean norm.
    pub embedding: Vec<f32>,
}
