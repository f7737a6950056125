//! Starting and stopping.

use std::sync::Arc;

use kamil_node::{Listener, Metrics, NodeOptions, RunningNode, Service};
use kamil_protocol::node::{Capabilities, Role};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, App},
    options::{OrchestratorOptions, StartError},
    orchestrator::Orchestrator,
};

/// Opens the journal, takes up unfinished tasks, and serves until the shutdown.
///
/// # Errors
/// [`StartError`]: the address, the home or the journal cannot be used.
pub async fn start(
    node: NodeOptions,
    options: OrchestratorOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    let listener = Listener::bind(&node, Role::Orchestrator).await?;
    let metrics = Metrics::new();
    let pages = options.pages.clone();
    let key = node.cluster_key.clone();
    let Orchestrator { hub } =
        Orchestrator::open(&node.home, key, options, &metrics, shutdown.clone()).await?;
    let (offers, capabilities) = watch::channel(Capabilities::default());
    let load = Arc::clone(&hub);
    let service = Service {
        role: Role::Orchestrator,
        router: api::router(App { hub }).merge(pages),
        openapi: api::openapi(),
        capabilities,
        load: Arc::new(move || (u32::try_from(load.open_tasks()).unwrap_or(u32::MAX), 0)),
        metrics,
    };
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        drop(offers);
    });
    Ok(listener.start(service, shutdown))
}
