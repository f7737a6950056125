//! An OpenAI-compatible server whose replies a test writes: for what a real model would not do on demand.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt as _, future, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What the model is asked.
#[derive(Clone, Debug)]
pub(crate) struct Prompt(Vec<(String, String)>);

impl Prompt {
    fn read(body: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        Self(messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect())
    }

    /// Whether a plan is wanted.
    pub(crate) fn is_plan(&self) -> bool {
        self.0.iter().any(|(role, text)| role == "system" && text.starts_with("You plan"))
    }

    /// The last turn of the person.
    pub(crate) fn question(&self) -> &str {
        self.0.iter().rev().find(|(role, _)| role == "user").map_or("", |(_, text)| text)
    }

    /// The beginning of an answer that is to go on.
    pub(crate) fn begun(&self) -> Option<&str> {
        self.0.last().filter(|(role, _)| role == "assistant").map(|(_, text)| text.as_str())
    }

    /// Everything.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(role, text)| format!("{role}: {text}\n")).collect()
    }
}

type Script = Arc<dyn Fn(&Prompt) -> String + Send + Sync>;

#[derive(Clone)]
struct Shared {
    script: Script,
    asked: Arc<Mutex<Vec<Prompt>>>,
    /// Answers (not plans) wait while this is false.
    may_answer: watch::Receiver<bool>,
    /// After how many words the next answer stops.
    stops_after: Arc<Mutex<Option<usize>>>,
    /// Answers that have stopped break off once this is true.
    breaks_off: watch::Receiver<bool>,
}

/// The server; it ends with the test.
pub(crate) struct ScriptedLlm {
    url: String,
    asked: Arc<Mutex<Vec<Prompt>>>,
    may_answer: watch::Sender<bool>,
    stops_after: Arc<Mutex<Option<usize>>>,
    breaks_off: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl ScriptedLlm {
    /// Replies with what the script makes of the prompt.
    pub(crate) fn start(script: impl Fn(&Prompt) -> String + Send + Sync + 'static) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (may_answer, waits) = watch::channel(true);
        let (breaks_off, breaks) = watch::channel(false);
        let stops_after = Arc::new(Mutex::new(None));
        let shared = Shared {
            script: Arc::new(script),
            asked: Arc::clone(&asked),
            may_answer: waits,
            stops_after: Arc::clone(&stops_after),
            breaks_off: breaks,
        };
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(complete))
            .with_state(shared);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, asked, may_answer, stops_after, breaks_off, _runtime: runtime }
    }

    /// What goes behind `--engine-url`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Prompt> {
        self.asked.lock().unwrap().clone()
    }

    /// Answers wait from now on.
    pub(crate) fn hold_answers(&self) {
        self.may_answer.send_replace(false);
    }

    /// They wait no longer.
    pub(crate) fn release_answers(&self) {
        self.may_answer.send_replace(true);
    }

    /// The next answer that is streamed stops after so many words, and says no more.
    pub(crate) fn stop_once_after(&self, words: usize) {
        *self.stops_after.lock().unwrap() = Some(words);
    }

    /// The connection of the answer that has stopped is broken.
    pub(crate) fn break_off(&self) {
        self.breaks_off.send_replace(true);
    }
}

async fn models() -> Json<Value> {
    Json(
        json!({"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "test"}]}),
    )
}

async fn complete(State(mut shared): State<Shared>, Json(body): Json<Value>) -> Response {
    let prompt = Prompt::read(&body);
    let reply = (shared.script)(&prompt);
    let waits = !prompt.is_plan();
    let tokens_in = u32::try_from(prompt.text().len() / 4).unwrap();
    shared.asked.lock().unwrap().push(prompt);
    if waits && shared.may_answer.wait_for(|may| *may).await.is_err() {
        return axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let words: Vec<&str> = reply.split_inclusive(' ').collect();
    let usage = json!({"prompt_tokens": tokens_in, "completion_tokens": words.len(), "total_tokens": 0});
    if body["stream"] != json!(true) {
        let choice =
            json!({"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"});
        let whole = json!({"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice], "usage": usage});
        return Json(whole).into_response();
    }
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = json!({"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": choices});
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let mut chunks: Vec<String> = words
        .iter()
        .map(|word| chunk(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]), None))
        .collect();
    let stops_after = shared.stops_after.lock().unwrap().take_if(|_| waits);
    chunks.truncate(stops_after.unwrap_or(usize::MAX));
    if stops_after.is_none() {
        chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), None));
        chunks.push(chunk(json!([]), Some(&usage)));
        chunks.push("data: [DONE]\n\n".to_owned());
    }
    let breaks = async move {
        if stops_after.is_some() {
            // The test has ended if nobody can say so any more.
            let _ = shared.breaks_off.wait_for(|breaks| *breaks).await;
        }
        stops_after.map(|_| Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
    };
    let stream = stream::iter(chunks).map(Ok).chain(stream::once(breaks).filter_map(future::ready));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}
