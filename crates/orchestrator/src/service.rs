//! Starting and stopping.

use std::{sync::Arc, time::Duration};

use kamil_node::{Listener, Metrics, NodeOptions, RunningNode, Service};
use kamil_protocol::node::{Capabilities, Role};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, App},
    hub::Hub,
    journal::{Journal, JournalError},
    measures::Measures,
    options::{OrchestratorOptions, StartError},
    registry::Registry,
};

/// How often nodes are checked for heartbeats that did not come.
const SWEEP: Duration = Duration::from_millis(200);

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
    let measures = Measures::new(&metrics);
    let journal = open_journal(&node, &metrics, options.journal_limit_bytes).await?;
    let registry = Arc::new(Registry::new(node.cluster_key.clone(), options.heartbeat_timeout));
    let (pages, resume) = (options.pages.clone(), options.resume);
    let hub = Hub::new(journal, Arc::clone(&registry), options, measures, shutdown.clone());
    hub.expect_fleet().await?;
    if resume {
        let resumed = hub.resume().await?;
        if resumed > 0 {
            tracing::info!(resumed, "unfinished tasks are taken up again");
        }
    }
    tokio::spawn(sweep(registry, shutdown.clone()));
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

async fn open_journal(
    node: &NodeOptions,
    metrics: &Arc<Metrics>,
    limit_bytes: Option<u64>,
) -> Result<Journal, JournalError> {
    let (path, identity) = (node.home.journal(), node.home.identity());
    let metrics = Arc::clone(metrics);
    let opening = tokio::task::spawn_blocking(move || Journal::open(&path, &identity, &metrics, limit_bytes));
    // The thread ends by itself when the last handle on the journal is gone.
    let (journal, _thread) = opening.await.map_err(|error| JournalError::Database(error.to_string()))??;
    Ok(journal)
}

async fn sweep(registry: Arc<Registry>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        registry.sweep();
    }
}
