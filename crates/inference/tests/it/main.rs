//! The crate's promises, held with real models.
//!
//! The models are fetched through `kamil-models` into `$KAMIL_TEST_MODELS` (default: `target/test-models` of the
//! workspace), once: later runs find them there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod constrained;
mod embedding;
mod generation;
mod models;
