//! An LLM node and the orchestrator that it registers with, as far as a test needs one.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    routing::{post, put},
};
use futures::StreamExt as _;
use kamil_llm::{LlmOptions, StartError};
use kamil_node::{Client, Home, Method, NodeOptions, RunningNode};
use kamil_protocol::{
    Page, Problem,
    node::{Capabilities, Heartbeat, ModelOffer, RegisterNode, Registered},
    reason::{ChatMessage, ReasonDelta, ReasonReply, ReasonRequest, Sampling, Speaker},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Longer than anything here may take, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Default)]
struct Known {
    token: String,
    capabilities: Capabilities,
}

pub(crate) struct World {
    pub(crate) node: RunningNode,
    /// Calls the node as its orchestrator.
    pub(crate) client: Client,
    pub(crate) shutdown: CancellationToken,
    known: watch::Receiver<Option<Known>>,
    _folder: TempDir,
}

/// Starts a node with these options. Nobody answers at its Ollama's address unless the options say otherwise.
pub(crate) async fn start(options: LlmOptions) -> Result<World, StartError> {
    start_in(tempfile::tempdir().unwrap(), options).await
}

pub(crate) async fn start_in(folder: TempDir, options: LlmOptions) -> Result<World, StartError> {
    let (orchestrator, mut known) = orchestrator().await;
    let home = Home::resolve(Some(folder.path().to_owned())).unwrap();
    let node = NodeOptions { orchestrator: Some(orchestrator), ..NodeOptions::local(home) };
    let shutdown = CancellationToken::new();
    let node = kamil_llm::start(node, options, shutdown.clone()).await?;
    let token = async { known.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().token.clone() };
    let token = tokio::time::timeout(DEADLINE, token).await.unwrap();
    let client =
        Client::new(&node.url, None).unwrap().with_timeout(DEADLINE).with_node_token(&token).unwrap();
    Ok(World { node, client, shutdown, known, _folder: folder })
}

/// No Ollama runs at the discard port.
pub(crate) fn options() -> LlmOptions {
    LlmOptions { ollama_url: "http://127.0.0.1:9".to_owned(), ..LlmOptions::default() }
}

async fn orchestrator() -> (String, watch::Receiver<Option<Known>>) {
    let (known, seen) = watch::channel(None);
    let known = Arc::new(known);
    let register = async |State(known): State<Arc<watch::Sender<Option<Known>>>>,
                          Json(node): Json<RegisterNode>| {
        known.send_replace(Some(Known { token: node.token, capabilities: node.capabilities }));
        Json(Registered { heartbeat_interval_ms: 100, heartbeat_timeout_ms: 1_000 })
    };
    let beat = async |State(known): State<Arc<watch::Sender<Option<Known>>>>, Json(beat): Json<Heartbeat>| {
        if let Some(capabilities) = beat.capabilities {
            known.send_modify(|known| known.as_mut().unwrap().capabilities = capabilities);
        }
    };
    let router = Router::new()
        .route("/v1/nodes", post(register))
        .route("/v1/nodes/{id}/heartbeat", put(beat))
        .with_state(known);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
    (url, seen)
}

/// A request with one turn.
pub(crate) fn ask(text: &str) -> ReasonRequest {
    ReasonRequest {
        model: None,
        messages: vec![ChatMessage::new(Speaker::User, text)],
        tools: Vec::new(),
        constraint: None,
        sampling: Sampling::default(),
        continue_from: None,
        stream: false,
        deadline_ms: None,
    }
}

/// How a stream went: what it wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) text: String,
    pub(crate) deltas: usize,
    pub(crate) end: Result<ReasonReply, Problem>,
}

impl World {
    pub(crate) async fn reason(&self, request: &ReasonRequest) -> Result<ReasonReply, Problem> {
        self.client.post("/v1/reason", request).await
    }

    /// The answer as a stream; an error is a refusal with a status.
    pub(crate) async fn stream(&self, request: &ReasonRequest) -> Result<Streamed, Problem> {
        let request = ReasonRequest { stream: true, ..request.clone() };
        let mut events = self.client.stream(Method::POST, "/v1/reason", Some(&request), &[]).await?;
        let (mut text, mut deltas) = (String::new(), 0);
        while let Some(event) = tokio::time::timeout(DEADLINE, events.next()).await.unwrap() {
            let event = event.unwrap();
            let end = match event.event.as_str() {
                "delta" => {
                    text += &serde_json::from_str::<ReasonDelta>(&event.data).unwrap().text;
                    deltas += 1;
                    continue;
                }
                "done" => Ok(serde_json::from_str(&event.data).unwrap()),
                "error" => Err(serde_json::from_str(&event.data).unwrap()),
                other => panic!("event {other}"),
            };
            assert!(events.next().await.is_none(), "nothing follows the end");
            return Ok(Streamed { text, deltas, end });
        }
        panic!("the stream ended without an end");
    }

    pub(crate) async fn models(&self) -> Vec<ModelOffer> {
        self.client.get::<Page<ModelOffer>>("/v1/models").await.unwrap().items
    }

    /// Waits until the orchestrator has been told that the node offers such a thing.
    pub(crate) async fn told(&self, mut is_it: impl FnMut(&Capabilities) -> bool) -> Capabilities {
        let mut known = self.known.clone();
        let told = known.wait_for(|known| known.as_ref().is_some_and(|known| is_it(&known.capabilities)));
        let told = tokio::time::timeout(DEADLINE, told).await.expect("the orchestrator is told");
        told.unwrap().as_ref().unwrap().capabilities.clone()
    }
}
