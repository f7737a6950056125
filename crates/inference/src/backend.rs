//! The one process-wide initialisation that llama.cpp demands.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::error::InferenceError;

/// llama.cpp keeps its backend state in C globals and allows one initialisation per process.
static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();

/// The backend, initialised at first use. llama.cpp's own log goes to `tracing`.
pub(crate) fn backend() -> Result<&'static LlamaBackend, InferenceError> {
    let state = BACKEND.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default());
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    state.as_ref().map_err(|reason| InferenceError::Options { reason: reason.clone() })
}
