//! The real orchestrator on loopback, with stand-in nodes that speak the protocol as other machines would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod approvals;
mod completions;
mod failures;
mod flow;
mod forks;
mod growing;
mod hub;
mod journals;
mod planning;
mod queueing;
mod replays;
mod requests;
mod restarts;
mod sessions;
mod stand_in;
mod streams;
