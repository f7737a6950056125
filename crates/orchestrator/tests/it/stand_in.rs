//! Nodes whose answers a test decides. They register, send heartbeats and check the orchestrator's token as any node does.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response, sse::Event},
    routing::post,
};
use futures::{StreamExt as _, stream};
use kamil_node::{
    ApiError, Home, Json, Listener, Metrics, NodeOptions, RunningNode, Service, event_stream,
    orchestrator_only,
};
use kamil_protocol::{
    NodeId, Problem,
    memory::{RecallReply, RecallRequest, RememberReply, RememberRequest},
    node::{Capabilities, MemoryOffer, ModelOffer, Role},
    reason::{Finish, ReasonDelta, ReasonReply, ReasonRequest, Usage},
    task::{Labels, Source, Trust},
    tool::{ExecuteReply, ExecuteRequest, SideEffect, ToolDescriptor},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Reasoner = Arc<dyn Fn(ReasonRequest) -> Boxed<Result<Script, Problem>> + Send + Sync>;
type Executor = Arc<dyn Fn(ExecuteRequest) -> Boxed<Result<Value, Problem>> + Send + Sync>;

/// How a model's answer goes.
pub(crate) enum Script {
    /// It writes these pieces and is done.
    Pieces(Vec<String>),
    /// It writes these pieces, then its connection breaks.
    Breaks(Vec<String>),
    /// It writes these pieces, and then nothing more.
    Hangs(Vec<String>),
}

pub(crate) fn says(text: &str) -> Script {
    Script::Pieces(text.split_inclusive(' ').map(str::to_owned).collect())
}

/// A stand-in node.
pub(crate) struct StandIn {
    pub(crate) id: NodeId,
    home: Arc<TempDir>,
    orchestrator: String,
    kind: Kind,
    running: Option<RunningNode>,
    stop: CancellationToken,
}

#[derive(Clone)]
enum Kind {
    Llm { model: String, slots: u32, reason: Reasoner },
    Tool { tools: Vec<ToolDescriptor>, execute: Executor },
    Memory { recall: RecallReply, kept: Arc<Mutex<Vec<RememberRequest>>> },
}

impl StandIn {
    async fn start(orchestrator: &str, kind: Kind) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        Self::start_at(orchestrator, kind, home).await
    }

    async fn start_at(orchestrator: &str, kind: Kind, home: Arc<TempDir>) -> Self {
        let mut options = NodeOptions::local(Home::resolve(Some(home.path().to_owned())).unwrap());
        options.orchestrator = Some(orchestrator.to_owned());
        let role = match kind {
            Kind::Llm { .. } => Role::Llm,
            Kind::Tool { .. } => Role::Tool,
            Kind::Memory { .. } => Role::Memory,
        };
        let listener = Listener::bind(&options, role).await.unwrap();
        let (router, capabilities) = match kind.clone() {
            Kind::Llm { model, slots, reason } => (llm_router(reason), offers_model(&model, slots)),
            Kind::Tool { tools, execute } => {
                (tool_router(execute), Capabilities { tools, slots: 8, ..Capabilities::default() })
            }
            Kind::Memory { recall, kept } => (memory_router(recall, kept), offers_memory()),
        };
        let router = orchestrator_only(router, listener.token());
        let (_offers, capabilities) = watch::channel(capabilities);
        let service = Service {
            role,
            router,
            openapi: utoipa::openapi::OpenApi::default(),
            capabilities,
            load: Arc::new(|| (0, 0)),
            metrics: Metrics::new(),
        };
        let stop = CancellationToken::new();
        let id = listener.identity().id;
        let running = listener.start(service, stop.clone());
        tokio::time::timeout(Duration::from_secs(10), running.registered()).await.unwrap();
        Self { id, home, orchestrator: orchestrator.to_owned(), kind, running: Some(running), stop }
    }

    pub(crate) async fn llm<F>(orchestrator: &str, model: &str, reason: F) -> Self
    where
        F: Fn(ReasonRequest) -> Boxed<Result<Script, Problem>> + Send + Sync + 'static,
    {
        Self::llm_with_slots(orchestrator, model, 64, reason).await
    }

    /// A node that takes so many requests at once.
    pub(crate) async fn llm_with_slots<F>(orchestrator: &str, model: &str, slots: u32, reason: F) -> Self
    where
        F: Fn(ReasonRequest) -> Boxed<Result<Script, Problem>> + Send + Sync + 'static,
    {
        let (model, reason): (_, Reasoner) = (model.to_owned(), Arc::new(reason));
        Self::start(orchestrator, Kind::Llm { model, slots, reason }).await
    }

    /// A model that always says the same.
    pub(crate) async fn saying(orchestrator: &str, text: &'static str) -> Self {
        Self::llm(orchestrator, "echo", move |_| Box::pin(async move { Ok(says(text)) })).await
    }

    pub(crate) async fn tools<F>(orchestrator: &str, tools: Vec<ToolDescriptor>, execute: F) -> Self
    where
        F: Fn(ExecuteRequest) -> Boxed<Result<Value, Problem>> + Send + Sync + 'static,
    {
        Self::start(orchestrator, Kind::Tool { tools, execute: Arc::new(execute) }).await
    }

    pub(crate) async fn memory(orchestrator: &str) -> (Self, Arc<Mutex<Vec<RememberRequest>>>) {
        let kept = Arc::new(Mutex::default());
        let recall =
            RecallReply { hits: Vec::new(), conversation: Vec::new(), took_ms: 1.0, degraded: Vec::new() };
        let node = Self::start(orchestrator, Kind::Memory { recall, kept: Arc::clone(&kept) }).await;
        (node, kept)
    }

    /// Stops it, with a goodbye.
    pub(crate) async fn leave(mut self) -> Gone {
        self.stop.cancel();
        self.running.take().unwrap().stopped().await.unwrap();
        Gone {
            home: Arc::clone(&self.home),
            orchestrator: self.orchestrator.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A node that has left and can come back as the same node.
pub(crate) struct Gone {
    home: Arc<TempDir>,
    orchestrator: String,
    kind: Kind,
}

impl Gone {
    pub(crate) async fn come_back(self) -> StandIn {
        StandIn::start_at(&self.orchestrator, self.kind, self.home).await
    }
}

fn offers_model(name: &str, slots: u32) -> Capabilities {
    let offer = ModelOffer {
        name: name.to_owned(),
        engine: "openai".to_owned(),
        resident: true,
        bytes: 0,
        context_tokens: 32_768,
        specializations: vec!["general".to_owned()],
        prefill_tokens_per_s: None,
        decode_tokens_per_s: None,
        generates: true,
    };
    Capabilities { models: vec![offer], slots, ..Capabilities::default() }
}

fn offers_memory() -> Capabilities {
    let offer = MemoryOffer { store: "sqlite".to_owned(), embedder: None, memories: 0 };
    Capabilities { memory: Some(offer), slots: 8, ..Capabilities::default() }
}

fn llm_router(reason: Reasoner) -> Router {
    Router::new().route("/v1/reason", post(answer)).with_state(reason)
}

async fn answer(State(reason): State<Reasoner>, Json(request): Json<ReasonRequest>) -> Response {
    let streamed = request.stream;
    let most = request.sampling.max_tokens.map_or(usize::MAX, |most| most as usize);
    let model = request.model.clone().unwrap_or_default();
    let script = match reason(request).await {
        Ok(script) => script,
        Err(problem) => return ApiError(problem).into_response(),
    };
    let (pieces, after) = match script {
        Script::Pieces(pieces) => (pieces, None),
        Script::Breaks(pieces) => (pieces, Some(true)),
        Script::Hangs(pieces) => (pieces, Some(false)),
    };
    let cut = pieces.len() > most;
    let pieces: Vec<String> = pieces.into_iter().take(most).collect();
    let reply = ReasonReply {
        model,
        text: pieces.concat(),
        finish: if cut { Finish::Length } else { Finish::Stop },
        usage: Usage { tokens_in: 12, tokens_out: pieces.len() as u32, ..Usage::default() },
    };
    if !streamed {
        return match after {
            Some(false) => std::future::pending().await,
            Some(true) => axum::http::StatusCode::BAD_GATEWAY.into_response(),
            None => Json(reply).into_response(),
        };
    }
    let deltas = pieces.into_iter().map(|text| {
        Event::default().event("delta").data(serde_json::to_string(&ReasonDelta { text }).unwrap())
    });
    let deltas = stream::iter(deltas.collect::<Vec<_>>());
    match after {
        None => {
            let done = Event::default().event("done").data(serde_json::to_string(&reply).unwrap());
            event_stream(deltas.chain(stream::iter([done])))
        }
        Some(true) => event_stream(deltas),
        Some(false) => event_stream(deltas.chain(stream::pending())),
    }
}

fn tool_router(execute: Executor) -> Router {
    Router::new().route("/v1/execute", post(run)).with_state(execute)
}

async fn run(State(execute): State<Executor>, Json(request): Json<ExecuteRequest>) -> Response {
    match execute(request).await {
        Ok(output) => Json(ExecuteReply {
            output,
            labels: Labels { sources: vec![Source::Tool], trust: Trust::Trusted },
            enforced: vec!["namespaces".to_owned()],
            policy: "pure is allowed".to_owned(),
            duration_ms: 1,
            repeated: false,
        })
        .into_response(),
        Err(problem) => ApiError(problem).into_response(),
    }
}

fn memory_router(recall: RecallReply, kept: Arc<Mutex<Vec<RememberRequest>>>) -> Router {
    Router::new()
        .route("/v1/recall", post(move |Json(_): Json<RecallRequest>| async move { Json(recall) }))
        .route(
            "/v1/remember",
            post(move |Json(request): Json<RememberRequest>| async move {
                let stored = request.memories.iter().map(|memory| memory.id).collect();
                kept.lock().unwrap().push(request);
                Json(RememberReply { stored, known: Vec::new() })
            }),
        )
}

/// A tool with this name and side effect; it takes any object.
pub(crate) fn tool(name: &str, side_effect: SideEffect, idempotent: bool) -> ToolDescriptor {
    ToolDescriptor {
        name: name.to_owned(),
        description: "For tests.".to_owned(),
        arguments: json!({"type": "object"}),
        result: json!({}),
        side_effect,
        idempotent,
        timeout_ms: 20_000,
        examples: Vec::new(),
    }
}
