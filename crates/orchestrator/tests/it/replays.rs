//! Tasks decided again from their records. `Hub::ended` does that for every task of every other test.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use kamil_orchestrator::{History, replay};
use kamil_protocol::{
    ErrorCode, Problem, TaskId,
    event::TaskEvent,
    replay::ReplayReport,
    task::{StepKind, TaskDoc, TaskStatus},
    tool::SideEffect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, asks, directly, graph, one_tool},
    planning::{REQUEST, hopeless, wants_plan, with_calculator},
    stand_in::{Boxed, StandIn, says, tool},
};

/// A task with a plan, a tool, an answer and something to remember.
async fn planned() -> (Hub, TaskId) {
    let hub = Hub::start().await;
    let (_memory, _) = StandIn::memory(&hub.url).await;
    let (_tools, _) = with_calculator(&hub).await;
    let reason = |request| -> Boxed<_> {
        let plan = wants_plan(&request);
        let text = if plan { "s1 = calc.evaluate(expression=\"12 * 34\")\nanswer" } else { "It is 408." };
        Box::pin(async move { Ok(says(text)) })
    };
    let _llm = StandIn::llm(&hub.url, "planner", reason).await;
    let id = hub.ask(&asks(REQUEST)).await;
    let task = hub.ended(id).await;
    let kinds = crate::hub::kinds(&task);
    let all = [StepKind::Recall, StepKind::Plan, StepKind::Tool, StepKind::Answer, StepKind::Remember];
    assert_eq!(kinds, all, "{task:?}");
    (hub, id)
}

fn again(history: &History) -> ReplayReport {
    replay(history.records[0].task, history)
}

/// Replays the history after a change, which must be noticed.
fn difference(
    history: &History,
    change: impl FnOnce(&mut History),
) -> kamil_protocol::replay::ReplayDifference {
    let mut changed = history.clone();
    change(&mut changed);
    let report = again(&changed);
    assert!(!report.same);
    report.difference.unwrap()
}

fn position(history: &History, wanted: impl Fn(&TaskEvent) -> bool) -> usize {
    history.records.iter().position(|record| wanted(&record.event)).unwrap()
}

#[tokio::test]
async fn an_altered_record_is_named_with_the_field_that_differs() {
    let (hub, id) = planned().await;
    let history = hub.history(id);
    assert!(again(&history).same);
    assert!(history.tools.len() == 1, "the tools are kept once");

    let added = position(
        &history,
        |event| matches!(event, TaskEvent::StepsAdded { cause: Some(cause), .. } if cause.as_str() == "plan"),
    );
    let found = difference(&history, |history| {
        if let TaskEvent::StepsAdded { steps, .. } = &mut history.records[added].event {
            steps[0].inputs["expression"] = json!("12 * 35");
        }
    });
    assert_eq!(found.position as usize, added + 1, "{found:?}");
    assert_eq!(found.field.as_deref(), Some("/steps/0/inputs/expression"));
    assert_eq!((found.recorded, found.decided), (Some(json!("12 * 35")), Some(json!("12 * 34"))));

    let started = position(
        &history,
        |event| matches!(event, TaskEvent::StepStarted { step, .. } if step.as_str() == "answer"),
    );
    let found = difference(&history, |history| {
        if let TaskEvent::StepStarted { request_digest, .. } = &mut history.records[started].event {
            *request_digest = Some("0".repeat(32));
        }
    });
    assert_eq!(found.field.as_deref(), Some("/request_digest"), "another prompt: {found:?}");
    assert_eq!(found.step.unwrap().as_str(), "answer");

    let found = difference(&history, |history| {
        history.records.pop();
    });
    assert!(found.seq.is_none() && found.detail.contains("`task_completed`"), "{found:?}");

    let found = difference(&history, |history| history.tools.clear());
    assert!(found.detail.contains("are not kept"), "{found:?}");
    let found = difference(&history, |history| history.tools[0] = history.tools[0].replace("calc.", "calk."));
    assert!(found.detail.contains("not those that were registered"), "{found:?}");
}

#[tokio::test]
async fn a_result_that_would_lead_elsewhere_is_noticed() {
    let (hub, id) = planned().await;
    let history = hub.history(id);
    let planned = position(
        &history,
        |event| matches!(event, TaskEvent::StepSucceeded { step, .. } if step.as_str() == "plan"),
    );
    let found = difference(&history, |history| {
        if let TaskEvent::StepSucceeded { output, .. } = &mut history.records[planned].event {
            *output = json!("s1 = no.such(x=1)\nanswer");
        }
    });
    assert_eq!(found.position as usize, planned + 1);
    assert!(found.detail.contains("`step_failed` of step `plan` would be decided now"), "{found:?}");
    let recalled = position(
        &history,
        |event| matches!(event, TaskEvent::StepSucceeded { step, .. } if step.as_str() == "recall"),
    );
    let found = difference(&history, |history| {
        if let TaskEvent::StepSucceeded { labels, .. } = &mut history.records[recalled].event {
            labels.trust = kamil_protocol::task::Trust::Untrusted;
        }
    });
    assert_eq!(found.field.as_deref(), Some("/labels/trust"), "{found:?}");
}

