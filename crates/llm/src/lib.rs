//! The LLM node: pure reasoning. It takes messages and writes text; it touches no memory and no tool and keeps nothing
//! between calls but caches.
//!
//! * [`start`] with [`LlmOptions`]: which model, how many requests at once. [`StartError`]: why not.
//! * Inside: `choice` (which model), `residence` (loading in the background), `admission` (a full node refuses), `engine` (llama.cpp in
//!   process, or any OpenAI-compatible server), `desk` and `writing` (one answer, bounded), `embeddings`, `endpoints`.
//! * [`openapi`]: the description that is served.

mod admission;
mod choice;
mod desk;
mod embeddings;
mod endpoints;
mod engine;
mod error;
mod node;
mod request;
mod residence;
mod writing;

pub use endpoints::openapi;
pub use error::StartError;
pub use kamil_inference::ensure_passive_waiting;
pub use node::{LlmOptions, start};
