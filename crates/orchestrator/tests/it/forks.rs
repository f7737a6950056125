//! Tasks once more, with one result changed.

use std::sync::{Arc, Mutex};

use kamil_protocol::{
    ErrorCode, Problem, TaskId,
    event::TaskEvent,
    label::Source,
    task::{StepKind, StepStatus, TaskAccepted, TaskDoc, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, asks, directly, graph, kinds, starts_of, step},
    planning::{REQUEST, wants_plan, with_calculator},
    stand_in::{Boxed, Script, StandIn, says, tool},
};

async fn fork(hub: &Hub, origin: TaskId, body: &Value) -> Result<TaskId, Problem> {
    let accepted: TaskAccepted = hub.client.post(&format!("/v1/tasks/{origin}/forks"), body).await?;
    Ok(accepted.id)
}

/// A tool node that notes which steps ran, and returns the sum of its arguments and 1.
async fn adding(hub: &Hub, effect: SideEffect) -> (StandIn, Arc<Mutex<Vec<String>>>) {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ran);
    let execute = move |request: ExecuteRequest| -> Boxed<Result<Value, Problem>> {
        noted.lock().unwrap().push(request.step.to_string());
        let sum: i64 = request.arguments.as_object().unwrap().values().filter_map(Value::as_i64).sum();
        Box::pin(async move { Ok(json!({"sum": sum + 1})) })
    };
    (StandIn::tools(&hub.url, vec![tool("calc.add", effect, true)], execute).await, ran)
}

fn diamond() -> kamil_protocol::task::TaskRequest {
    let from = |step: &str| json!({"$from": step, "path": "/sum"});
    graph(&json!([
        {"id": "a", "kind": "tool", "tool": "calc.add"},
        {"id": "b", "kind": "tool", "tool": "calc.add", "inputs": {"x": from("a")}},
        {"id": "c", "kind": "tool", "tool": "calc.add", "inputs": {"x": from("a")}},
        {"id": "d", "kind": "tool", "tool": "calc.add", "inputs": {"x": from("b"), "y": from("c")}},
    ]))
}

#[tokio::test]
async fn only_what_descends_from_the_changed_step_runs() {
    let hub = Hub::start().await;
    let (_tools, ran) = adding(&hub, SideEffect::Pure).await;
    let origin = hub.ask(&diamond()).await;
    let before = hub.ended(origin).await;
    assert_eq!(before.answer.as_deref(), Some("{\"sum\":5}"));
    ran.lock().unwrap().clear();
    let id = fork(&hub, origin, &json!({"step": "b", "output": {"sum": 100}})).await.unwrap();
    let after = hub.ended(id).await;
    assert_eq!(*ran.lock().unwrap(), ["d"]);
    assert_eq!(after.answer.as_deref(), Some("{\"sum\":103}"));
    let from = after.forked_from.as_ref().unwrap();
    assert_eq!((from.task, from.step.as_str()), (origin, "b"));
    let given = step(&after, "b").labels.as_ref().unwrap();
    assert_eq!(given.sources, [Source::Person]);
    assert_eq!(
        (step(&after, "c").attempt, step(&after, "c").output.clone()),
        (0, step(&before, "c").output.clone())
    );
    let records = hub.records(id).await;
    assert_eq!((starts_of(&records, "a"), starts_of(&records, "c"), starts_of(&records, "d")), (0, 0, 1));
    // A fork is a task like any other: it can be forked again, and is still told after a restart.
    let again = fork(&hub, id, &json!({"step": "a", "output": {"sum": 0}})).await.unwrap();
    assert_eq!(hub.ended(again).await.answer.as_deref(), Some("{\"sum\":3}"));
    assert_eq!(serde_json::to_value(hub.task(origin).await).unwrap(), serde_json::to_value(before).unwrap());
}

#[tokio::test]
async fn tools_that_change_something_run_again_only_with_a_yes() {
    let hub = Hub::start().await;
    let (_tools, ran) = adding(&hub, SideEffect::Write).await;
    let origin = hub.ask(&diamond()).await;
    hub.ended(origin).await;
    ran.lock().unwrap().clear();
    let body = json!({"step": "c", "output": {"sum": 7}});
    let problem = fork(&hub, origin, &body).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ApprovalRequired);
    assert_eq!(problem.data, Some(json!([{"step": "d", "tool": "calc.add", "effect": "write"}])));
    assert!(ran.lock().unwrap().is_empty());
    let id = fork(&hub, origin, &json!({"step": "c", "output": {"sum": 7}, "effects": true})).await.unwrap();
    assert_eq!(hub.ended(id).await.status, TaskStatus::Succeeded);
    assert_eq!(*ran.lock().unwrap(), ["d"]);
}

