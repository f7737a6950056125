//! Whether the model is there yet. It is loaded in the background: the node serves, and registers, before.

use std::{fmt, sync::Arc};

use kamil_protocol::{ErrorCode, Problem};
use tokio::sync::watch;

use crate::engine::Engine;

/// Where the engine is, once it is there. Clones see the same.
#[derive(Clone)]
pub(crate) struct Residence(watch::Sender<State>);

#[derive(Clone)]
enum State {
    Loading,
    Ready(Arc<dyn Engine>),
    Failed(Problem),
}

impl fmt::Debug for Residence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.0.borrow() {
            State::Loading => "loading",
            State::Ready(_) => "ready",
            State::Failed(_) => "failed",
        };
        f.debug_tuple("Residence").field(&state).finish()
    }
}

impl Residence {
    pub(crate) fn loading() -> Self {
        Self(watch::Sender::new(State::Loading))
    }

    pub(crate) fn ready(engine: Arc<dyn Engine>) -> Self {
        Self(watch::Sender::new(State::Ready(engine)))
    }

    pub(crate) fn settle(&self, loaded: Result<Arc<dyn Engine>, Problem>) {
        self.0.send_replace(match loaded {
            Ok(engine) => State::Ready(engine),
            Err(problem) => State::Failed(problem),
        });
    }

    /// The engine, as soon as it is loaded.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(crate) async fn engine(&self) -> Result<Arc<dyn Engine>, Problem> {
        let mut states = self.0.subscribe();
        let settled =
            states.wait_for(|state| !matches!(state, State::Loading)).await.map(|state| state.clone());
        match settled {
            Ok(State::Ready(engine)) => Ok(engine),
            Ok(State::Failed(problem)) => Err(problem),
            Ok(State::Loading) | Err(_) => Err(Problem::new(
                ErrorCode::ModelUnusable,
                "The model was not loaded: the node is shutting down.",
            )),
        }
    }

    /// The engine, if it is loaded.
    pub(crate) fn loaded(&self) -> Option<Arc<dyn Engine>> {
        match &*self.0.borrow() {
            State::Ready(engine) => Some(Arc::clone(engine)),
            State::Loading | State::Failed(_) => None,
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(&*self.0.borrow(), State::Failed(_))
    }
}
