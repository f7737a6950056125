//! What can go wrong with models, each with the object it went wrong on and what to do next.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is in no catalogue, and is neither a path nor a URL.
    #[error("no model is called {name:?}{}; see `kamil models list`, or give the path or the URL of a .gguf file, or a model that a local Ollama serves", nearest_hint(nearest.as_deref()))]
    UnknownName {
        /// The name as it was given.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
    },
    /// The model is known, but its file is not on this machine.
    #[error("the model {name} is not on this machine; fetch it with `kamil models pull {name}`")]
    NotInstalled {
        /// The catalogue name.
        name: String,
    },
    /// A file that should be a model is not one, or is damaged.
    #[error("the model file {} cannot be used: {reason}; fetch it again or give another file", path.display())]
    BrokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was downloaded is not what the catalogue pins.
    #[error("{object} has the wrong SHA-256: expected {expected}, got {found}; it was discarded")]
    WrongHash {
        /// What was checked.
        object: String,
        /// The pinned hash, in hex.
        expected: String,
        /// The hash of what came, in hex.
        found: String,
    },
    /// There is too little free space.
    #[error("not enough disk space in {}: {needed_bytes} bytes are needed, {available_bytes} are free; free some space or set KAMIL_HOME to another disk", path.display())]
    DiskFull {
        /// The folder that is to hold the model.
        path: PathBuf,
        /// Bytes still to be written.
        needed_bytes: u64,
        /// Bytes that are free.
        available_bytes: u64,
    },
    /// None of the model's sources could be used.
    #[error("{name} could not be fetched: {}", reasons.join("; "))]
    Unreachable {
        /// The model's name.
        name: String,
        /// One sentence for each source that was tried.
        reasons: Vec<String>,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A sentence-embedding package could not be turned into a GGUF file.
    #[error("cannot import {name}: {reason}")]
    Import {
        /// The model's name.
        name: String,
        /// What is wrong with the package.
        reason: String,
    },
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}
