//! What every node of Kamil shares, whatever its role.
//!
//! * [`Home`], [`NodeIdentity`], [`ClusterKey`]: what a node keeps on disk.
//! * [`Listener`], [`Service`], [`RunningNode`]: the one way in which every role serves, registers with the
//!   orchestrator, sends heartbeats, and leaves.
//! * [`NodeToken`], [`orchestrator_only`]: who may call a worker node. Host, Origin and key checks are built into the
//!   listener.
//! * [`Json`], [`Path`], [`Query`], [`ApiError`]: axum's extractors and replies with problem documents (RFC 9457).
//! * [`Client`], [`SseStream`]: typed HTTP between nodes, bounded in time and size.
//! * [`hardware`]: what the machine is made of, and how busy it is. [`Metrics`]: counters for Prometheus.

mod client;
mod cluster_key;
mod door;
mod endpoints;
mod error;
mod event_stream;
mod exchange;
pub mod hardware;
mod home;
mod identity;
mod listener;
mod metrics;
mod registration;
mod token;

pub use client::{Client, Method};
pub use cluster_key::ClusterKey;
pub use endpoints::{CapabilitiesDoc, describe};
pub use error::NodeError;
pub use event_stream::{SseDecoder, SseEvent, SseStream, event_stream};
pub use exchange::{ApiError, ApiResult, Json, Path, Query};
pub use home::Home;
pub use identity::NodeIdentity;
pub use listener::{Listener, NodeOptions, RunningNode, Service};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use token::{NodeToken, orchestrator_only};

/// Header in which the orchestrator shows a node the secret that the node registered with.
pub const NODE_TOKEN_HEADER: &str = "kamil-node-token";
/// Header that names the task for which a worker node is called; for its log.
pub const TASK_HEADER: &str = "kamil-task";
/// Header that names the step for which a worker node is called; for its log.
pub const STEP_HEADER: &str = "kamil-step";
