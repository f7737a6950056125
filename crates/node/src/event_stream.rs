//! Server-sent events (WHATWG HTML, section 9.2), sent and received.

use std::{convert::Infallible, pin::Pin, task::Poll, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream::BoxStream};
use kamil_protocol::{ErrorCode, Problem};

/// A stream that has nothing to say sends a comment this often, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Largest event that is accepted, in bytes.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Answers with a stream of events, kept alive with a comment every 5 s. Dropping of the stream means that the caller has
/// gone.
pub fn event_stream(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = futures::StreamExt::map(events, Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its kind; `message` if none was given.
    pub event: String,
    /// The id that was given with it.
    pub id: Option<String>,
    /// Its content.
    pub data: String,
}

/// Events from another server, in order. After an error nothing more comes.
pub struct SseStream(BoxStream<'static, Result<SseEvent, Problem>>);

impl std::fmt::Debug for SseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SseStream")
    }
}

impl Stream for SseStream {
    type Item = Result<SseEvent, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl SseStream {
    /// Reads events from chunks of bytes. A silence of more than `idle` ends the stream with `node_unreachable`.
    pub(crate) fn new<C>(
        chunks: impl Stream<Item = Result<C, Problem>> + Send + 'static,
        idle: Duration,
        who: String,
    ) -> Self
    where
        C: AsRef<[u8]> + Send + 'static,
    {
        struct State<S> {
            chunks: Pin<Box<S>>,
            decoder: SseDecoder,
            ready: std::vec::IntoIter<SseEvent>,
            ended: bool,
            who: String,
        }
        let ready = Vec::new().into_iter();
        let state =
            State { chunks: Box::pin(chunks), decoder: SseDecoder::default(), ready, ended: false, who };
        let events = futures::stream::unfold(state, move |mut state| async move {
            loop {
                if let Some(event) = state.ready.next() {
                    return Some((Ok(event), state));
                }
                if state.ended {
                    return None;
                }
                let problem =
                    match tokio::time::timeout(idle, futures::StreamExt::next(&mut state.chunks)).await {
                        Ok(None) => return None,
                        Ok(Some(Ok(chunk))) => match state.decoder.push(chunk.as_ref()) {
                            Ok(events) => {
                                state.ready = events.into_iter();
                                continue;
                            }
                            Err(reason) => {
                                Problem::new(ErrorCode::BadGateway, format!("{} sent {reason}.", state.who))
                            }
                        },
                        Ok(Some(Err(problem))) => problem,
                        Err(_) => {
                            let detail = format!("{} has sent nothing for {} s.", state.who, idle.as_secs());
                            Problem::new(ErrorCode::NodeUnreachable, detail)
                        }
                    };
                state.ended = true;
                return Some((Err(problem), state));
            }
        });
        Self(Box::pin(events))
    }
}

/// Turns bytes into events, wherever they are cut. Comments and `retry` are left out.
#[derive(Debug, Default)]
pub struct SseDecoder {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: SseEvent,
    has_data: bool,
}

impl SseDecoder {
    /// The events that these bytes complete.
    ///
    /// # Errors
    /// If an event is larger than 4 MiB or is not UTF-8; the text completes "… sent".
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, &'static str> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, after) = rest.split_at(end);
            let second_of_crlf = self.after_cr && end == 0 && after.first() == Some(&b'\n');
            self.after_cr = after.first() == Some(&b'\r');
            rest = after.get(1..).unwrap_or_default();
            if second_of_crlf {
                continue;
            }
            self.grow(line)?;
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, &mut events)?;
        }
        if !rest.is_empty() {
            self.after_cr = false;
            self.grow(rest)?;
        }
        Ok(events)
    }

    fn grow(&mut self, part: &[u8]) -> Result<(), &'static str> {
        if self.line.len() + self.event.data.len() + part.len() > MAX_EVENT_BYTES {
            return Err("an event of more than 4 MiB");
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "an event that is not UTF-8")?;
        let line = if self.begun { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                if event.event.is_empty() {
                    "message".clone_into(&mut event.event);
                }
                events.push(event);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.event),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, id: Option<&str>, data: &str) -> SseEvent {
        SseEvent { event: event.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text = "\u{feff}: hello\nevent: delta\ndata: {\"a\":\ndata:  1}\nid: 7\n\n\rdata:ü\r\n\r\nevent: none\n\ndata\n\nretry: 5\ndata: x: y\r\rdata: lost";
        let expected = [
            event("delta", Some("7"), "{\"a\":\n 1}"),
            event("message", None, "ü"),
            event("message", None, ""),
            event("message", None, "x: y"),
        ];
        assert_eq!(SseDecoder::default().push(text.as_bytes()).unwrap(), expected);
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut decoder = SseDecoder::default();
                let mut events = Vec::new();
                for part in
                    [&text.as_bytes()[..first], &text.as_bytes()[first..second], &text.as_bytes()[second..]]
                {
                    events.extend(decoder.push(part).unwrap());
                }
                assert_eq!(events, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = SseDecoder::default();
        let chunk = vec![b'a'; 1024 * 1024];
        let refused = (0..6).find_map(|_| decoder.push(&chunk).err());
        assert_eq!(refused, Some("an event of more than 4 MiB"));
        let mut decoder = SseDecoder::default();
        let line = [b"data: ", chunk.as_slice(), b"\n"].concat();
        assert!((0..6).any(|_| decoder.push(&line).is_err()), "many lines of one event are bounded as well");
        assert!(SseDecoder::default().push(b"data: \xff\n\n").is_err());
    }
}