#[tokio::test]
async fn another_plan_grows_another_graph() {
    let hub = Hub::start().await;
    let (_memory, kept) = StandIn::memory(&hub.url).await;
    let (_tools, _) = with_calculator(&hub).await;
    let prompts = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&prompts);
    let reason = move |request| -> Boxed<_> {
        let plan = wants_plan(&request);
        asked.lock().unwrap().push(plan);
        let text = if plan { "s1 = calc.evaluate(expression=\"12 * 34\")\nanswer" } else { "It is 408." };
        Box::pin(async move { Ok(says(text)) })
    };
    let _llm = StandIn::llm(&hub.url, "planner", reason).await;
    let origin = hub.ask(&asks(REQUEST)).await;
    hub.ended(origin).await;
    prompts.lock().unwrap().clear();
    let remembered = kept.lock().unwrap().len();
    let plan = "s1 = calc.evaluate(expression=\"12\")\ns2 = calc.evaluate(expression=\"34\")\nanswer";
    let id = fork(&hub, origin, &json!({"step": "plan", "output": plan})).await.unwrap();
    let task = hub.ended(id).await;
    assert_eq!(
        kinds(&task),
        [StepKind::Recall, StepKind::Plan, StepKind::Tool, StepKind::Tool, StepKind::Answer]
    );
    assert_eq!(*prompts.lock().unwrap(), [false], "only the answer was asked of the model");
    assert_eq!(kept.lock().unwrap().len(), remembered, "what might have been is not remembered");
    let problem =
        fork(&hub, origin, &json!({"step": "plan", "output": "s1 = no.such()\nanswer"})).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::PlanInvalid);
    let id =
        fork(&hub, origin, &json!({"step": "answer", "output": "Four hundred and eight."})).await.unwrap();
    let task = hub.ended(id).await;
    assert_eq!(task.answer.as_deref(), Some("Four hundred and eight."));
    assert!(
        hub.records(id).await.iter().all(|record| !matches!(record.event, TaskEvent::StepStarted { .. }))
    );
}

#[tokio::test]
async fn steps_over_a_list_are_kept_or_run_as_a_whole() {
    let hub = Hub::start().await;
    let (_tools, ran) = adding(&hub, SideEffect::Pure).await;
    let origin = hub
        .ask(&graph(&json!([
            {"id": "a", "kind": "tool", "tool": "calc.add"},
            {"id": "each", "kind": "tool", "tool": "calc.add", "inputs": {"x": {"$item": ""}},
                "for_each": {"over": {"$from": "numbers", "path": "/list"}}},
            {"id": "numbers", "kind": "tool", "tool": "calc.add"},
            {"id": "end", "kind": "tool", "tool": "calc.add", "inputs": {"x": {"$from": "a", "path": "/sum"}, "y": {"$from": "each", "path": ""}}},
        ])))
        .await;
    let failed = hub.ended(origin).await;
    assert_eq!(step(&failed, "each").status, StepStatus::Failed, "there is no list");
    let id = fork(&hub, origin, &json!({"step": "numbers", "output": {"list": [1, 2]}})).await.unwrap();
    let listed = hub.ended(id).await;
    assert_eq!(step(&listed, "each").output, Some(json!([{"sum": 2}, {"sum": 3}])));
    ran.lock().unwrap().clear();
    let again = fork(&hub, id, &json!({"step": "a", "output": {"sum": 50}})).await.unwrap();
    let kept = hub.ended(again).await;
    assert_eq!(*ran.lock().unwrap(), ["end"]);
    assert_eq!(step(&kept, "each.1").output, Some(json!({"sum": 2})));
    let problem = fork(&hub, id, &json!({"step": "each.1", "output": {"sum": 2}})).await.unwrap_err();
    assert!(problem.detail.contains("an item of step `each`"), "{problem}");
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused_with_the_reason() {
    let hub = Hub::start().await;
    let hangs = |_| -> Boxed<_> { Box::pin(async { Ok(Script::Hangs(Vec::new())) }) };
    let _llm = StandIn::llm(&hub.url, "slow", hangs).await;
    let running = hub.ask(&directly("think")).await;
    let body = json!({"step": "answer", "output": "x"});
    assert_eq!(fork(&hub, running, &body).await.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(fork(&hub, TaskId::generate(), &body).await.unwrap_err().code, ErrorCode::TaskUnknown);
    let _: TaskDoc = hub.client.post(&format!("/v1/tasks/{running}/cancel"), &json!({})).await.unwrap();
    for (body, code) in [
        (json!({"step": "none", "output": "x"}), ErrorCode::StepUnknown),
        (json!({"step": "answer", "output": {"x": 1}}), ErrorCode::ValidationFailed),
        (json!({"step": "answer", "output": "x".repeat(64 * 1024 + 1)}), ErrorCode::ValidationFailed),
        (json!({"step": "answer", "output": "x", "yes": true}), ErrorCode::UnknownField),
    ] {
        assert_eq!(fork(&hub, running, &body).await.unwrap_err().code, code);
    }
    let id = fork(&hub, running, &body).await.unwrap();
    assert_eq!(hub.ended(id).await.status, TaskStatus::Succeeded);
}
