//! The crate's promises at its boundaries: the network, the package index, the disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod headers;
mod packages;
mod store;
mod urls;
