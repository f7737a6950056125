//! llama.cpp in process: generation, constrained decoding, embeddings.
//!
//! - [`Generator`]: a loaded model behind one thread; continuous batching, prefix reuse, cancellation between tokens
//! - [`Embedder`]: sentence embeddings, behind a thread of their own
//! - [`GenerateRequest`], [`Constraint`], [`GenerateStream`]: what is asked and what comes back
//! - inside: `template` (messages to prompt), `constraint` (llguidance), `engine` (the loop), `prefix` (cache reuse),
//!   `sampling`, `text` (whole characters, stop strings), `job` (one request under way)
//!
//! The only crate that names llama.cpp. No network, no `unsafe`.

mod backend;
mod constraint;
mod embedder;
mod engine;
mod error;
mod generator;
mod job;
mod prefix;
mod request;
mod sampling;
mod stats;
mod stream;
mod template;
mod text;
mod threads;

pub use embedder::{Embedder, EmbedderOptions};
pub use error::InferenceError;
pub use generator::{EngineOptions, Generator, ModelInfo};
pub use request::{Constraint, Event, Finish, GenerateRequest, Message, Usage};
pub use stream::{GenerateStream, Generation};
pub use threads::{ensure_passive_waiting, physical_cores, waits_passively};
