//! Nodes that fail, leave, or are full.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kamil_protocol::{
    ErrorCode, Problem,
    event::TaskEvent,
    task::{Decision, StepStatus, TaskRequest, TaskStatus},
    tool::{ExecuteRequest, SideEffect},
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, PATIENCE, assemble, directly, graph, one_tool, starts_of, step},
    stand_in::{Boxed, Script, StandIn, says, tool},
};

fn broken() -> Problem {
    Problem::new(ErrorCode::Internal, "The engine broke.")
}

#[tokio::test]
async fn a_step_moves_to_another_node() {
    let hub = Hub::start().await;
    let bad = StandIn::llm(&hub.url, "bad", |_| Box::pin(async { Err(broken()) })).await;
    let first = hub.ask(&directly("only the bad one is there")).await;
    let failed = hub.ended(first).await;
    assert_eq!(failed.status, TaskStatus::Failed);
    assert_eq!(step(&failed, "answer").attempt, 3, "bounded");
    let good = StandIn::llm(&hub.url, "good", |_| Box::pin(async { Ok(says("All is well.")) })).await;
    let mut moved = false;
    for number in 0..6 {
        let id = hub.ask(&directly(&format!("question {number}"))).await;
        let task = hub.ended(id).await;
        assert_eq!(task.answer.as_deref(), Some("All is well."), "{task:?}");
        let answer = step(&task, "answer");
        assert_eq!(answer.node, Some(good.id));
        if answer.attempt == 2 {
            moved = true;
            let placement = answer.placement.as_ref().unwrap();
            assert!(placement.rejected.iter().any(|rejected| rejected.node == bad.id), "{placement:?}");
        }
    }
    assert!(moved || hub.metric("kamil_step_retries_total").await >= 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_goes_on_elsewhere_from_the_same_word() {
    let hub = Hub::start().await;
    let continued = Arc::new(Mutex::new(Vec::new()));
    let attempts = Arc::new(AtomicUsize::new(0));
    let mut nodes = Vec::new();
    for name in ["one", "two"] {
        let (continued, attempts) = (Arc::clone(&continued), Arc::clone(&attempts));
        let reason = move |request: kamil_protocol::reason::ReasonRequest| -> Boxed<_> {
            let first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
            continued.lock().unwrap().push(request.continue_from);
            Box::pin(async move {
                if first {
                    Ok(Script::Breaks(vec!["The capital ".to_owned(), "of Frañce ".to_owned()]))
                } else {
                    Ok(says("is Paris."))
                }
            })
        };
        nodes.push(StandIn::llm(&hub.url, name, reason).await);
    }
    let id = hub.ask(&directly("capital?")).await;
    let events = hub.events(id, None).await;
    let task = hub.ended(id).await;
    assert_eq!(task.answer.as_deref(), Some("The capital of Frañce is Paris."));
    assert_eq!(assemble(&events), "The capital of Frañce is Paris.");
    assert_eq!(*continued.lock().unwrap(), [None, Some("The capital of Frañce ".to_owned())]);
    let answer = step(&task, "answer");
    assert_eq!(answer.attempt, 2);
    let records = hub.records(id).await;
    let spliced = records.iter().find_map(|record| match &record.event {
        TaskEvent::StreamSpliced { attempt, offset, from, to, from_model, .. } => {
            Some((*attempt, *offset, *from, *to, from_model.clone()))
        }
        _ => None,
    });
    let (attempt, offset, from, to, from_model) = spliced.unwrap();
    assert_eq!((attempt, offset), (2, "The capital of Frañce ".chars().count() as u64));
    assert_eq!(Some(to), answer.node);
    assert!(from != to && nodes.iter().any(|node| node.id == from), "{records:?}");
    let told = format!(
        "`{}` goes on with the answer that `{}` began.",
        answer.model.as_ref().unwrap(),
        from_model.unwrap()
    );
    assert!(task.degraded.contains(&told), "{:?}", task.degraded);
}

#[tokio::test]
async fn a_node_that_leaves_while_it_works_is_noticed_at_once() {
    let hub = Hub::start().await;
    let hangs = |_| -> Boxed<_> { Box::pin(async { Ok(Script::Hangs(vec!["Let me ".to_owned()])) }) };
    let slow = StandIn::llm(&hub.url, "slow", hangs).await;
    let id = hub.ask(&directly("think")).await;
    hub.until(id, |task| task.answer.as_deref() == Some("Let me ")).await;
    let _quick = StandIn::llm(&hub.url, "quick", |_| Box::pin(async { Ok(says("see. Yes.")) })).await;
    let begun = std::time::Instant::now();
    let leaving = tokio::spawn(slow.leave());
    let task = hub.ended(id).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(task.answer.as_deref(), Some("Let me see. Yes."));
    leaving.await.unwrap();
}

#[tokio::test]
async fn a_full_node_is_asked_again_and_the_wait_is_told() {
    let hub = Hub::start().await;
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refusals);
    let reason = move |_| -> Boxed<_> {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if number < 5 {
                Err(Problem::new(ErrorCode::Busy, "full").retry_after_ms(20))
            } else {
                Ok(says("Now."))
            }
        })
    };
    let _llm = StandIn::llm(&hub.url, "busy", reason).await;
    let id = hub.ask(&directly("when?")).await;
    let waiting =
        hub.until(id, |task| step(task, "answer").waiting.is_some() || task.status.is_final()).await;
    assert!(
        step(&waiting, "answer").waiting.as_ref().is_some_and(|reason| reason.contains("full")),
        "{waiting:?}"
    );
    let task = hub.ended(id).await;
    assert_eq!(task.answer.as_deref(), Some("Now."));
    assert_eq!(step(&task, "answer").attempt, 6);
}

