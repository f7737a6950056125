//! Graphs that grow as results come in: lists, conditions, new plans; and what a task may use up.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use kamil_protocol::{
    ErrorCode, Problem,
    event::TaskEvent,
    reason::ReasonRequest,
    task::{StepStatus, TaskRequest, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, asks, graph, step},
    planning::{calculator, wants_plan},
    stand_in::{Boxed, StandIn, says, tool},
};

async fn files(hub: &Hub, listed: Value) -> StandIn {
    let execute = move |request: ExecuteRequest| -> Boxed<_> {
        let listed = listed.clone();
        Box::pin(async move {
            Ok(match request.tool.as_str() {
                "files.list" => json!({"files": listed}),
                _ => json!({"read": request.arguments["path"]}),
            })
        })
    };
    let tools = vec![tool("files.list", SideEffect::Read, true), tool("files.read", SideEffect::Read, true)];
    StandIn::tools(&hub.url, tools, execute).await
}

fn read_each(limit: u32) -> TaskRequest {
    graph(&json!([
        {"id": "list", "kind": "tool", "tool": "files.list"},
        {"id": "read", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$item": "/name"}},
         "for_each": {"over": {"$from": "list", "path": "/files"}, "limit": limit}},
    ]))
}

#[tokio::test]
async fn a_step_runs_once_for_each_file_of_a_listing() {
    let mut hub = Hub::start().await;
    let _files = files(&hub, json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])).await;
    let id = hub.ask(&read_each(2)).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    assert_eq!(task.answer.as_deref(), Some("[{\"read\":\"a\"},{\"read\":\"b\"}]"));
    assert_eq!(task.degraded, ["Step `read` runs over the first 2 of 3 items only."]);
    let item = step(&task, "read.2");
    assert_eq!(item.added_by.as_ref().unwrap().as_str(), "read");
    assert_eq!(item.inputs["path"], json!({"$from": "list", "path": "/files/1/name"}));
    let list = step(&task, "read");
    assert_eq!((list.attempt, list.node), (0, None), "no node was asked for the list itself");
    let after: Vec<&str> = list.depends_on.iter().map(|id| id.as_str()).collect();
    assert_eq!(after, ["list", "read.1", "read.2"]);
    let before = serde_json::to_value(&task).unwrap();
    hub.restart().await;
    assert_eq!(serde_json::to_value(hub.task(id).await).unwrap(), before, "the journal tells the same");
}

#[tokio::test]
async fn an_empty_list_is_an_empty_result_and_another_value_a_clear_failure() {
    let hub = Hub::start().await;
    let none = files(&hub, json!([])).await;
    let id = hub.ask(&read_each(4)).await;
    assert_eq!(hub.ended(id).await.answer.as_deref(), Some("[]"));
    none.leave().await;
    let _text = files(&hub, json!("a.txt, b.txt")).await;
    let id = hub.ask(&read_each(4)).await;
    let error = hub.ended(id).await.error.unwrap();
    assert_eq!(error.code, ErrorCode::PlanInvalid);
    assert!(error.detail.contains("`/files` of step `list` is no list; it is a text"), "{}", error.detail);
}

