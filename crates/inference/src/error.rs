//! What can go wrong when a model is loaded or runs.

use std::path::PathBuf;

use kamil_models::ModelError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The model file is missing, damaged or of the wrong kind; found before llama.cpp sees it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// llama.cpp refused a file whose header is in order.
    #[error("llama.cpp cannot load {}: {reason}", path.display())]
    Load {
        /// The model file.
        path: PathBuf,
        /// What llama.cpp said.
        reason: String,
    },
    /// The options contradict each other or the model.
    #[error("the engine cannot be set up: {reason}")]
    Options {
        /// What is wrong.
        reason: String,
    },
    /// The model file has no chat template, or it does not render these messages.
    #[error("the chat template of {model} failed: {reason}")]
    Template {
        /// The model's name.
        model: String,
        /// What the template engine said.
        reason: String,
    },
    /// The schema, grammar or regular expression cannot be used for decoding.
    #[error("the output constraint cannot be used: {reason}")]
    Constraint {
        /// What is wrong with it.
        reason: String,
    },
    /// The prompt and the room asked for the answer do not fit.
    #[error(
        "the request needs {needed} tokens of context, {available} are available; shorten it or ask for fewer tokens"
    )]
    ContextExceeded {
        /// Prompt tokens plus `max_tokens`.
        needed: u32,
        /// Tokens one request may use.
        available: u32,
    },
    /// The queue is full; nothing was accepted.
    #[error("the engine is busy: {queued} requests are waiting; try again later")]
    Busy {
        /// Requests waiting.
        queued: usize,
    },
    /// A decode step failed inside llama.cpp.
    #[error("decoding failed: {reason}")]
    Decode {
        /// What llama.cpp said.
        reason: String,
    },
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
}
