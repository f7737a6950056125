//! Requests that go well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kamil_protocol::{
    Page, SessionId,
    memory::MemoryKind,
    node::NodeDoc,
    placement::PreviewReply,
    task::{StepKind, TaskRequest, TaskStatus, TaskSummary},
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{
    hub::{Hub, all_succeeded, asks, directly, graph, kinds, names, one_tool, step},
    stand_in::{StandIn, tool},
};

#[tokio::test]
async fn a_direct_request_is_one_step() {
    let hub = Hub::start().await;
    let llm = StandIn::saying(&hub.url, "Hello there, person.").await;
    let id = hub.ask(&directly("hi")).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded);
    assert_eq!(task.answer.as_deref(), Some("Hello there, person."));
    assert_eq!(kinds(&task), [StepKind::Answer]);
    let answer = step(&task, "answer");
    assert_eq!((answer.node, answer.attempt, answer.model.as_deref()), (Some(llm.id), 1, Some("echo")));
    assert!(!answer.placement.as_ref().unwrap().reasons.is_empty());
    assert_eq!((answer.tokens_in, answer.tokens_out), (Some(12), Some(3)));
    assert_eq!(
        names(&hub.records(id).await),
        ["task_created", "steps_added", "step_started answer", "step_succeeded answer", "task_completed"]
    );
}

