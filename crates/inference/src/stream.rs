//! The output of one generation, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use crate::error::InferenceError;
use crate::request::{Event, Usage};

/// Events of one generation. Ends after [`Event::Done`] or an error. Dropping it cancels the generation.
#[derive(Debug)]
pub struct GenerateStream {
    events: mpsc::Receiver<Result<Event, InferenceError>>,
    ended: bool,
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The whole text.
    pub text: String,
    /// What it took.
    pub usage: Usage,
}

impl GenerateStream {
    pub(crate) fn new(events: mpsc::Receiver<Result<Event, InferenceError>>) -> Self {
        Self { events, ended: false }
    }

    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<Event, InferenceError>> {
        let event = self.events.recv().await;
        self.seen(event)
    }

    /// As [`Self::next`], for threads without a runtime.
    pub fn blocking_next(&mut self) -> Option<Result<Event, InferenceError>> {
        let event = self.events.blocking_recv();
        self.seen(event)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended the generation early.
    pub async fn collect(mut self) -> Result<Generation, InferenceError> {
        let mut text = String::new();
        while let Some(event) = self.next().await {
            match event? {
                Event::Delta(piece) => text.push_str(&piece),
                Event::Done(usage) => return Ok(Generation { text, usage }),
            }
        }
        Err(InferenceError::Stopped)
    }

    /// As [`Self::collect`], for threads without a runtime.
    ///
    /// # Errors
    /// What ended the generation early.
    pub fn blocking_collect(mut self) -> Result<Generation, InferenceError> {
        let mut text = String::new();
        while let Some(event) = self.blocking_next() {
            match event? {
                Event::Delta(piece) => text.push_str(&piece),
                Event::Done(usage) => return Ok(Generation { text, usage }),
            }
        }
        Err(InferenceError::Stopped)
    }

    /// An engine that died sends neither end nor error; its readers must not take that for an end.
    fn seen(
        &mut self,
        event: Option<Result<Event, InferenceError>>,
    ) -> Option<Result<Event, InferenceError>> {
        if self.ended {
            return None;
        }
        let event = event.unwrap_or(Err(InferenceError::Stopped));
        self.ended = !matches!(event, Ok(Event::Delta(_)));
        Some(event)
    }
}

impl Stream for GenerateStream {
    type Item = Result<Event, InferenceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context).map(|event| self.seen(event))
    }
}
