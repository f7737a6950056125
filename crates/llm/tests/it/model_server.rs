//! An OpenAI-compatible server as someone else might run it, that answers as a test tells it to.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

/// How the server answers every chat completion.
#[derive(Clone)]
pub(crate) enum Script {
    /// These bytes as a stream of events; then the stream ends as HTTP wants it.
    Events(String),
    /// These bytes; then the connection breaks.
    Break(String),
    /// These bytes; then silence.
    Hang(String),
    /// Not even headers.
    Silence,
    /// A status, more headers and a body.
    Refuse(StatusCode, &'static str, &'static str, String),
}

#[derive(Clone)]
struct Server {
    script: Arc<Mutex<Script>>,
    seen: mpsc::UnboundedSender<Seen>,
}

/// What the server has seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A chat completion: its key and body.
    Asked(Option<String>, Value),
    /// The caller has gone before the end.
    Gone,
}

pub(crate) struct ModelServer {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
}

/// Tells when it is dropped: the server's side of a connection that has gone.
struct Watch(mpsc::UnboundedSender<Seen>);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Gone);
    }
}

impl ModelServer {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with_more(script, Router::new()).await
    }

    pub(crate) async fn with_more(script: Script, more: Router) -> Self {
        let script = Arc::new(Mutex::new(script));
        let (seen_tx, seen) = mpsc::unbounded_channel();
        let server = Server { script: Arc::clone(&script), seen: seen_tx };
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(async || Json(json!({ "object": "list", "data": [{ "id": "first", "object": "model" }, { "id": "second" }] }))))
            .with_state(server)
            .merge(more);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { url, script, seen }
    }

    pub(crate) fn now(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// The next chat completion that comes in.
    pub(crate) async fn asked(&mut self) -> (Option<String>, Value) {
        loop {
            if let Seen::Asked(key, body) = self.next().await {
                return (key, body);
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Seen {
        tokio::time::timeout(crate::world::DEADLINE, self.seen.recv())
            .await
            .expect("the server sees something")
            .unwrap()
    }
}

async fn complete(State(server): State<Server>, request: Request) -> Response {
    let key = request.headers().get(header::AUTHORIZATION).map(|key| key.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(request.into_body(), 1 << 22).await.unwrap();
    server.seen.send(Seen::Asked(key, serde_json::from_slice(&body).unwrap())).unwrap();
    let script = server.script.lock().unwrap().clone();
    let watch = Watch(server.seen.clone());
    let events = |body: Body| ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    let first = |text: String| stream::iter([Ok::<_, std::io::Error>(text)]);
    match script {
        Script::Events(text) => {
            std::mem::forget(watch);
            events(Body::from(text))
        }
        Script::Break(text) => {
            std::mem::forget(watch);
            // What was sent before is flushed when the body has nothing to give for once.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken"))
            });
            events(Body::from_stream(first(text).chain(broken)))
        }
        Script::Hang(text) => {
            let forever = stream::once(async move {
                std::future::pending::<()>().await;
                drop(watch);
                Ok(String::new())
            });
            events(Body::from_stream(first(text).chain(forever)))
        }
        Script::Silence => {
            std::future::pending::<()>().await;
            drop(watch);
            unreachable!()
        }
        Script::Refuse(status, name, value, text) => {
            std::mem::forget(watch);
            (status, [(name, value)], text).into_response()
        }
    }
}

/// A chunk with this text.
pub(crate) fn delta(text: &str) -> String {
    let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {chunk}\n\n")
}

/// The chunks at the end of an answer.
pub(crate) fn end(reason: &str, tokens_in: u32, tokens_out: u32) -> String {
    let finish = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] });
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out } });
    format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

/// A whole answer in these pieces.
pub(crate) fn answer(pieces: &[&str]) -> Script {
    let mut text: String = pieces.iter().map(|piece| delta(piece)).collect();
    text += &end("stop", 10, 20);
    Script::Events(text)
}
