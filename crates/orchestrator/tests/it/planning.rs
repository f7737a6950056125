//! Plans that models write, right and wrong.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use kamil_protocol::{
    reason::ReasonRequest,
    task::{StepKind, StepStatus, TaskStatus},
    tool::{SideEffect, ToolDescriptor, ToolExample},
};
use serde_json::json;

use crate::{
    hub::{Hub, all_succeeded, asks, kinds, step},
    stand_in::{Boxed, Script, StandIn, says, tool},
};

pub(crate) const REQUEST: &str = "Calculate 12 * 34 with the calculator";

pub(crate) fn calculator() -> ToolDescriptor {
    let mut calculator = tool("calc.evaluate", SideEffect::Pure, true);
    calculator.description = "Evaluates an arithmetic expression.".to_owned();
    calculator.arguments = json!({
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
        "additionalProperties": false
    });
    calculator.examples = vec![ToolExample {
        request: "calculate 12 * 34".to_owned(),
        arguments: json!({"expression": "12 * 34"}),
    }];
    calculator
}

pub(crate) async fn with_calculator(hub: &Hub) -> (StandIn, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let execute = move |_| -> Boxed<_> {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(json!({"value": 408})) })
    };
    (StandIn::tools(&hub.url, vec![calculator()], execute).await, runs)
}

/// Whether the model is asked for a plan, and not for the answer: only an answer is streamed.
pub(crate) fn wants_plan(request: &ReasonRequest) -> bool {
    !request.stream
}

/// A model that writes no valid plan, ever; what it is asked is noted.
pub(crate) fn hopeless(
    asked: &Arc<Mutex<Vec<ReasonRequest>>>,
) -> impl Fn(ReasonRequest) -> Boxed<Result<Script, kamil_protocol::Problem>> + use<> {
    let asked = Arc::clone(asked);
    move |request| {
        let plan = wants_plan(&request);
        asked.lock().unwrap().push(request);
        Box::pin(
            async move { if plan { Ok(says("I would rather not plan.")) } else { Ok(says("It is 408.")) } },
        )
    }
}

#[tokio::test]
async fn an_invalid_plan_is_repaired_twice_and_then_rules_decide() {
    let hub = Hub::start().await;
    let (_tools, runs) = with_calculator(&hub).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let _llm = StandIn::llm(&hub.url, "only", hopeless(&asked)).await;
    let id = hub.ask(&asks(REQUEST)).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    let asked = asked.lock().unwrap();
    let plans: Vec<_> = asked.iter().filter(|request| wants_plan(request)).collect();
    assert_eq!(plans.len(), 3, "one and two repairs");
    let told: String = plans[1].messages.iter().map(|message| message.content.as_str()).collect();
    assert!(told.contains("I would rather not plan."), "the model sees its reply and the error: {told}");
    assert_eq!(step(&task, "plan").status, StepStatus::Failed);
    assert_eq!(task.degraded.len(), 1, "{:?}", task.degraded);
    assert!(task.degraded[0].starts_with("No plan was made"), "{:?}", task.degraded);
    assert!(kinds(&task).contains(&StepKind::Tool), "the rule found the calculator: {task:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(task.answer.as_deref(), Some("It is 408."));
}

#[tokio::test]
async fn another_model_tries_before_the_rules_do() {
    let hub = Hub::start().await;
    let (_tools, _) = with_calculator(&hub).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let _first = StandIn::llm(&hub.url, "first", hopeless(&asked)).await;
    let _second = StandIn::llm(&hub.url, "second", hopeless(&asked)).await;
    let id = hub.ask(&asks(REQUEST)).await;
    let task = hub.ended(id).await;
    let asked = asked.lock().unwrap();
    let models: Vec<_> =
        asked.iter().filter(|request| wants_plan(request)).map(|request| &request.model).collect();
    assert_eq!(models.len(), 4, "{models:?}");
    assert!(models[0] == models[2] && models[2] != models[3], "{models:?}");
    assert_eq!(task.degraded.len(), 2, "{:?}", task.degraded);
    assert_eq!(task.status, TaskStatus::Succeeded);
}

#[tokio::test]
async fn without_a_need_for_tools_no_plan_is_asked_for() {
    let hub = Hub::start().await;
    let (_tools, runs) = with_calculator(&hub).await;
    let _llm = StandIn::saying(&hub.url, "It links hashes.").await;
    let (_memory, _) = StandIn::memory(&hub.url).await;
    let id = hub.ask(&asks("Explain what a hash chain is in two sentences")).await;
    let task = hub.ended(id).await;
    assert_eq!(kinds(&task), [StepKind::Recall, StepKind::Answer], "and nothing is worth keeping");
    assert!(all_succeeded(&task));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_preview_plans_as_a_task_would_and_runs_nothing() {
    let hub = Hub::start().await;
    let (_tools, runs) = with_calculator(&hub).await;
    let replies = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&replies);
    let _llm = StandIn::llm(&hub.url, "only", move |_| -> Boxed<_> {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        let plan = if first {
            "s1 = calc.evaluate(term=\"1\")"
        } else {
            "s1 = calc.evaluate(expression=\"12 * 34\")\nanswer"
        };
        Box::pin(async move { Ok(says(plan)) })
    })
    .await;
    let preview = async |body: serde_json::Value| {
        hub.client.post::<_, serde_json::Value>("/v1/plans/preview", &body).await
    };
    let plan = preview(json!({"request": {"input": REQUEST}})).await.unwrap();
    assert_eq!(plan["steps"][0]["inputs"], json!({"expression": "12 * 34"}), "{plan}");
    assert_eq!(plan["refused"].as_array().unwrap().len(), 1, "the repair is told: {plan}");
    let tools = json!([{"name": "taxi.order", "description": "Order a taxi", "arguments": {"type": "object"}, "result": {},
        "side_effect": "external", "idempotent": false, "timeout_ms": 1000}]);
    let none = preview(json!({"request": {"input": REQUEST}, "tools": tools})).await.unwrap();
    assert_eq!((&none["asked"], &none["steps"]), (&json!(false), &json!([])), "a taxi cannot matter: {none}");
    assert_eq!(replies.load(Ordering::SeqCst), 2);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let many = vec![tools[0].clone(); 129];
    let refused = preview(json!({"request": {"input": REQUEST}, "tools": many})).await.unwrap_err();
    assert_eq!(refused.code, kamil_protocol::ErrorCode::ValidationFailed);
}
