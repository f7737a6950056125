//! LLM nodes on real sockets: with a scripted model server, and with a real model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod desk;
mod llama;
mod model_server;
mod ollama;
mod openai;
mod world;
