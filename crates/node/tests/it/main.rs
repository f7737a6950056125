//! Nodes on real sockets.

mod bodies;
mod door;
mod registration;
mod shutdown;
mod streams;
mod world;
