//! Bad requests, and repeated ones.

use kamil_protocol::{
    ErrorCode, MAX_BODY_BYTES, Problem, TaskId,
    task::{TaskAccepted, TaskRequest},
    tool::SideEffect,
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, asks, directly, graph, one_tool},
    stand_in::{StandIn, tool},
};

async fn refused(hub: &Hub, body: &Value) -> Problem {
    hub.client.post::<_, TaskAccepted>("/v1/tasks", body).await.unwrap_err()
}

#[tokio::test]
async fn what_is_wrong_with_a_request_has_its_code() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    for (body, code) in [
        (json!({"input": ""}), ErrorCode::ValidationFailed),
        (json!({"input": "x".repeat(64 * 1024 + 1)}), ErrorCode::ValidationFailed),
        (json!({"input": "x".repeat(MAX_BODY_BYTES + 1)}), ErrorCode::BodyTooLarge),
        (json!({"input": "x", "urgency": 1}), ErrorCode::UnknownField),
        (json!({"input": "x", "priority": "urgent"}), ErrorCode::MalformedBody),
        (json!({"text": "x"}), ErrorCode::UnknownField),
        (json!({"input": 1}), ErrorCode::MalformedBody),
        (json!({"input": "x", "deadline_ms": 1}), ErrorCode::ValidationFailed),
        (json!({"input": "x", "steps": []}), ErrorCode::PlanInvalid),
        (json!({"input": "x", "model": "mistral:latest", "direct": true}), ErrorCode::ModelUnknown),
        (
            json!({"input": "x", "steps": [{"id": "s", "kind": "tool", "tool": "no.such"}]}),
            ErrorCode::ToolUnknown,
        ),
    ] {
        let problem = refused(&hub, &body).await;
        assert_eq!(problem.code, code, "{problem}");
    }
    let unknown = TaskId::generate();
    let problem = hub.client.get::<Value>(&format!("/v1/tasks/{unknown}")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::TaskUnknown);
    let problem = hub.client.get::<Value>(&format!("/v1/tasks/{unknown}/events")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::TaskUnknown);
    let problem = hub.client.get::<Value>("/v1/tasks/abc").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidParameter);
    let problem = hub.client.get::<Value>("/v1/tasks?page=2").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::UnknownField);
}

#[tokio::test]
async fn a_graph_with_a_circle_is_shown_as_one() {
    let hub = Hub::start().await;
    let request = graph(&json!([
        {"id": "a", "kind": "reason", "depends_on": ["b"]},
        {"id": "b", "kind": "reason", "inputs": {"x": {"$from": "a"}}},
    ]));
    let problem = hub.try_ask(&request, None).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::PlanInvalid);
    assert!(problem.detail.contains("`a` → `b` → `a`"), "{problem}");
}

#[tokio::test]
async fn arguments_are_checked_before_anything_runs() {
    let hub = Hub::start().await;
    let mut calc = tool("calc.evaluate", SideEffect::Pure, true);
    calc.arguments = json!({"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]});
    let execute = |_| -> crate::stand_in::Boxed<_> { panic!("it ran") };
    let _tools = StandIn::tools(&hub.url, vec![calc], execute).await;
    let problem = hub.try_ask(&one_tool("calc.evaluate"), None).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidArguments);
    assert!(problem.detail.contains("expression"), "{problem}");
}

#[tokio::test]
async fn a_key_makes_a_repeat_answer_with_the_first_task() {
    let mut hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let first = hub.try_ask(&directly("once"), Some("k-1")).await.unwrap();
    assert!(!first.repeated);
    let again = hub.try_ask(&directly("once"), Some("k-1")).await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true));
    let problem = hub.try_ask(&directly("twice"), Some("k-1")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::IdempotencyMismatch);
    hub.ended(first.id).await;
    hub.restart().await;
    let again = hub.try_ask(&directly("once"), Some("k-1")).await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true));
    let problem = hub.try_ask(&directly("x"), Some("not visible")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidParameter);
}

#[tokio::test]
async fn the_same_key_at_the_same_moment_makes_one_task() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let request = directly("once");
    let asked = (0..12).map(|_| hub.try_ask(&request, Some("k-2")));
    let accepted = futures::future::join_all(asked).await;
    let ids: std::collections::BTreeSet<_> =
        accepted.iter().map(|accepted| accepted.as_ref().unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let first = accepted.iter().filter(|accepted| !accepted.as_ref().unwrap().repeated).count();
    assert_eq!(first, 1);
}

#[tokio::test]
async fn too_many_unfinished_tasks_are_refused() {
    let options = kamil_orchestrator::OrchestratorOptions { max_open_tasks: 1, ..crate::hub::quick() };
    let hub = Hub::with(options).await;
    let request = TaskRequest { deadline_ms: Some(60_000), ..directly("waits for a node") };
    let id = hub.ask(&request).await;
    let problem = hub.try_ask(&asks("one too many"), None).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Busy);
    hub.ended(id).await;
}