#[tokio::test]
async fn without_a_node_a_step_waits_and_then_says_what_is_missing() {
    let hub = Hub::start().await;
    let id = hub.ask(&directly("anyone?")).await;
    let waiting = hub.task(id).await;
    let reason = step(&waiting, "answer").waiting.clone().unwrap();
    assert!(reason.contains("LLM node"), "{reason}");
    let task = hub.ended(id).await;
    let error = task.error.unwrap();
    assert_eq!(error.code, ErrorCode::NoNode);
    assert!(error.next_step.unwrap().contains("kamil llm-node"));
    let id = hub.ask(&directly("again")).await;
    let _late = StandIn::saying(&hub.url, "Here I am.").await;
    assert_eq!(hub.ended(id).await.answer.as_deref(), Some("Here I am."));
}

#[tokio::test]
async fn memory_that_fails_does_not_stop_the_answer() {
    let hub = Hub::start().await;
    let _llm = StandIn::saying(&hub.url, "Still here.").await;
    let (memory, _) = StandIn::memory(&hub.url).await;
    let execute = |_| -> Boxed<_> { Box::pin(async { Ok(json!(1)) }) };
    let _tools = StandIn::tools(&hub.url, vec![tool("calc.evaluate", SideEffect::Pure, true)], execute).await;
    let request = crate::hub::asks("How are you today?");
    let asked = hub.ask(&request);
    drop(memory);
    let id = asked.await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    assert_eq!(task.answer.as_deref(), Some("Still here."));
}

