//! The tool node over HTTP, with the real sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod code;
mod files;
mod keys;
mod limits;
mod machine;
mod models;
mod offer;
mod permissions;
mod world;
