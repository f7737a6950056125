//! The crate's promises at its boundaries: the network, the package index, the disk.

mod headers;
mod packages;
mod store;
mod urls;