#[tokio::test]
async fn a_tool_that_fails_is_told_of_and_not_repeated() {
    let hub = Hub::start().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let execute = move |_| -> Boxed<_> {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err(Problem::new(ErrorCode::ToolFailed, "no such file: data.csv")) })
    };
    let _tools =
        StandIn::tools(&hub.url, vec![tool("ml_tools.train", SideEffect::Write, false)], execute).await;
    let id = hub.ask(&one_tool("ml_tools.train")).await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert!(task.error.unwrap().detail.contains("data.csv"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

fn vanishing(
    runs: &Arc<Mutex<Vec<String>>>,
) -> impl Fn(ExecuteRequest) -> Boxed<Result<Value, Problem>> + use<> {
    let runs = Arc::clone(runs);
    move |request| {
        let mut runs = runs.lock().unwrap();
        runs.push(request.idempotency_key);
        let first = runs.len() == 1;
        Box::pin(async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(json!({"sent": true}))
        })
    }
}

#[tokio::test]
async fn what_must_not_run_twice_is_asked_of_the_same_node_under_the_same_key() {
    let hub = Hub::start().await;
    let runs = Arc::new(Mutex::new(Vec::new()));
    let mail = tool("mail.send", SideEffect::External, false);
    let node = StandIn::tools(&hub.url, vec![mail.clone()], vanishing(&runs)).await;
    let other_runs = Arc::new(AtomicUsize::new(0));
    let id = hub.ask(&one_tool("mail.send")).await;
    hub.until(id, |_| !runs.lock().unwrap().is_empty()).await;
    let counted = Arc::clone(&other_runs);
    let other = move |_| -> Boxed<_> {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(json!({"sent": "by another"})) })
    };
    let _other = StandIn::tools(&hub.url, vec![mail], other).await;
    let gone = node.leave().await;
    let back = gone.come_back().await;
    let task = hub.ended(id).await;
    assert_eq!(task.status, TaskStatus::Succeeded, "{task:?}");
    assert_eq!(step(&task, "run").node, Some(back.id));
    let key = format!("{id}/run");
    assert_eq!(*runs.lock().unwrap(), [key.clone(), key]);
    assert_eq!(other_runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn when_nobody_can_tell_the_person_decides() {
    for (decision, status) in
        [(Decision::Approve, TaskStatus::Succeeded), (Decision::Deny, TaskStatus::Failed)]
    {
        let hub = Hub::start().await;
        let runs = Arc::new(Mutex::new(Vec::new()));
        let mail = tool("mail.send", SideEffect::External, false);
        let node = StandIn::tools(&hub.url, vec![mail], vanishing(&runs)).await;
        let id = hub.ask(&one_tool("mail.send")).await;
        hub.until(id, |_| !runs.lock().unwrap().is_empty()).await;
        let gone = node.leave().await;
        let task = hub.until(id, |task| task.status == TaskStatus::AwaitingApproval).await;
        assert_eq!(step(&task, "run").status, StepStatus::OutcomeUnknown);
        let _back = gone.come_back().await;
        let path = format!("/v1/tasks/{id}/steps/run/approval");
        let _: Value = hub.client.post(&path, &json!({"decision": decision})).await.unwrap();
        let task = hub.ended(id).await;
        assert_eq!(task.status, status, "{task:?}");
        let runs = runs.lock().unwrap();
        match decision {
            Decision::Approve => assert_eq!(*runs, [format!("{id}/run"), format!("{id}/run/1")]),
            Decision::Deny => assert_eq!(runs.len(), 1),
        }
    }
}

#[tokio::test]
async fn a_deadline_ends_a_task() {
    let hub = Hub::start().await;
    let hangs = |_| -> Boxed<_> { Box::pin(async { Ok(Script::Hangs(Vec::new())) }) };
    let _llm = StandIn::llm(&hub.url, "slow", hangs).await;
    let id = hub.ask(&TaskRequest { deadline_ms: Some(1_000), ..directly("think") }).await;
    let task = tokio::time::timeout(PATIENCE, hub.ended(id)).await.unwrap();
    assert_eq!(task.status, TaskStatus::Cancelled);
    assert!(task.error.unwrap().detail.contains("time limit"));
    assert_eq!(starts_of(&hub.records(id).await, "answer"), 1);
}

#[tokio::test]
async fn a_step_ends_at_its_own_deadline_where_it_runs_and_where_it_waits() {
    let hub = Hub::start().await;
    let never = |_| -> Boxed<_> { Box::pin(std::future::pending()) };
    let tools =
        vec![tool("disk.scan", SideEffect::Read, true), tool("mail.send", SideEffect::External, false)];
    let _tools = StandIn::tools(&hub.url, tools, never).await;
    let hangs = |_| -> Boxed<_> { Box::pin(async { Ok(Script::Hangs(Vec::new())) }) };
    let _llm = StandIn::llm_with_slots(&hub.url, "slow", 1, hangs).await;
    let _holder = hub.ask(&directly("holds the only slot")).await;

    let scan = json!({"id": "run", "kind": "tool", "tool": "disk.scan", "deadline_ms": 300});
    let think =
        json!({"id": "run", "kind": "reason", "inputs": {"instruction": "think"}, "deadline_ms": 300});
    for (late, attempts) in [(scan, 1), (think, 0)] {
        let id = hub.ask(&graph(&json!([late]))).await;
        let task = hub.ended(id).await;
        let run = step(&task, "run");
        assert_eq!((run.status, run.attempt), (StepStatus::Failed, attempts), "{task:?}");
        assert_eq!(run.error.as_ref().unwrap().code, ErrorCode::DeadlineExceeded, "{task:?}");
        assert!(hub.replay(id).await.same);
    }

    // What may have had its effect is not told as undone.
    let send = json!({"id": "run", "kind": "tool", "tool": "mail.send", "deadline_ms": 300});
    let id = hub.ask(&graph(&json!([send]))).await;
    let task = hub.until(id, |task| task.status == TaskStatus::AwaitingApproval).await;
    assert_eq!(step(&task, "run").status, StepStatus::OutcomeUnknown, "{task:?}");
}
