//! Sentence embeddings, computed on the node.
//!
//! A memory is durable before it is embedded, so that writing waits for nobody; the background task embeds whatever has
//! no embedding of the current model, newest first, and so takes up again where an earlier run ended. While the model is not
//! installed, it looks for it now and then.

mod model;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::model::{Loaded, Missing};
use crate::store::{SqliteStore, StoreError, Unembedded};

/// The model that is used unless told otherwise.
pub const EMBEDDER: &str = "all-minilm:l6-v2";
/// Texts that are embedded in one go: few, since a query waits for those before it.
const BATCH: u32 = 4;
/// A query that is not embedded within this time is answered without.
const QUERY_PATIENCE: Duration = Duration::from_secs(2);
/// How often a model that is not installed is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The node's embedding model, as soon as it has one. Cheap to clone.
#[derive(Clone)]
pub struct Embedding {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    models: PathBuf,
    loaded: watch::Sender<Option<Arc<Loaded>>>,
    /// Why there is none.
    missing: std::sync::Mutex<String>,
    wake: Notify,
    backlog: AtomicUsize,
}

impl Embedding {
    /// Loads the model if it is installed in the folder, and starts the background task.
    pub async fn start(
        store: SqliteStore,
        models: PathBuf,
        name: String,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared {
            name,
            models,
            loaded: watch::Sender::new(None),
            missing: std::sync::Mutex::new(String::new()),
            wake: Notify::new(),
            backlog: AtomicUsize::new(0),
        };
        let embedding = Self { shared: Arc::new(shared) };
        embedding.load().await;
        let task = embedding.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task.keep_embedding(&store) => {}
                () = shutdown.cancelled() => {}
            }
        });
        embedding
    }

    /// The name of the model in use.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        self.shared.loaded.borrow().as_ref().map(|loaded| loaded.name().to_owned())
    }

    /// Changes when a model was loaded.
    pub(crate) fn loaded(&self) -> watch::Receiver<Option<Arc<Loaded>>> {
        self.shared.loaded.subscribe()
    }

    /// New memories have been written.
    pub(crate) fn notify(&self) {
        self.shared.wake.notify_one();
    }

    /// How many memories, about, have no embedding yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed)
    }

    /// The embedding of a query, a unit vector; or, in words for a person, why there is none.
    ///
    /// # Errors
    /// If the model is not installed or does not answer in time.
    pub async fn query(&self, text: &str) -> Result<Vec<f32>, String> {
        let loaded = self.shared.loaded.borrow().clone();
        let Some(loaded) = loaded else {
            return Err(self
                .shared
                .missing
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone());
        };
        let embedded = tokio::time::timeout(QUERY_PATIENCE, loaded.embed(vec![text.to_owned()])).await;
        match embedded {
            Ok(Ok(mut vectors)) => {
                vectors.pop().ok_or_else(|| "the embedding model gave no answer.".to_owned())
            }
            Ok(Err(error)) => Err(format!("the embedding model failed: {error}.")),
            Err(_) => {
                Err(format!("the embedding model did not answer within {} s.", QUERY_PATIENCE.as_secs()))
            }
        }
    }

    async fn load(&self) -> Option<Arc<Loaded>> {
        let (models, name) = (self.shared.models.clone(), self.shared.name.clone());
        let reason = match tokio::task::spawn_blocking(move || Loaded::load(&models, &name)).await {
            Ok(Ok(loaded)) => {
                let loaded = Arc::new(loaded);
                tracing::info!(model = loaded.name(), "embedding model loaded");
                self.shared.loaded.send_replace(Some(Arc::clone(&loaded)));
                return Some(loaded);
            }
            Ok(Err(Missing(reason))) => reason,
            Err(error) => format!("loading the embedding model broke off: {error}."),
        };
        let mut missing = self.shared.missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *missing != reason {
            tracing::warn!(reason, "recall goes by words alone");
            *missing = reason;
        }
        None
    }

    async fn keep_embedding(&self, store: &SqliteStore) {
        let mut refused = BTreeSet::new();
        loop {
            let loaded = self.shared.loaded.borrow().clone();
            let Some(loaded) = loaded else {
                tokio::time::sleep(LOOK_AGAIN).await;
                self.load().await;
                continue;
            };
            match self.embed_some(store, &loaded, &mut refused).await {
                Ok(0) => self.shared.wake.notified().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "memories could not be embedded; trying again");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Embeds the next batch; returns how many memories were dealt with.
    async fn embed_some(
        &self,
        store: &SqliteStore,
        loaded: &Loaded,
        refused: &mut BTreeSet<Unembedded>,
    ) -> Result<usize, StoreError> {
        let model = loaded.name().to_owned();
        let skipped = u32::try_from(refused.len()).unwrap_or(u32::MAX);
        let mut batch = store.unembedded(model.clone(), BATCH.saturating_add(skipped)).await?;
        batch.retain(|memory| !refused.contains(memory));
        batch.truncate(BATCH as usize);
        let count = batch.len();
        let backlog =
            if count < BATCH as usize { count } else { store.count_unembedded(model.clone()).await? };
        self.shared.backlog.store(backlog, Ordering::Relaxed);
        if batch.is_empty() {
            return Ok(0);
        }
        let texts = batch.iter().map(|memory| memory.text.clone()).collect();
        let embeddings = match loaded.embed(texts).await {
            Ok(vectors) if vectors.len() == count => batch.into_iter().zip(vectors).collect(),
            _ => {
                // One of them may be the cause: each by itself, and what fails again is left to words.
                let mut embeddings = Vec::with_capacity(count);
                for memory in batch {
                    match loaded.embed(vec![memory.text.clone()]).await.map(|mut vectors| vectors.pop()) {
                        Ok(Some(vector)) => embeddings.push((memory, vector)),
                        Ok(None) => {
                            refused.insert(memory);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a memory cannot be embedded; it is found by its words only");
                            refused.insert(memory);
                        }
                    }
                }
                embeddings
            }
        };
        store.embed(model, embeddings).await?;
        Ok(count)
    }
}