#[tokio::test]
async fn a_condition_decides_whether_a_step_runs_and_the_answer_is_written_either_way() {
    let hub = Hub::start().await;
    let _files = files(&hub, json!(["a", "b"])).await;
    let _llm = StandIn::saying(&hub.url, "Looked.").await;
    for (path, ran) in [("/files/1", true), ("/files/2", false)] {
        let request = graph(&json!([
            {"id": "list", "kind": "tool", "tool": "files.list"},
            {"id": "read", "kind": "tool", "tool": "files.read", "inputs": {"path": "x"},
             "when": {"value": {"$from": "list", "path": path}, "is": {"exists": true}}},
            {"id": "more", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$from": "read", "path": "/read"}}},
            {"id": "answer", "kind": "answer", "depends_on": ["more"]},
        ]));
        let task = hub.ask(&request).await;
        let task = hub.ended(task).await;
        assert_eq!((task.status, task.answer.as_deref()), (TaskStatus::Succeeded, Some("Looked.")));
        let wanted = if ran { StepStatus::Succeeded } else { StepStatus::Cancelled };
        assert_eq!((step(&task, "read").status, step(&task, "more").status), (wanted, wanted));
        if !ran {
            let reason = &step(&task, "read").error.as_ref().unwrap().detail;
            assert!(reason.contains("`/files/2` of step `list` is not there"), "{reason}");
        }
    }
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_the_door() {
    let hub = Hub::start().await;
    let mut list = tool("files.list", SideEffect::Read, true);
    list.result =
        json!({"type": "object", "properties": {"files": {"type": "array", "items": {"type": "string"}}}});
    let mut read = tool("files.read", SideEffect::Read, true);
    read.arguments = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let execute = |_| -> Boxed<_> { Box::pin(async { Ok(json!(1)) }) };
    let _tools = StandIn::tools(&hub.url, vec![list, read], execute).await;
    for (path, code, told) in [
        (
            "/files",
            ErrorCode::InvalidArguments,
            "is a list, but a text is wanted; to run the step once for each item",
        ),
        (
            "/names",
            ErrorCode::InvalidArguments,
            "never returns anything at `/names`: there is no `names`; there is `files`",
        ),
    ] {
        let request = graph(&json!([
            {"id": "list", "kind": "tool", "tool": "files.list"},
            {"id": "read", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$from": "list", "path": path}}},
        ]));
        let problem = hub.try_ask(&request, None).await.unwrap_err();
        assert_eq!(problem.code, code);
        assert!(problem.detail.contains(told), "{problem}");
    }
    let none = TaskRequest { max_tokens_out: Some(0), ..asks("x") };
    assert_eq!(hub.try_ask(&none, None).await.unwrap_err().code, ErrorCode::ValidationFailed);
}

/// A calculator that knows `*` but not `x`, and a model that tries `x` in so many plans first.
async fn learns(hub: &Hub, wrong: usize) -> (StandIn, StandIn, Arc<Mutex<Vec<ReasonRequest>>>) {
    let execute = |request: ExecuteRequest| -> Boxed<_> {
        Box::pin(async move {
            match request.arguments["expression"].as_str() {
                Some(text) if text.contains('x') => {
                    Err(Problem::new(ErrorCode::ToolFailed, "There is no operator `x`; use `*`."))
                }
                _ => Ok(json!({"value": 408})),
            }
        })
    };
    let tools = StandIn::tools(&hub.url, vec![calculator()], execute).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, plans) = (Arc::clone(&asked), AtomicUsize::new(0));
    let reason = move |request: ReasonRequest| -> Boxed<_> {
        let text = if wants_plan(&request) {
            let sign = if plans.fetch_add(1, Ordering::SeqCst) < wrong { "x" } else { "*" };
            format!("s1 = calc.evaluate(expression=\"12 {sign} 34\")\nanswer")
        } else {
            "It is 408.".to_owned()
        };
        noted.lock().unwrap().push(request);
        Box::pin(async move { Ok(says(&text)) })
    };
    let llm = StandIn::llm(&hub.url, "learner", reason).await;
    (tools, llm, asked)
}

#[tokio::test]
async fn a_call_that_failed_is_planned_anew_with_its_error() {
    let hub = Hub::start().await;
    let (_tools, _llm, asked) = learns(&hub, 1).await;
    let id = hub.ask(&asks("Calculate 12 * 34 with the calculator")).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    let ids: Vec<&str> = task.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["plan", "s1", "answer", "plan2", "s2"]);
    assert_eq!(step(&task, "plan2").added_by.as_ref().unwrap().as_str(), "s1");
    assert_eq!(step(&task, "s2").added_by.as_ref().unwrap().as_str(), "plan2");
    assert_eq!(step(&task, "s2").output, Some(json!({"value": 408})));
    let asked = asked.lock().unwrap();
    let prompt: String = asked[1].messages.iter().map(|message| message.content.as_str()).collect();
    assert!(prompt.contains("FAILED: There is no operator `x`; use `*`."), "{prompt}");
    assert_eq!(asked.len(), 3, "two plans and the answer, which came last");
    let answer: String = asked[2].messages.iter().map(|message| message.content.as_str()).collect();
    assert!(answer.contains("[s1]") && answer.contains("[s2]"), "{answer}");
}

#[tokio::test]
async fn a_plan_may_wait_for_its_results_before_it_goes_on() {
    let hub = Hub::start().await;
    let execute = |_| -> Boxed<_> { Box::pin(async { Ok(json!({"value": 408})) }) };
    let _tools = StandIn::tools(&hub.url, vec![calculator()], execute).await;
    let plans = AtomicUsize::new(0);
    let reason = move |request: ReasonRequest| -> Boxed<_> {
        let told: String = request.messages.iter().map(|message| message.content.as_str()).collect();
        let text = match (wants_plan(&request), plans.fetch_add(1, Ordering::SeqCst)) {
            (true, 0) => "s1 = calc.evaluate(expression=\"12 * 34\")\nplan",
            (true, _) if told.contains("408") => "s1 = calc.evaluate(expression=\"408 * 2\")\nanswer",
            (true, _) => "answer",
            (false, _) => "Done.",
        };
        Box::pin(async move { Ok(says(text)) })
    };
    let _llm = StandIn::llm(&hub.url, "careful", reason).await;
    let id = hub.ask(&asks("Calculate 12 * 34 with the calculator, then double it")).await;
    let task = hub.ended(id).await;
    let ids: Vec<&str> = task.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["plan", "s1", "plan2", "s2", "answer"], "{task:?}");
    assert_eq!(task.status, TaskStatus::Succeeded);
}

