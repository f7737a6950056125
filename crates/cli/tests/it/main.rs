//! The binary as people run it: real processes on loopback, each with a folder of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own scaffolding fails loudly"
)]

mod binary;
mod cancellation;
mod cluster;
mod conversation;
mod documents;
mod end_to_end;
mod eval;
mod following;
mod help;
mod kills;
mod openapi;
mod questions;
mod real_model;
mod refusals;
mod replays;
mod restart;
mod scripted_llm;
mod splices;
mod tools;
