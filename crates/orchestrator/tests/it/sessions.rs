//! Tasks of one session, one after the other.

use std::sync::Arc;

use kamil_protocol::{
    Problem, SessionId, TaskId,
    task::{TaskDoc, TaskRequest, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, directly, one_tool, step},
    queueing::Gate,
    stand_in::{Boxed, StandIn, tool},
};

fn within(session: SessionId, request: TaskRequest) -> TaskRequest {
    TaskRequest { session: Some(session), ..request }
}

async fn waits_for(hub: &Hub, id: TaskId, ahead: TaskId) {
    let task = hub.until(id, |task| {
        let told = step(task, "answer").waiting.as_deref().unwrap_or_default();
        told.contains(&ahead.to_string())
    });
    assert_eq!(task.await.status, TaskStatus::Queued);
}

#[tokio::test]
async fn they_run_in_the_order_of_acceptance_over_a_restart() {
    let mut hub = Hub::start().await;
    let gate = Gate::new();
    let _llm = StandIn::llm(&hub.url, "free", gate.reasoner()).await;
    let session = SessionId::generate();
    let mut ids = Vec::new();
    for input in ["first", "second", "third"] {
        ids.push(hub.try_ask(&within(session, directly(input)), None).await.unwrap());
    }
    assert!(ids[0].waiting.is_empty());
    assert!(ids[1].waiting[0].reason.contains(&ids[0].id.to_string()), "{:?}", ids[1]);
    let ids: Vec<TaskId> = ids.iter().map(|accepted| accepted.id).collect();
    waits_for(&hub, ids[2], ids[1]).await;
    let alone = hub.ask(&directly("alone")).await;
    hub.until(alone, |task| task.status == TaskStatus::Running).await;
    hub.restart().await;
    waits_for(&hub, ids[1], ids[0]).await;
    waits_for(&hub, ids[2], ids[1]).await;
    let other = hub.ask(&within(SessionId::generate(), directly("other"))).await;
    hub.until(other, |task| task.status == TaskStatus::Running).await;
    let _: TaskDoc = hub.client.post(&format!("/v1/tasks/{}/cancel", ids[1]), &()).await.unwrap();
    waits_for(&hub, ids[2], ids[0]).await;
    gate.open(20);
    for id in [ids[0], ids[2], alone, other] {
        assert_eq!(hub.ended(id).await.status, TaskStatus::Succeeded);
    }
    let order = gate.order();
    let last = |name: &str| order.iter().rposition(|asked| asked == name);
    assert!(last("first") < last("third"), "{order:?}");
    assert_eq!(last("second"), None);
}

#[tokio::test]
async fn one_that_waits_for_the_person_steps_aside() {
    let mut hub = Hub::start().await;
    let asks = Arc::new(|request: ExecuteRequest| -> Boxed<Result<Value, Problem>> {
        let digest = "ab".repeat(32);
        let asked = json!({"tool": request.tool, "arguments": {}, "reason": "asked", "digest": digest});
        Box::pin(async move {
            match request.approval {
                Some(_) => Ok(json!({"sent": true})),
                None => Err(Problem::new(kamil_protocol::ErrorCode::ApprovalRequired, "yes?").data(asked)),
            }
        })
    });
    let execute = move |request| asks(request);
    let _tools =
        StandIn::tools(&hub.url, vec![tool("mail.send", SideEffect::External, false)], execute).await;
    let gate = Gate::new();
    let _llm = StandIn::llm(&hub.url, "free", gate.reasoner()).await;
    let session = SessionId::generate();
    let asking = hub.ask(&within(session, one_tool("mail.send"))).await;
    hub.until(asking, |task| task.status == TaskStatus::AwaitingApproval).await;
    let next = hub.ask(&within(session, directly("next"))).await;
    hub.until(next, |task| task.status == TaskStatus::Running).await;
    let last = hub.ask(&within(session, directly("last"))).await;
    waits_for(&hub, last, next).await;
    hub.restart().await;
    // The one that had begun goes on, though another task of the session that came before it is still open.
    hub.until(next, |task| task.status == TaskStatus::Running).await;
    waits_for(&hub, last, next).await;
    let path = format!("/v1/tasks/{asking}/steps/run/approval");
    let _: TaskDoc = hub.client.post(&path, &json!({"decision": "approve"})).await.unwrap();
    assert_eq!(hub.ended(asking).await.status, TaskStatus::Succeeded);
    gate.open(10);
    assert_eq!(hub.ended(last).await.status, TaskStatus::Succeeded);
    assert_eq!(gate.order().last().map(String::as_str), Some("last"));
}