#[tokio::test]
async fn there_are_at_most_three_plans() {
    let hub = Hub::start().await;
    let (_tools, _llm, asked) = learns(&hub, 99).await;
    let id = hub.ask(&asks("Calculate 12 * 34 with the calculator")).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "the answer says what failed: {task:?}");
    let ids: Vec<&str> = task.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["plan", "s1", "answer", "plan2", "s2", "plan3", "s3"]);
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_task_writes_no_more_tokens_than_it_may() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "one two three four").await;
    let steps = json!([
        {"id": "a", "kind": "reason", "inputs": {"instruction": "x"}},
        {"id": "b", "kind": "reason", "inputs": {"instruction": "x"}, "depends_on": ["a"]},
        {"id": "answer", "kind": "answer", "depends_on": ["b"]},
    ]);
    for (budget, fails) in [(4, Some("b")), (6, Some("b")), (8, Some("answer")), (13, None)] {
        let request = TaskRequest { max_tokens_out: Some(budget), ..graph(&steps) };
        let id = hub.ask(&request).await;
        let task = hub.ended(id).await;
        let Some(fails) = fails else {
            assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
            continue;
        };
        let error = task.error.as_ref().unwrap();
        assert_eq!((task.status, error.code), (TaskStatus::Failed, ErrorCode::BudgetExceeded));
        assert!(error.detail.contains(&format!("budget of {budget} tokens")), "{}", error.detail);
        assert_eq!(step(&task, fails).error.as_ref().unwrap().code, ErrorCode::BudgetExceeded);
        let granted: u64 = hub
            .records(id)
            .await
            .iter()
            .filter_map(|record| match &record.event {
                TaskEvent::StepStarted { max_tokens, step, .. } if step.as_str() == "b" => *max_tokens,
                _ => None,
            })
            .map(u64::from)
            .sum();
        assert!(granted <= u64::from(budget) - 4, "{granted} of {budget}");
    }
}
