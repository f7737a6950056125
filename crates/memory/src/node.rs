//! Starting the memory node.

use std::{sync::Arc, time::Duration};

use kamil_node::{Home, Listener, Metrics, NodeError, NodeOptions, RunningNode, Service, orchestrator_only};
use kamil_protocol::node::{Capabilities, MemoryOffer, Role};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, SLOTS},
    embedding::{EMBEDDER, Embedding},
    http,
    store::{SqliteStore, StoreError},
};

/// How often the number of memories is told to the orchestrator.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// What the caller of [`start`] decides.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// The embedding model, as the catalogue names it. It is used if it is installed, or as soon as it is.
    pub embedder: String,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { embedder: EMBEDDER.to_owned() }
    }
}

/// Why a memory node cannot start. The text is for a person: what failed, on what, why, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node as such cannot start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts a memory node: takes the port, opens the store, serves, registers with the orchestrator, until the shutdown.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    node: NodeOptions,
    options: MemoryOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    let listener = Listener::bind(&node, Role::Memory).await?;
    serve(listener, &node.home, options, shutdown).await
}

/// As [`start`], on a port that has been taken already: for those who need the listener's token or address before.
///
/// # Errors
/// See [`StartError`].
pub async fn serve(
    listener: Listener,
    home: &Home,
    options: MemoryOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    let path = home.memory_db();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await;
    let store = opened.map_err(|_| StoreError::Stopped)??;
    let memories = store.stats().await?.total;
    let embedding = Embedding::start(store.clone(), home.models(), options.embedder, shutdown.clone()).await;
    tracing::info!(memories, embedder = embedding.model(), "the memory store is open");
    let offer = MemoryOffer { store: "sqlite".to_owned(), embedder: embedding.model(), memories };
    let (offered, capabilities) =
        watch::channel(Capabilities { memory: Some(offer), slots: SLOTS, ..Capabilities::default() });
    tokio::spawn(keep_offering(offered, store.clone(), embedding.clone(), shutdown.clone()));
    let metrics = Metrics::new();
    let admission = Admission::new();
    let router = http::router(store, embedding, admission.clone(), &metrics);
    let service = Service {
        role: Role::Memory,
        router: orchestrator_only(router, listener.token()),
        openapi: http::openapi(),
        capabilities,
        load: Arc::new(move || admission.load()),
        metrics,
    };
    Ok(listener.start(service, shutdown))
}

/// Tells the orchestrator at once when the embedding model comes, and now and then how many memories there are.
async fn keep_offering(
    offered: watch::Sender<Capabilities>,
    store: SqliteStore,
    embedding: Embedding,
    shutdown: CancellationToken,
) {
    let mut interval = tokio::time::interval(COUNT_INTERVAL);
    let mut loaded = embedding.loaded();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            changed = loaded.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let Ok(stats) = store.stats().await else { continue };
        let offer =
            MemoryOffer { store: "sqlite".to_owned(), embedder: embedding.model(), memories: stats.total };
        offered.send_if_modified(|capabilities| {
            let changed = capabilities.memory.as_ref() != Some(&offer);
            capabilities.memory = Some(offer);
            changed
        });
    }
}
