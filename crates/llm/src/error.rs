//! Why an LLM node cannot start.

use std::path::PathBuf;

use kamil_models::ModelError;
use kamil_node::NodeError;
use kamil_protocol::Problem;

use crate::engine::llama::{chain, sentence};

/// Why an LLM node cannot start. The text is for a person: what failed, on what, why, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node itself cannot start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The model is known, but cannot be used.
    #[error("{}.", sentence(&chain(source)))]
    Model {
        /// Why.
        #[source]
        source: ModelError,
    },
    /// The model's file is not there.
    #[error("The model file {} cannot be read: {source}. Check the path, or name a model that `kamil models list` shows.", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// Nobody knows the model.
    #[error("There is no model `{name}`: it is not in Kamil's catalogue{}, and {ollama}. Choose one that `kamil models list` shows, give the path of a .gguf file, start Ollama with that model, or name another server (--engine-url URL).", match nearest { Some(nearest) => format!(" (nearest: `{nearest}`)"), None => String::new() })]
    UnknownModel {
        /// The name that was given.
        name: String,
        /// The name in the catalogue that looks most like it.
        nearest: Option<String>,
        /// What the local Ollama said, completing "and …".
        ollama: String,
    },
    /// No model was named, and none is installed.
    #[error(
        "No model is installed that fits into the {free_mib} MiB of memory that are free. `kamil models pull {suggestion}` fetches one that fits."
    )]
    NothingInstalled {
        /// The largest that fits.
        suggestion: String,
        /// Free memory, in MiB.
        free_mib: u64,
    },
    /// No model was named, and none fits.
    #[error(
        "No model of the catalogue fits into the {free_mib} MiB of memory that are free; the smallest needs {needed_mib} MiB. Free some memory, or name a model to run it all the same."
    )]
    NothingFits {
        /// Free memory, in MiB.
        free_mib: u64,
        /// What the smallest needs, in MiB.
        needed_mib: u64,
    },
    /// The server that is to run the model cannot be used.
    #[error("{source}")]
    Engine {
        /// Why.
        #[source]
        source: Problem,
    },
    /// An option is out of range.
    #[error("{0}.")]
    Option(String),
}
