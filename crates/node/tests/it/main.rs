//! Nodes on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bodies;
mod door;
mod registration;
mod shutdown;
mod streams;
mod world;
