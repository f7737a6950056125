//! A scripted stand-in for the orchestrator: it serves the real page and plays what a test tells it, by the wire's rules.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{delete, get, post},
};
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Duration, timeout},
};

type Shared = Arc<Hub>;

/// One thing that a task's stream carries.
#[derive(Clone)]
enum Frame {
    /// An event of the journal.
    Record(Value),
    Delta(usize, String),
    End(String),
}

/// Frames with their place in the task's stream.
type Replay = Vec<(usize, Frame)>;

#[derive(Default)]
struct Script {
    /// Task documents, oldest first.
    tasks: Vec<Value>,
    frames: BTreeMap<String, Vec<Frame>>,
    /// Streams of an earlier generation end.
    generation: u64,
    calls: Vec<Call>,
    nodes: Vec<Value>,
    memories: Vec<Value>,
    refusal: Option<(u16, Value)>,
}

/// A request that changes something, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) last_event_id: Option<String>,
    pub(crate) body: Value,
}

pub(crate) struct Hub {
    script: Mutex<Script>,
    changed: watch::Sender<()>,
}

/// A running stand-in.
pub(crate) struct Stage {
    pub(crate) url: String,
    hub: Shared,
    serving: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::start_with(Router::new()).await
    }

    /// With further routes of the test's own.
    pub(crate) async fn start_with(more: Router) -> Self {
        let hub = Arc::new(Hub { script: Mutex::default(), changed: watch::Sender::new(()) });
        let api = Router::new()
            .route("/v1/tasks", post(create).get(list))
            .route("/v1/tasks/{task}", get(show))
            .route("/v1/tasks/{task}/events", get(events))
            .route("/v1/tasks/{task}/cancel", post(note))
            .route("/v1/tasks/{task}/steps/{step}/approval", post(note))
            .route(
                "/v1/nodes",
                get(async |State(hub): State<Shared>| hub.page(|script| script.nodes.clone())),
            )
            .route(
                "/v1/memories",
                get(async |State(hub): State<Shared>| hub.page(|script| script.memories.clone())),
            )
            .route("/v1/memories/search", post(search))
            .route("/v1/memories/{memory}", delete(forget))
            .with_state(Arc::clone(&hub));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = kamil_web::router().merge(api).merge(more);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, hub, serving }
    }

    /// Nothing answers from now on, and all connections break.
    pub(crate) async fn vanish(&self) {
        self.break_streams();
        self.serving.abort();
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let result = change(&mut self.hub.script.lock().unwrap());
        self.hub.changed.send_replace(());
        result
    }

    /// Waits until the script is as wanted.
    async fn until<T>(&self, what: &str, mut look: impl FnMut(&Script) -> Option<T>) -> T {
        let mut changed = self.hub.changed.subscribe();
        let found = timeout(Duration::from_secs(20), async {
            loop {
                changed.borrow_and_update();
                let found = look(&self.hub.script.lock().unwrap());
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        });
        found.await.unwrap_or_else(|_| panic!("the page did not send {what}"))
    }

    /// The id of the task that the page makes with these words.
    pub(crate) async fn asked(&self, input: &str) -> String {
        self.until(input, |script| {
            let task = script.tasks.iter().rev().find(|task| task["input"] == input)?;
            Some(task["id"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// The `count`-th request whose path ends so.
    pub(crate) async fn called(&self, suffix: &str, count: usize) -> Call {
        self.until(suffix, |script| {
            script.calls.iter().filter(|call| call.path.ends_with(suffix)).nth(count - 1).cloned()
        })
        .await
    }

    pub(crate) fn calls(&self, suffix: &str) -> usize {
        self.hub.script.lock().unwrap().calls.iter().filter(|call| call.path.ends_with(suffix)).count()
    }

    /// A task of earlier.
    pub(crate) fn remember_task(&self, task: Value) {
        self.change(|script| {
            let id = task["id"].as_str().unwrap().to_owned();
            let status = task["status"].as_str().unwrap().to_owned();
            script.frames.insert(id, vec![changed(), Frame::End(status)]);
            script.tasks.push(task);
        });
    }

    /// Adds a step to a task, or changes the one of this id, and records it.
    pub(crate) fn step(&self, task: &str, step: Value) {
        self.edit(task, |doc| {
            let steps = doc["steps"].as_array_mut().unwrap();
            match steps.iter_mut().find(|one| one["id"] == step["id"]) {
                Some(old) => *old = step,
                None => steps.push(step),
            }
            doc["status"] = json!("running");
        });
    }

    /// Adds a step that another one called for.
    pub(crate) fn grow(&self, task: &str, cause: &str, step: &Value) {
        self.change(|script| {
            script.task(task).unwrap()["steps"].as_array_mut().unwrap().push(step.clone());
            let grown = json!({ "type": "steps_added", "cause": cause, "steps": [{ "id": step["id"], "kind": step["kind"] }] });
            script.frames.get_mut(task).unwrap().push(Frame::Record(grown));
        });
    }

    /// Changes a task's document and records it.
    pub(crate) fn edit(&self, task: &str, edit: impl FnOnce(&mut Value)) {
        self.change(|script| {
            edit(script.task(task).unwrap());
            script.frames.get_mut(task).unwrap().push(changed());
        });
    }

    /// Writes a piece of the answer at an offset.
    pub(crate) fn delta(&self, task: &str, offset: usize, text: &str) {
        self.change(|script| {
            script.frames.get_mut(task).unwrap().push(Frame::Delta(offset, text.to_owned()))
        });
    }

    pub(crate) fn finish(&self, task: &str, answer: &str) {
        self.end(task, |doc| {
            doc["status"] = json!("succeeded");
            doc["answer"] = json!(answer);
        });
    }

    /// Ends a task as `edit` leaves it.
    pub(crate) fn end(&self, task: &str, edit: impl FnOnce(&mut Value)) {
        self.edit(task, edit);
        self.change(|script| {
            let status = script.task(task).unwrap()["status"].as_str().unwrap().to_owned();
            script.frames.get_mut(task).unwrap().push(Frame::End(status));
        });
    }

    /// Breaks the connections of all streams.
    pub(crate) fn break_streams(&self) {
        self.change(|script| script.generation += 1);
    }

    pub(crate) fn nodes(&self, nodes: Vec<Value>) {
        self.change(|script| script.nodes = nodes);
    }

    pub(crate) fn memories(&self, memories: Vec<Value>) {
        self.change(|script| script.memories = memories);
    }

    /// Everything that would change something is refused with this problem, until `None`.
    pub(crate) fn refuse(&self, refusal: Option<(u16, Value)>) {
        self.change(|script| script.refusal = refusal);
    }
}

/// A record of no particular change: the page reads the document again.
fn changed() -> Frame {
    Frame::Record(json!({ "type": "degraded", "reason": "" }))
}

impl Script {
    fn task(&mut self, id: &str) -> Option<&mut Value> {
        self.tasks.iter_mut().find(|task| task["id"] == id)
    }
}

impl Hub {
    fn page(&self, items: impl FnOnce(&Script) -> Vec<Value>) -> Json<Value> {
        Json(json!({ "items": items(&self.script.lock().unwrap()) }))
    }

    fn note(&self, path: String, headers: &HeaderMap, body: Value) -> Result<(), Response> {
        let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let mut script = self.script.lock().unwrap();
        script.calls.push(Call {
            path,
            key: header("idempotency-key"),
            last_event_id: header("last-event-id"),
            body,
        });
        let refusal = script.refusal.clone();
        drop(script);
        self.changed.send_replace(());
        refusal.map_or(Ok(()), |(status, problem)| Err(answer(status, problem)))
    }
}

fn answer(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn create(
    State(hub): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, Response> {
    hub.note("/v1/tasks".to_owned(), &headers, body.clone())?;
    let id = uuid::Uuid::now_v7().to_string();
    {
        let mut script = hub.script.lock().unwrap();
        script.tasks.push(json!({
            "id": id, "status": "queued", "input": body["input"], "session": body["session"],
            "created_at": "2026-05-04T10:00:00Z", "degraded": [], "steps": [],
        }));
        script.frames.insert(id.clone(), vec![changed()]);
    }
    hub.changed.send_replace(());
    Ok(answer(202, json!({ "id": id, "status": "queued", "repeated": false })))
}

async fn list(State(hub): State<Shared>) -> Json<Value> {
    hub.page(|script| {
        let summary = |task: &Value| json!({ "id": task["id"], "status": task["status"], "input": task["input"], "created_at": task["created_at"], "steps": {} });
        script.tasks.iter().rev().map(summary).collect()
    })
}

async fn show(State(hub): State<Shared>, Path(id): Path<String>) -> Response {
    match hub.script.lock().unwrap().task(&id) {
        Some(task) => answer(200, task.clone()),
        None => answer(404, json!({ "code": "task_unknown", "detail": format!("There is no task {id}.") })),
    }
}

async fn note(
    State(hub): State<Shared>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Response> {
    hub.note(uri.path().to_owned(), &headers, serde_json::from_slice(&body).unwrap_or_default())?;
    Ok(answer(200, json!({})))
}

async fn search(
    State(hub): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Response> {
    hub.note("/v1/memories/search".to_owned(), &headers, body.clone())?;
    let words = body["query"].as_str().unwrap().to_lowercase();
    let script = hub.script.lock().unwrap();
    let hits: Vec<_> = script.memories.iter().filter(|one| one["text"].as_str().unwrap().to_lowercase().contains(&words)).map(|one| json!({
        "memory": one, "score": 1.25,
        "signals": [{ "signal": "lexical", "raw": 3.2, "contribution": 0.75 }, { "signal": "vector", "raw": 0.8, "contribution": 0.5 }],
    })).collect();
    Ok(Json(
        json!({ "hits": hits, "conversation": [], "took_ms": 1.5, "degraded": ["Searched by words alone."] }),
    ))
}

async fn forget(
    State(hub): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    hub.note(format!("/v1/memories/{id}"), &headers, Value::Null)?;
    hub.script.lock().unwrap().memories.retain(|one| one["id"] != id.as_str());
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn events(State(hub): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if hub.note(format!("/v1/tasks/{id}/events"), &headers, Value::Null).is_err() {
        return answer(503, json!({ "code": "busy", "detail": "Not now." }));
    }
    let resumed = headers.get("last-event-id").map(|value| value.to_str().unwrap().parse::<usize>().unwrap());
    let Some((replay, next, generation)) = catch_up(&hub.script.lock().unwrap(), &id, resumed) else {
        return answer(404, json!({ "code": "task_unknown", "detail": format!("There is no task {id}.") }));
    };
    Sse::new(live(hub, id, replay, next, generation)).into_response()
}

/// Records after the last one that was seen, then one delta with all of the text so far.
fn catch_up(script: &Script, id: &str, resumed: Option<usize>) -> Option<(Replay, usize, u64)> {
    let frames = script.frames.get(id)?;
    let mut text: Vec<char> = Vec::new();
    let mut replay = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        match frame {
            Frame::Delta(offset, piece) => {
                text.truncate(*offset);
                text.extend(piece.chars());
            }
            Frame::Record(_) if resumed.is_some_and(|seen| index <= seen) => {}
            Frame::Record(_) | Frame::End(_) => replay.push((index, frame.clone())),
        }
    }
    if !text.is_empty() {
        let ended = usize::from(matches!(replay.last(), Some((_, Frame::End(_)))));
        replay.insert(replay.len() - ended, (0, Frame::Delta(0, text.into_iter().collect())));
    }
    Some((replay, frames.len(), script.generation))
}

fn live(
    hub: Shared,
    id: String,
    replay: Replay,
    next: usize,
    generation: u64,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let changed = hub.changed.subscribe();
    let state = (hub, id, replay.into_iter(), next, changed);
    stream::unfold(state, move |(hub, id, mut replay, mut next, mut changed)| async move {
        let frame = loop {
            if let Some(frame) = replay.next() {
                break frame;
            }
            {
                let script = hub.script.lock().unwrap();
                if script.generation != generation {
                    return None;
                }
                if let Some(frame) = script.frames[&id].get(next) {
                    next += 1;
                    break (next - 1, frame.clone());
                }
            }
            changed.changed().await.ok()?;
        };
        Some((Ok(event(&id, frame)), (hub, id, replay, next, changed)))
    })
}

fn event(task: &str, (index, frame): (usize, Frame)) -> Event {
    match frame {
        Frame::Record(event) => {
            let record = json!({ "seq": index, "task": task, "at": "2026-05-04T10:00:00Z", "event": event });
            Event::default().event("record").id(index.to_string()).data(record.to_string())
        }
        Frame::Delta(offset, text) => Event::default()
            .event("delta")
            .data(json!({ "step": "answer", "offset": offset, "text": text }).to_string()),
        Frame::End(status) => Event::default().event("end").data(json!({ "status": status }).to_string()),
    }
}
