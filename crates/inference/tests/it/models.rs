//! The models the tests run with.

use std::path::PathBuf;
use std::sync::OnceLock;

use kamil_inference::{EngineOptions, GenerateRequest, Generator, Message};
use kamil_models::ModelsDir;

/// The folder, shared by all tests of the workspace.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("KAMIL_TEST_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/test-models"),
        PathBuf::from,
    )
}

/// The file of the model called `name`, fetched if need be.
pub(crate) fn fetched(name: &str) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ModelsDir::new(folder()).pull(name, |_| {})).unwrap().path
}

/// Small enough to be loaded several times.
pub(crate) fn small_options() -> EngineOptions {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let mut options = EngineOptions::new(PATH.get_or_init(|| fetched("smollm2:135m")));
    options.context_tokens = 1024;
    options
}

/// A fresh engine, so that no test sees another's cache.
pub(crate) fn small() -> Generator {
    Generator::load(small_options()).unwrap()
}

pub(crate) fn question(text: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest::new(vec![Message::system("You are terse."), Message::user(text)], max_tokens)
}