#[tokio::test]
async fn the_choice_among_candidates_is_judged_by_what_was_predicted() {
    let hub = Hub::start().await;
    let _one = StandIn::saying(&hub.url, "One.").await;
    let _two = StandIn::saying(&hub.url, "Two.").await;
    let id = hub.ask(&directly("which?")).await;
    hub.ended(id).await;
    let history = hub.history(id);
    let started = position(&history, |event| matches!(event, TaskEvent::StepStarted { .. }));
    let found = difference(&history, |history| {
        if let TaskEvent::StepStarted { placement, .. } = &mut history.records[started].event {
            placement.chosen.as_mut().unwrap().weight.as_mut().unwrap().score_ms += 1e6;
        }
    });
    assert_eq!(found.field.as_deref(), Some("/node"), "{found:?}");
}

#[tokio::test]
async fn a_task_that_is_not_there_and_one_that_has_not_ended() {
    let hub = Hub::start().await;
    let unknown = TaskId::generate();
    let problem = hub.client.get::<Value>(&format!("/v1/tasks/{unknown}/replay")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::TaskUnknown);
    let id = hub.ask(&directly("anyone?")).await;
    let report = hub.replay(id).await;
    assert!(report.same && report.records >= 3, "{report:?}");
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    name: String,
    task: TaskId,
    history: History,
}

fn recorded() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded.jsonl"))
}

/// Tasks that an earlier build recorded. A decision that this build takes otherwise needs a reason; then
/// `UPDATE_RECORDED=1 cargo test -p kamil-orchestrator --test it recorded` records them anew.
#[tokio::test]
async fn tasks_that_an_earlier_build_recorded_are_decided_as_they_were() {
    if std::env::var_os("UPDATE_RECORDED").is_some() {
        record().await;
    }
    let text = std::fs::read_to_string(recorded()).unwrap();
    let mut names = Vec::new();
    for line in text.lines() {
        let Recorded { name, task, history } = serde_json::from_str(line).unwrap();
        let report = replay(task, &history);
        assert!(report.same, "{name}: {report:#?}");
        assert_eq!(report.records as usize, history.records.len());
        names.push(name);
    }
    assert_eq!(names, ["planned", "repaired", "asked", "list", "forked"]);
}

/// Records one task of each kind. What is asked of models may change from build to build, so its digest is left out.
async fn record() {
    let mut lines = String::new();
    let mut keep = |name: &str, hub: &Hub, id: TaskId| {
        let mut history = hub.history(id);
        for record in &mut history.records {
            if let TaskEvent::StepStarted { request_digest, .. } = &mut record.event {
                *request_digest = None;
            }
        }
        let recorded = Recorded { name: name.to_owned(), task: id, history };
        lines.push_str(&serde_json::to_string(&recorded).unwrap());
        lines.push('\n');
    };
    let (hub, id) = planned().await;
    keep("planned", &hub, id);

    let repaired = Hub::start().await;
    let (_tools, _) = with_calculator(&repaired).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let _first = StandIn::llm(&repaired.url, "first", hopeless(&asked)).await;
    let _second = StandIn::llm(&repaired.url, "second", hopeless(&asked)).await;
    let repaired_id = repaired.ask(&asks(REQUEST)).await;
    repaired.ended(repaired_id).await;
    keep("repaired", &repaired, repaired_id);

    let asking = Hub::start().await;
    let execute = |request: kamil_protocol::tool::ExecuteRequest| -> Boxed<Result<Value, Problem>> {
        let asked = json!({"tool": request.tool, "arguments": request.arguments, "reason": "external actions are asked", "digest": "ab".repeat(32)});
        Box::pin(async move {
            Err(Problem::new(ErrorCode::ApprovalRequired, "The person has to agree.").data(asked))
        })
    };
    let _mail =
        StandIn::tools(&asking.url, vec![tool("mail.send", SideEffect::External, false)], execute).await;
    let asked_id = asking.ask(&one_tool("mail.send")).await;
    asking.until(asked_id, |task| task.status == TaskStatus::AwaitingApproval).await;
    let path = format!("/v1/tasks/{asked_id}/steps/run/approval");
    let _: TaskDoc = asking.client.post(&path, &json!({"decision": "deny"})).await.unwrap();
    asking.ended(asked_id).await;
    keep("asked", &asking, asked_id);

    let lists = Hub::start().await;
    let execute = |request: kamil_protocol::tool::ExecuteRequest| -> Boxed<Result<Value, Problem>> {
        let names = json!({"names": ["a", "b"]});
        let output = if request.tool == "files.list" { names } else { json!({"read": request.arguments}) };
        Box::pin(async move { Ok(output) })
    };
    let tools = ["files.list", "files.read"].map(|name| tool(name, SideEffect::Read, true));
    let _files = StandIn::tools(&lists.url, tools.to_vec(), execute).await;
    let request = graph(&json!([
        {"id": "all", "kind": "tool", "tool": "files.list"},
        {"id": "each", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$item": ""}},
            "for_each": {"over": {"$from": "all", "path": "/names"}, "limit": 5}},
    ]));
    let list_id = lists.ask(&request).await;
    lists.ended(list_id).await;
    keep("list", &lists, list_id);

    let _answers = StandIn::saying(&hub.url, "So it is 7.").await;
    let fork = json!({"step": "s1", "output": {"value": 7}});
    let fork: kamil_protocol::task::TaskAccepted =
        hub.client.post(&format!("/v1/tasks/{id}/forks"), &fork).await.unwrap();
    hub.ended(fork.id).await;
    keep("forked", &hub, fork.id);
    std::fs::write(recorded(), lines).unwrap();
}
