//! The memory node: it keeps what the orchestrator gives it and finds what bears on a request.
//!
//! * [`start`]: the node as such. [`openapi()`]: its interface (`http`). [`validation`]: what is kept, and what is refused.
//! * [`store`]: one SQLite file with four kinds of memory (working, semantic, episodic, structured), an index of words
//!   (FTS5) and the embeddings, which are held in memory as well (`matrix`) for the exact scan.
//! * [`recall()`]: words, meaning, names and time, fused into one explained score.
//! * [`embedding`]: sentence embeddings, computed on the node in the background; without the model, recall goes on by
//!   words.
//!
//! The node takes calls from the orchestrator only, and calls nobody.

mod admission;
pub mod embedding;
mod http;
mod matrix;
mod node;
mod recall;
pub mod store;
pub mod validation;

pub use http::openapi;
pub use node::{MemoryOptions, StartError, serve, start};
pub use recall::{Recalled, recall};
pub use store::SqliteStore;
