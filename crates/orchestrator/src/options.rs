//! How an orchestrator is set up, and why it cannot start.

use std::{sync::Arc, time::Duration};

use kamil_node::NodeError;

use crate::{
    journal::{Disk, JournalError},
    link::Network,
    world::{SystemWorld, World},
};

/// What the caller of [`start`](crate::start) decides.
#[derive(Clone, Debug)]
pub struct OrchestratorOptions {
    /// The web pages, served beside the API; without a fallback.
    pub pages: axum::Router,
    /// Nodes send a heartbeat this often. Default 500 ms.
    pub heartbeat_interval: Duration,
    /// Without a heartbeat for this long a node counts as dead. Default 1.6 s.
    pub heartbeat_timeout: Duration,
    /// A step that no registered node can run waits this long for one before it fails with `no_node`. Default 10 s.
    pub no_node_wait: Duration,
    /// Take up the tasks that an earlier run left unfinished. Default yes; no is for those who come to read only.
    pub resume: bool,
    /// The journal may not grow beyond this, in bytes: what comes then is refused with `storage_full`. Default: the disk decides.
    pub journal_limit_bytes: Option<u64>,
    /// Most tasks that may be unfinished at once; more are refused with `busy`. Default 10,000.
    pub max_open_tasks: usize,
    /// Where the time of day and new ids come from. Default: the machine.
    pub world: Arc<dyn World>,
    /// How nodes are reached. Default: over HTTP, with the cluster's key.
    pub network: Option<Arc<dyn Network>>,
    /// How the journal reaches the disk. Default: synced.
    pub disk: Disk,
}

impl Default for OrchestratorOptions {
    fn default() -> Self {
        Self {
            pages: axum::Router::new(),
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_millis(1_600),
            no_node_wait: Duration::from_secs(10),
            resume: true,
            journal_limit_bytes: None,
            max_open_tasks: 10_000,
            world: Arc::new(SystemWorld),
            network: None,
            disk: Disk::Synced,
        }
    }
}

/// Why an orchestrator cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port, the home or the identity cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
