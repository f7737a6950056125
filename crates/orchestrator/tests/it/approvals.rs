//! Steps that wait for the person, and tasks that the person stops.

use std::sync::{Arc, Mutex};

use kamil_protocol::{
    ErrorCode, Problem,
    task::{StepStatus, TaskDoc, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, directly, one_tool, step},
    stand_in::{Boxed, Script, StandIn, tool},
};

fn asking(
    seen: &Arc<Mutex<Vec<Option<String>>>>,
) -> impl Fn(ExecuteRequest) -> Boxed<Result<Value, Problem>> + use<> {
    let seen = Arc::clone(seen);
    move |request| {
        seen.lock().unwrap().push(request.approval.clone());
        let asked = json!({
            "tool": request.tool,
            "arguments": request.arguments,
            "command": ["curl", "https://example.org"],
            "reason": "external actions are asked",
            "digest": "ab".repeat(32),
        });
        Box::pin(async move {
            match request.approval {
                Some(digest) if digest == "ab".repeat(32) => Ok(json!({"fetched": true})),
                _ => Err(Problem::new(ErrorCode::ApprovalRequired, "The person has to agree.").data(asked)),
            }
        })
    }
}

async fn waiting() -> (Hub, StandIn, kamil_protocol::TaskId, Arc<Mutex<Vec<Option<String>>>>) {
    let hub = Hub::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let node =
        StandIn::tools(&hub.url, vec![tool("web_tools.fetch", SideEffect::External, false)], asking(&seen))
            .await;
    let id = hub.ask(&one_tool("web_tools.fetch")).await;
    hub.until(id, |task| task.status == TaskStatus::AwaitingApproval).await;
    (hub, node, id, seen)
}

async fn decide(hub: &Hub, id: kamil_protocol::TaskId, body: &Value) -> Result<TaskDoc, Problem> {
    hub.client.post(&format!("/v1/tasks/{id}/steps/run/approval"), body).await
}

#[tokio::test]
async fn the_person_sees_what_is_asked_and_agrees_to_it() {
    let (hub, _node, id, seen) = waiting().await;
    let task = hub.task(id).await;
    let run = step(&task, "run");
    assert_eq!(run.status, StepStatus::AwaitingApproval);
    assert_eq!(run.approval.as_ref().unwrap().command.as_ref().unwrap()[0], "curl");
    let other =
        decide(&hub, id, &json!({"decision": "approve", "digest": "cd".repeat(32)})).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::Conflict);
    assert_eq!(hub.task(id).await.status, TaskStatus::AwaitingApproval);
    decide(&hub, id, &json!({"decision": "approve", "digest": "ab".repeat(32)})).await.unwrap();
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded);
    assert_eq!(*seen.lock().unwrap(), [None, Some("ab".repeat(32))]);
    let late = decide(&hub, id, &json!({"decision": "approve"})).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_no_is_a_no() {
    let (hub, _node, id, seen) = waiting().await;
    decide(&hub, id, &json!({"decision": "deny"})).await.unwrap();
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert_eq!(task.error.unwrap().code, ErrorCode::Denied);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_approval_outlives_a_restart() {
    let (mut hub, _node, id, _) = waiting().await;
    hub.restart().await;
    assert_eq!(hub.task(id).await.status, TaskStatus::AwaitingApproval);
    decide(&hub, id, &json!({"decision": "approve"})).await.unwrap();
    assert_eq!(hub.ended(id).await.status, TaskStatus::Succeeded);
}

#[tokio::test]
async fn decisions_on_what_is_not_there_are_refused() {
    let (hub, _node, id, _) = waiting().await;
    let path = format!("/v1/tasks/{id}/steps/none/approval");
    let problem = hub.client.post::<_, Value>(&path, &json!({"decision": "approve"})).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::StepUnknown);
    let problem = decide(&hub, id, &json!({"decision": "maybe"})).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::MalformedBody);
}

#[tokio::test]
async fn a_stopped_task_drops_what_is_in_flight() {
    let hub = Hub::start().await;
    let dropped = CancellationToken::new();
    let guard = dropped.clone();
    let execute = move |_| -> Boxed<_> {
        let guard = guard.clone().drop_guard();
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(json!(1))
        })
    };
    let _tools =
        StandIn::tools(&hub.url, vec![tool("code_tools.run", SideEffect::Write, false)], execute).await;
    let id = hub.ask(&one_tool("code_tools.run")).await;
    hub.until(id, |task| task.status == TaskStatus::Running).await;
    let cancelled: TaskDoc = hub.client.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.unwrap();
    assert_eq!(cancelled.status, TaskStatus::Cancelled);
    tokio::time::timeout(crate::hub::PATIENCE, dropped.cancelled()).await.expect("the node was not told");
    assert!(step(&cancelled, "run").error.as_ref().unwrap().detail.contains("may have happened"));
    let again = hub.client.post::<_, Value>(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn an_answer_can_be_stopped_while_it_is_written() {
    let hub = Hub::start().await;
    let hangs = |_| -> Boxed<_> { Box::pin(async { Ok(Script::Hangs(vec!["Once upon ".to_owned()])) }) };
    let _llm = StandIn::llm(&hub.url, "slow", hangs).await;
    let id = hub.ask(&directly("tell")).await;
    hub.until(id, |task| task.answer.is_some()).await;
    let _: TaskDoc = hub.client.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.unwrap();
    let events = hub.events(id, None).await;
    assert_eq!(events.last().unwrap().data, "{\"status\":\"cancelled\"}");
}
