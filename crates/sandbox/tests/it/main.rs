//! What the sandbox must hold, tested from outside on the real kernel. Every attack is first shown to succeed without
//! the sandbox, then to fail in it; as root, each runs for a root caller and for an ordinary one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

mod files;
mod kernel;
mod layers;
mod lifecycle;
mod network;
mod ordinary;
mod processes;
mod resources;
mod stage;
