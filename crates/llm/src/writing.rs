//! One answer as it is written, bounded in time and size.

use std::{sync::Arc, time::Duration};

use axum::response::sse::Event;
use futures::{Stream, StreamExt as _};
use kamil_protocol::{
    ErrorCode, Problem,
    reason::{ReasonDelta, ReasonReply},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    admission::Ticket,
    desk::Desk,
    engine::{Piece, Pieces},
};

/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// An answer under way. Dropping it stops the engine and frees the slot.
pub(crate) struct Writing {
    pieces: Pieces,
    desk: Arc<Desk>,
    begun: Instant,
    waited: Duration,
    deadline: Instant,
    text: String,
    ended: bool,
    _ticket: Ticket,
}

/// What a caller gets.
pub(crate) enum Written {
    Delta(String),
    Done(ReasonReply),
}

impl Writing {
    pub(crate) fn new(
        pieces: Pieces,
        desk: Arc<Desk>,
        ticket: Ticket,
        waited: Duration,
        deadline: Instant,
    ) -> Self {
        let begun = Instant::now();
        Self { pieces, desk, begun, waited, deadline, text: String::new(), ended: false, _ticket: ticket }
    }

    /// What comes next; `None` after the end or an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Written, Problem>> {
        if self.ended {
            return None;
        }
        let written = match timeout_at(self.deadline, self.pieces.next()).await {
            Err(_) => Err(late("The answer was not finished")),
            Ok(None) => Err(Problem::new(ErrorCode::Internal, "The engine ended without a word.")),
            Ok(Some(Err(problem))) => Err(problem),
            Ok(Some(Ok(Piece::Text(text)))) if self.text.len() + text.len() > MAX_ANSWER_BYTES => {
                Err(Problem::new(
                    ErrorCode::BadGateway,
                    format!("The engine writes more than {MAX_ANSWER_BYTES} bytes."),
                ))
            }
            Ok(Some(Ok(Piece::Text(text)))) => {
                self.text.push_str(&text);
                return Some(Ok(Written::Delta(text)));
            }
            Ok(Some(Ok(Piece::Done(finish, mut usage)))) => {
                usage.queue_ms += ms(self.waited);
                let text = std::mem::take(&mut self.text);
                Ok(Written::Done(ReasonReply {
                    model: self.desk.model_name().to_owned(),
                    text,
                    finish,
                    usage,
                }))
            }
        };
        self.ended = true;
        let outcome = match &written {
            Ok(Written::Done(reply)) => Ok(&reply.usage),
            Ok(Written::Delta(_)) => return Some(written),
            Err(problem) => Err(problem),
        };
        self.desk.wrote(outcome, ms(self.begun.elapsed()));
        Some(written)
    }

    /// The whole answer.
    ///
    /// # Errors
    /// What ended it early.
    pub(crate) async fn finish(mut self) -> Result<ReasonReply, Problem> {
        loop {
            match self.next().await {
                Some(Ok(Written::Delta(_))) => {}
                Some(Ok(Written::Done(reply))) => return Ok(reply),
                Some(Err(problem)) => return Err(problem),
                None => return Err(Problem::new(ErrorCode::Internal, "The engine ended without a word.")),
            }
        }
    }

    /// As server-sent events: `delta`, then `done` or `error`.
    pub(crate) fn into_events(self) -> impl Stream<Item = Event> + Send + 'static {
        futures::stream::unfold(self, |mut writing| async move {
            let event = match writing.next().await? {
                Ok(Written::Delta(text)) => event("delta", &ReasonDelta { text }),
                Ok(Written::Done(reply)) => event("done", &reply),
                Err(problem) => error_event(&problem),
            };
            Some((event, writing))
        })
    }
}

/// The event with which a stream ends that goes wrong.
pub(crate) fn error_event(problem: &Problem) -> Event {
    event("error", problem)
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // These types have no maps with keys that JSON cannot write.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// The deadline has passed.
pub(crate) fn late(what: &str) -> Problem {
    Problem::new(ErrorCode::DeadlineExceeded, format!("{what} within the time that the request allows."))
        .next("Allow more time, or ask for less.")
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
