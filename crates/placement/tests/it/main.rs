//! Placement as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod choosing;
mod degrading;
mod fleets;
mod learning;
mod properties;
mod spreading;