#[tokio::test]
async fn with_memory_a_request_recalls_answers_and_remembers() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "A hash chain links hashes.").await;
    let (_memory, kept) = StandIn::memory(&hub.url).await;
    let request = TaskRequest {
        session: Some(SessionId::generate()),
        ..asks("Explain what a hash chain is in two sentences")
    };
    let id = hub.ask(&request).await;
    let task = hub.ended(id).await;
    assert_eq!(kinds(&task), [StepKind::Recall, StepKind::Answer, StepKind::Remember]);
    assert!(all_succeeded(&task), "{task:?}");
    assert!(task.degraded.is_empty(), "{:?}", task.degraded);
    let kept = kept.lock().unwrap();
    let texts: Vec<_> = kept[0].memories.iter().map(|memory| (memory.kind, &memory.text)).collect();
    assert!(
        texts.iter().any(|(kind, text)| *kind == MemoryKind::Working && text.contains("hash chain")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_reply_and_what_follows_it_share_one_append() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let (_memory, _) = StandIn::memory(&hub.url).await;
    let before = hub.metric("kamil_journal_commits_total").await;
    let request = TaskRequest { session: Some(SessionId::generate()), ..asks("Is water wet?") };
    let id = hub.ask(&request).await;
    hub.ended(id).await;
    let commits = hub.metric("kamil_journal_commits_total").await - before;
    // One before each of the three requests to nodes, and one for the end.
    assert_eq!(commits, 4);
}

#[tokio::test]
async fn steps_that_are_ready_run_at_the_same_time() {
    let hub = Hub::start().await;
    let both = Arc::new(Barrier::new(2));
    let execute = move |_| -> crate::stand_in::Boxed<Result<Value, kamil_protocol::Problem>> {
        let both = Arc::clone(&both);
        Box::pin(async move {
            tokio::time::timeout(Duration::from_secs(10), both.wait()).await.expect("the other does not run");
            Ok(json!({"value": 7}))
        })
    };
    let _tools = StandIn::tools(&hub.url, vec![tool("calc.evaluate", SideEffect::Pure, true)], execute).await;
    let id = hub
        .ask(&graph(&json!([
            {"id": "a", "kind": "tool", "tool": "calc.evaluate"},
            {"id": "b", "kind": "tool", "tool": "calc.evaluate"},
        ])))
        .await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
}

#[tokio::test]
async fn an_output_goes_into_the_step_that_refers_to_it() {
    let hub = Hub::start().await;
    let execute = |request: kamil_protocol::tool::ExecuteRequest| -> crate::stand_in::Boxed<_> {
        Box::pin(async move { Ok(json!({"got": request.arguments, "key": request.idempotency_key})) })
    };
    let _tools = StandIn::tools(&hub.url, vec![tool("calc.evaluate", SideEffect::Pure, true)], execute).await;
    let id = hub
        .ask(&graph(&json!([
            {"id": "first", "kind": "tool", "tool": "calc.evaluate", "inputs": {"x": [1, 2]}},
            {"id": "second", "kind": "tool", "tool": "calc.evaluate",
             "inputs": {"y": {"$from": "first", "path": "/got/x/1"}}},
        ])))
        .await;
    let task = hub.ended(id).await;
    let second = step(&task, "second");
    assert_eq!(second.output.as_ref().unwrap()["got"], json!({"y": 2}));
    assert_eq!(second.enforced, ["namespaces"]);
    assert_eq!(task.answer.unwrap(), json!({"got": {"y": 2}, "key": format!("{id}/second")}).to_string());
}

#[tokio::test]
async fn a_pointer_to_nothing_is_told() {
    let hub = Hub::start().await;
    let execute = |_| -> crate::stand_in::Boxed<_> { Box::pin(async { Ok(json!({"metrics": 1})) }) };
    let _tools = StandIn::tools(&hub.url, vec![tool("calc.evaluate", SideEffect::Pure, true)], execute).await;
    let id = hub
        .ask(&graph(&json!([
            {"id": "first", "kind": "tool", "tool": "calc.evaluate"},
            {"id": "second", "kind": "tool", "tool": "calc.evaluate", "inputs": {"y": {"$from": "first", "path": "/accuracy"}}},
        ])))
        .await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Failed);
    let detail = task.error.unwrap().detail;
    assert!(detail.contains("/accuracy") && detail.contains("`metrics`"), "{detail}");
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(hub.ask(&directly(&format!("request {number}"))).await);
    }
    for id in &ids {
        hub.ended(*id).await;
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<TaskSummary> = hub.client.get(&format!("/v1/tasks?limit=2{cursor}")).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|task| task.id));
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn the_fleet_its_tools_and_a_preview_are_shown() {
    let hub = Hub::start().await;
    let llm = StandIn::saying(&hub.url, "Yes.").await;
    let execute = |_| -> crate::stand_in::Boxed<_> { Box::pin(async { Ok(json!(1)) }) };
    let tools =
        vec![tool("file_ops.read", SideEffect::Read, true), tool("calc.evaluate", SideEffect::Pure, true)];
    let _tools = StandIn::tools(&hub.url, tools, execute).await;
    let nodes: Page<NodeDoc> = hub.client.get("/v1/nodes").await.unwrap();
    assert_eq!(nodes.items.len(), 2);
    let tools: Page<ToolDescriptor> = hub.client.get("/v1/tools?limit=1").await.unwrap();
    assert_eq!(tools.items[0].name, "calc.evaluate");
    assert_eq!(tools.next_cursor.as_deref(), Some("1"));
    let body = json!({"steps": [{"kind": "answer"}, {"kind": "recall"}]});
    let preview: PreviewReply = hub.client.post("/v1/placements/preview", &body).await.unwrap();
    assert_eq!(preview.placements[0].chosen.as_ref().unwrap().node, llm.id);
    assert!(preview.placements[1].chosen.is_none());
    let gone = llm.leave().await;
    let nodes: Page<NodeDoc> = hub.client.get("/v1/nodes").await.unwrap();
    assert_eq!(nodes.items.len(), 1, "who says goodbye is forgotten");
    let back = gone.come_back().await;
    let id = hub.ask(&directly("hi")).await;
    assert_eq!(step(&hub.ended(id).await, "answer").node, Some(back.id));
}

#[tokio::test]
async fn a_tool_alone_needs_no_model() {
    let hub = Hub::start().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let execute = move |_| -> crate::stand_in::Boxed<_> {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(json!({"accuracy": 1.0})) })
    };
    let _tools =
        StandIn::tools(&hub.url, vec![tool("ml_tools.train", SideEffect::Write, false)], execute).await;
    let id = hub.ask(&one_tool("ml_tools.train")).await;
    let task = hub.ended(id).await;
    assert_eq!(task.answer.as_deref(), Some("{\"accuracy\":1}"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
