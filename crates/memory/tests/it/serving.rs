//! The node over HTTP, without a model.

use kamil_memory::{MemoryOptions, StartError, serve, start};
use kamil_node::{Client, Home, Listener, NodeOptions, RunningNode};
use kamil_protocol::{
    ErrorCode, MemoryId, Page, Problem,
    memory::{
        AddMemory, EditMemory, Memory, MemoryKind, MemoryStats, Origin, RecallReply, RememberReply,
        RememberRequest,
    },
    node::Role,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::world::{asking, fact, passage, turn};

pub(crate) struct Served {
    pub(crate) home: TempDir,
    pub(crate) client: Client,
    pub(crate) stranger: Client,
    pub(crate) node: RunningNode,
    pub(crate) shutdown: CancellationToken,
}

impl Served {
    pub(crate) async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn at(home: TempDir) -> Self {
        let node_home = Home::resolve(Some(home.path().to_owned())).unwrap();
        let options = NodeOptions::local(node_home.clone());
        let listener = Listener::bind(&options, Role::Memory).await.unwrap();
        let stranger = Client::new(listener.url(), None).unwrap();
        let client = stranger.with_node_token(listener.token().expose()).unwrap();
        let shutdown = CancellationToken::new();
        let node = serve(listener, &node_home, MemoryOptions::default(), shutdown.clone()).await.unwrap();
        Self { home, client, stranger, node, shutdown }
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.node.stopped().await.unwrap();
        self.home
    }

    async fn remember(
        &self,
        memories: Vec<kamil_protocol::memory::NewMemory>,
    ) -> Result<RememberReply, Problem> {
        self.client.post("/v1/remember", &RememberRequest { memories }).await
    }
}

#[tokio::test]
async fn only_the_orchestrator_gets_in() {
    let served = Served::new().await;
    let paths = ["/v1/memories", "/v1/memories/stats", "/v1/memories/00000000-0000-7000-8000-000000000000"];
    for path in paths {
        let refused = served.stranger.get::<serde_json::Value>(path).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::OrchestratorOnly, "{path}");
    }
    for path in ["/v1/recall", "/v1/remember", "/v1/memories"] {
        let refused = served.stranger.post::<_, serde_json::Value>(path, &json!({})).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::OrchestratorOnly, "{path}");
    }
    let refused = served.stranger.delete::<()>(paths[2]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OrchestratorOnly);
    let refused = served.stranger.patch::<_, ()>(paths[2], &json!({"text": "x"})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OrchestratorOnly);
    served.stop().await;
}

#[tokio::test]
async fn remember_recall_correct_forget() {
    let served = Served::new().await;
    let kept = passage("The spare key is under the blue pot");
    let reply = served.remember(vec![kept.clone()]).await.unwrap();
    assert_eq!(reply.stored, [kept.id]);
    assert_eq!(served.remember(vec![kept.clone()]).await.unwrap().known, [kept.id]);

    let found: RecallReply =
        served.client.post("/v1/recall", &asking("Where is the spare key?")).await.unwrap();
    assert_eq!(found.hits[0].memory.text, kept.text);
    assert_eq!(found.degraded.len(), 1, "no model is installed in this home");
    assert!(found.degraded[0].contains("all-minilm:l6-v2"), "{:?}", found.degraded);
    assert!(found.took_ms > 0.0);

    let path = format!("/v1/memories/{}", kept.id);
    let edit = EditMemory { text: "The spare key is with Ivana".to_owned() };
    let edited: Memory = served.client.patch(&path, &edit).await.unwrap();
    assert_eq!(edited.text, edit.text);
    assert_eq!(served.client.get::<Memory>(&path).await.unwrap(), edited);
    served.client.delete::<()>(&path).await.unwrap();
    let gone = served.client.get::<Memory>(&path).await.unwrap_err();
    assert_eq!((gone.code, gone.status), (ErrorCode::MemoryUnknown, 404));
    let stats: MemoryStats = served.client.get("/v1/memories/stats").await.unwrap();
    assert_eq!((stats.total, stats.embedder), (0, None));
    served.stop().await;
}

#[tokio::test]
async fn a_person_adds_memories_and_facts() {
    let served = Served::new().await;
    let add = |text: &str| AddMemory { text: text.to_owned(), kind: None, fact: None, occurred_at: None };
    let added: Memory = served.client.post("/v1/memories", &add("I like rivers")).await.unwrap();
    assert_eq!((added.kind, added.source.origin), (MemoryKind::Semantic, Origin::Person));
    let known = fact("I", "like", "rivers", "2026-11-01T00:00:00Z").fact;
    let with_fact = AddMemory { fact: known, ..add("I like rivers") };
    let added: Memory = served.client.post("/v1/memories", &with_fact).await.unwrap();
    assert_eq!(added.kind, MemoryKind::Structured);
    let page: Page<Memory> = served.client.get("/v1/memories?kind=structured&limit=1").await.unwrap();
    assert_eq!((page.items[0].id, page.next_cursor), (added.id, None));
    let page: Page<Memory> = served.client.get("/v1/memories?limit=1").await.unwrap();
    let next = format!("/v1/memories?limit=1&cursor={}", page.next_cursor.unwrap());
    let page: Page<Memory> = served.client.get(&next).await.unwrap();
    assert_eq!((page.items[0].kind, page.next_cursor), (MemoryKind::Semantic, None));
    served.stop().await;
}

