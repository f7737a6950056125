//! The memory node as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod facts;
mod forgetting;
mod meaning;
mod recalling;
mod serving;
mod storing;
mod world;
