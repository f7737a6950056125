//! What runs a model. Two families: llama.cpp in this process, and any OpenAI-compatible server.

pub(crate) mod llama;
pub(crate) mod openai;

use std::time::Duration;

use futures::{future::BoxFuture, stream::BoxStream};
use kamil_protocol::{
    Problem,
    reason::{Finish, ReasonRequest, Usage},
};

/// Runs one model.
///
/// A request that an engine is given has passed the node's checks, and has a slot: an engine sees at most as many at once as
/// the node has slots.
pub(crate) trait Engine: Send + Sync {
    /// Begins to write. The stream yields pieces of text as they come, then exactly one [`Piece::Done`], or one problem;
    /// nothing follows these. Dropping the future or the stream stops the work. `queue_ms` of the usage is what the engine
    /// itself made the request wait.
    ///
    /// # Errors
    /// `context_exceeded`, `validation_failed` for a constraint that cannot be used, `busy`, and what the engine's own
    /// failures are mapped to: `model_unusable` (it will not work later either), `bad_gateway` (it might).
    fn write(&self, request: ReasonRequest, deadline: Duration) -> BoxFuture<'_, Result<Pieces, Problem>>;

    /// How fast it has been.
    fn speed(&self) -> Speed;
}

/// What an engine yields.
pub(crate) type Pieces = BoxStream<'static, Result<Piece, Problem>>;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next text, never empty.
    Text(String),
    /// The end.
    Done(Finish, Usage),
}

/// Measured speeds in tokens a second, absent before there was something to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Speed {
    /// Of reading.
    pub(crate) prefill: Option<f32>,
    /// Of writing, one request alone.
    pub(crate) decode: Option<f32>,
}