#[tokio::test]
async fn bad_input_is_a_problem_with_its_code() {
    let served = Served::new().await;
    let good = serde_json::to_value(passage("fine")).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut memory = serde_json::to_value(passage("bad")).unwrap();
        memory[key] = value;
        json!({"memories": [good, memory]})
    };
    let fact = json!({"subject": "a", "predicate": "b", "object": "c"});
    for (body, code) in [
        (json!({"memories": []}), ErrorCode::ValidationFailed),
        (with("text", json!("")), ErrorCode::ValidationFailed),
        (with("text", json!("x".repeat(16_385))), ErrorCode::ValidationFailed),
        (with("kind", json!("structured")), ErrorCode::ValidationFailed),
        (with("fact", fact), ErrorCode::ValidationFailed),
        (with("kind", json!("working")), ErrorCode::ValidationFailed),
        (with("kind", json!("gossip")), ErrorCode::MalformedBody),
        (with("colour", json!("red")), ErrorCode::UnknownField),
        (with("id", json!("17")), ErrorCode::MalformedBody),
    ] {
        let refused = served.client.post::<_, RememberReply>("/v1/remember", &body).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
    }
    let stats: MemoryStats = served.client.get("/v1/memories/stats").await.unwrap();
    assert_eq!(stats.total, 0, "all or nothing");

    for body in
        [json!({"query": " "}), json!({"query": "x", "limit": 0}), json!({"query": "x", "limit": 101})]
    {
        let refused = served.client.post::<_, RecallReply>("/v1/recall", &body).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ValidationFailed, "{refused}");
    }
    for (path, code) in [
        ("/v1/memories?cursor=zzz", ErrorCode::InvalidParameter),
        ("/v1/memories?cursor=m-1", ErrorCode::InvalidParameter),
        ("/v1/memories?limit=0", ErrorCode::InvalidParameter),
        ("/v1/memories?limit=201", ErrorCode::InvalidParameter),
        ("/v1/memories?kind=gossip", ErrorCode::InvalidParameter),
        ("/v1/memories?colour=red", ErrorCode::UnknownField),
        ("/v1/memories/17", ErrorCode::InvalidParameter),
        ("/v1/memories/00000000-0000-7000-8000-000000000000", ErrorCode::MemoryUnknown),
    ] {
        let refused = served.client.get::<serde_json::Value>(path).await.unwrap_err();
        assert_eq!(refused.code, code, "{path}: {refused}");
        assert!(refused.detail.len() > 20, "{refused}");
    }
    let unknown = format!("/v1/memories/{}", MemoryId::generate());
    assert_eq!(served.client.delete::<()>(&unknown).await.unwrap_err().code, ErrorCode::MemoryUnknown);
    let refused = served.client.patch::<_, Memory>(&unknown, &json!({"text": ""})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ValidationFailed);
    let working = json!({"text": "x", "kind": "working"});
    let refused = served.client.post::<_, Memory>("/v1/memories", &working).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ValidationFailed);
    served.stop().await;
}

#[tokio::test]
async fn a_fact_is_not_patched() {
    let served = Served::new().await;
    let kept = fact("Anna", "lives in", "Zagreb", "2026-01-01T00:00:00Z");
    served.remember(vec![kept.clone()]).await.unwrap();
    let path = format!("/v1/memories/{}", kept.id);
    let refused = served.client.patch::<_, Memory>(&path, &json!({"text": "Rome"})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.next_step.unwrap().contains("same subject"));
    served.stop().await;
}

#[tokio::test]
async fn memories_are_there_after_a_restart() {
    let served = Served::new().await;
    let session = kamil_protocol::SessionId::generate();
    served
        .remember(vec![passage("Rivers flow"), turn(session, "Hello", "2026-11-22T10:00:00Z")])
        .await
        .unwrap();
    let home = served.stop().await;
    let served = Served::at(home).await;
    let mut request = asking("rivers");
    request.session = Some(session);
    let found: RecallReply = served.client.post("/v1/recall", &request).await.unwrap();
    assert_eq!((found.hits.len(), found.conversation.len()), (1, 1));
    served.stop().await;
}

#[tokio::test]
async fn a_second_node_on_the_same_home_says_so() {
    let served = Served::new().await;
    let home = Home::resolve(Some(served.home.path().to_owned())).unwrap();
    let refused = start(NodeOptions::local(home), MemoryOptions::default(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(&refused, StartError::Store(_)), "{refused}");
    assert!(refused.to_string().contains("in use by another memory node"), "{refused}");
    served.stop().await;
}

#[test]
fn the_description_lists_every_endpoint() {
    let document = serde_json::to_value(kamil_memory::openapi()).unwrap();
    let mut paths: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .filter(|path| path.contains("/v1/"))
        .collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "delete /v1/memories/{id}",
            "get /v1/memories",
            "get /v1/memories/stats",
            "get /v1/memories/{id}",
            "patch /v1/memories/{id}",
            "post /v1/memories",
            "post /v1/recall",
            "post /v1/remember",
        ]
    );
}
