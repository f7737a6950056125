//! The orchestrator stops in the middle, and goes on.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use kamil_plan::Task;
use kamil_protocol::{
    Problem,
    event::{EventRecord, TaskEvent},
    task::{StepStatus, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    hub::{Hub, directly, graph, starts_of, step},
    stand_in::{Boxed, Script, StandIn, says, tool},
};

#[tokio::test]
async fn finished_steps_never_run_again_and_the_rest_does() {
    let mut hub = Hub::start().await;
    let keys = Arc::new(Mutex::new(Vec::new()));
    let open = Arc::new(Notify::new());
    let (seen, gate) = (Arc::clone(&keys), Arc::clone(&open));
    let blocked = Arc::new(AtomicUsize::new(0));
    let blocks = Arc::clone(&blocked);
    let execute = move |request: ExecuteRequest| -> Boxed<Result<Value, Problem>> {
        seen.lock().unwrap().push(request.idempotency_key);
        let (gate, blocks) = (Arc::clone(&gate), Arc::clone(&blocks));
        Box::pin(async move {
            if request.step.as_str() == "second" && blocks.fetch_add(1, Ordering::SeqCst) == 0 {
                gate.notified().await;
            }
            Ok(json!({"step": request.step}))
        })
    };
    let node = StandIn::tools(&hub.url, vec![tool("files.append", SideEffect::Write, false)], execute).await;
    let id = hub
        .ask(&graph(&json!([
            {"id": "first", "kind": "tool", "tool": "files.append"},
            {"id": "second", "kind": "tool", "tool": "files.append", "depends_on": ["first"]},
            {"id": "third", "kind": "tool", "tool": "files.append", "depends_on": ["second"]},
        ])))
        .await;
    hub.until(id, |_| blocked.load(Ordering::SeqCst) == 1).await;
    hub.restart().await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    let key = |step: &str| format!("{id}/{step}");
    // A step with a side effect goes to the same node under the same key, which that node's ledger knows.
    assert_eq!(*keys.lock().unwrap(), [key("first"), key("second"), key("second"), key("third")]);
    let second = step(&task, "second");
    assert_eq!((second.attempt, second.node), (2, Some(node.id)));
    let records = hub.records(id).await;
    assert_eq!((starts_of(&records, "first"), starts_of(&records, "third")), (1, 1));
    let folded = Task::fold(id, records.iter().map(|record| (record.at, &record.event))).unwrap();
    assert_eq!(serde_json::to_value(folded.document()).unwrap(), serde_json::to_value(&task).unwrap());
}

#[tokio::test]
async fn an_answer_that_was_being_written_is_written_again() {
    let mut hub = Hub::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let reason = move |_| -> Boxed<_> {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if first { Ok(Script::Hangs(vec!["Half an ".to_owned()])) } else { Ok(says("A whole answer.")) }
        })
    };
    let _llm = StandIn::llm(&hub.url, "slow", reason).await;
    let id = hub.ask(&directly("answer")).await;
    hub.until(id, |task| task.answer.is_some()).await;
    hub.restart().await;
    let task = hub.ended(id).await;
    assert_eq!(task.answer.as_deref(), Some("A whole answer."));
    assert_eq!(step(&task, "answer").status, StepStatus::Succeeded);
    let records = hub.records(id).await;
    let said = |record: &EventRecord| match &record.event {
        TaskEvent::StepFailed { error, .. } => error.detail.contains("it starts anew"),
        _ => false,
    };
    assert!(records.iter().any(said), "{records:?}");
    let spliced = |record: &EventRecord| matches!(record.event, TaskEvent::StreamSpliced { .. });
    assert!(!records.iter().any(spliced), "nothing goes on from before the restart");
}

#[tokio::test]
async fn ended_tasks_are_still_told_after_a_restart() {
    let mut hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Yes.").await;
    let id = hub.ask(&directly("x")).await;
    let before = hub.ended(id).await;
    let records = hub.records(id).await;
    hub.restart().await;
    assert_eq!(serde_json::to_value(hub.task(id).await).unwrap(), serde_json::to_value(before).unwrap());
    assert_eq!(hub.records(id).await, records);
}

#[tokio::test]
async fn one_who_comes_to_read_takes_up_nothing() {
    let mut hub = Hub::start().await;
    let id = hub.ask(&directly("waits for a node")).await;
    hub.stop().await;
    let options = kamil_orchestrator::OrchestratorOptions { resume: false, ..crate::hub::quick() };
    let stop = tokio_util::sync::CancellationToken::new();
    let reader = kamil_orchestrator::start(hub.node_options(), options, stop.clone()).await.unwrap();
    let client = kamil_node::Client::new(&reader.url, None).unwrap();
    let task: kamil_protocol::task::TaskDoc = client.get(&format!("/v1/tasks/{id}")).await.unwrap();
    assert!(!task.status.is_final());
    stop.cancel();
    reader.stopped().await.unwrap();
}
