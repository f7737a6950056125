//! Steps that wait for a slot: who goes first, and what is told of the places.

use std::sync::{Arc, Mutex};

use kamil_orchestrator::OrchestratorOptions;
use kamil_protocol::{
    ErrorCode, Page, Problem, TaskId,
    reason::ReasonRequest,
    task::{Priority, QueuePlace, TaskRequest, TaskStatus, TaskSummary},
};
use tokio::sync::Semaphore;

use crate::{
    hub::{Hub, directly, quick, step},
    stand_in::{Boxed, Script, StandIn, says},
};

/// A model that answers once it is let, and remembers in which order it was asked.
pub(crate) struct Gate {
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    leave: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { asked: Arc::default(), leave: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn reasoner(&self) -> impl Fn(ReasonRequest) -> Boxed<Result<Script, Problem>> + use<> {
        let (asked, leave) = (Arc::clone(&self.asked), Arc::clone(&self.leave));
        move |request| {
            let input = request.messages.last().unwrap().content.clone();
            let name = input.split_whitespace().last().unwrap_or_default().to_owned();
            asked.lock().unwrap().push(name);
            let leave = Arc::clone(&leave);
            Box::pin(async move {
                leave.acquire().await.unwrap().forget();
                Ok(says("Done."))
            })
        }
    }

    /// Lets so many requests be answered.
    pub(crate) fn open(&self, requests: usize) {
        self.leave.add_permits(requests);
    }

    pub(crate) fn order(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn batch(input: &str) -> TaskRequest {
    TaskRequest { priority: Priority::Batch, ..directly(input) }
}

async fn place(hub: &Hub, id: TaskId) -> Option<(u32, u32)> {
    let task = hub.task(id).await;
    let answer = step(&task, "answer");
    if let Some(QueuePlace { position, of }) = answer.queue {
        let told = answer.waiting.as_ref().unwrap();
        assert!(told.contains(&format!("position {position} of {of}")), "{told}");
    }
    answer.queue.map(|place| (place.position, place.of))
}

#[tokio::test]
async fn a_slot_that_comes_free_goes_to_the_head_of_the_queue() {
    let hub = Hub::start().await;
    let gate = Gate::new();
    let llm = StandIn::llm_with_slots(&hub.url, "one", 1, gate.reasoner()).await;
    let a = hub.try_ask(&directly("a"), None).await.unwrap();
    assert!(a.waiting.is_empty(), "{a:?}");
    let mut ids = vec![a.id];
    for (request, position) in [(batch("b"), 1), (batch("c"), 2), (directly("d"), 1), (directly("e"), 2)] {
        let accepted = hub.try_ask(&request, None).await.unwrap();
        assert_eq!(accepted.status, TaskStatus::Queued);
        let waiting = &accepted.waiting[0];
        let of = u32::try_from(ids.len()).unwrap();
        assert_eq!(waiting.queue, Some(QueuePlace { position, of }), "{}", request.input);
        ids.push(accepted.id);
    }
    let mut places = Vec::new();
    for id in &ids {
        places.push(place(&hub, *id).await);
    }
    assert_eq!(places, [None, Some((3, 4)), Some((4, 4)), Some((1, 4)), Some((2, 4))]);
    assert_eq!(hub.metric("kamil_steps_waiting").await, 4);
    let page: Page<TaskSummary> = hub.client.get("/v1/tasks?status=queued&limit=3").await.unwrap();
    let places = |summary: &TaskSummary| summary.waiting[0].queue.map(|place| place.position);
    assert_eq!(page.items.iter().map(places).collect::<Vec<_>>(), [Some(2), Some(1), Some(4)]);
    assert_eq!(page.items[2].priority, Priority::Batch);
    let next = page.next_cursor.unwrap();
    let path = format!("/v1/tasks?status=queued&cursor={next}");
    let page: Page<TaskSummary> = hub.client.get(&path).await.unwrap();
    assert_eq!(page.items.iter().map(|task| task.id).collect::<Vec<_>>(), [ids[1]]);
    assert!(page.next_cursor.is_none());
    let page: Page<TaskSummary> = hub.client.get("/v1/tasks?status=running").await.unwrap();
    let running = &page.items[0].running[0];
    assert_eq!((page.items.len(), page.items[0].id, running.step.as_str()), (1, ids[0], "answer"));
    assert_eq!((running.node, running.model.as_deref()), (llm.id, Some("one")));
    let left = page.items[0].deadline_at.unwrap().duration_since(page.items[0].created_at);
    assert_eq!(left.as_secs(), 3_600);
    let page: Page<TaskSummary> = hub.client.get("/v1/tasks?status=succeeded").await.unwrap();
    assert!(page.items.is_empty() && page.next_cursor.is_none());
    let problem = hub.client.get::<Page<TaskSummary>>("/v1/tasks?status=done").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidParameter);
    let cancelled: kamil_protocol::task::TaskDoc =
        hub.client.post(&format!("/v1/tasks/{}/cancel", ids[4]), &()).await.unwrap();
    assert_eq!(cancelled.status, TaskStatus::Cancelled);
    hub.until(ids[1], |task| step(task, "answer").queue == Some(QueuePlace { position: 2, of: 3 })).await;
    gate.open(4);
    for id in &ids[..4] {
        assert_eq!(hub.ended(*id).await.status, TaskStatus::Succeeded);
    }
    assert_eq!(gate.order(), ["a", "d", "b", "c"]);
    let page: Page<TaskSummary> = hub.client.get("/v1/tasks?status=succeeded&limit=2").await.unwrap();
    assert_eq!(page.items.iter().map(|task| task.id).collect::<Vec<_>>(), [ids[3], ids[2]]);
    assert_eq!(hub.metric("kamil_steps_waiting").await, 0);
}

#[tokio::test]
async fn a_node_that_comes_takes_from_the_queue_at_once() {
    let hub = Hub::start().await;
    let (full, empty) = (Gate::new(), Gate::new());
    let _full = StandIn::llm_with_slots(&hub.url, "full", 1, full.reasoner()).await;
    let ids = [hub.ask(&directly("a")).await, hub.ask(&directly("b")).await, hub.ask(&batch("c")).await];
    assert_eq!(place(&hub, ids[2]).await, Some((2, 2)));
    let second = StandIn::llm_with_slots(&hub.url, "second", 1, empty.reasoner()).await;
    let moved = hub.until(ids[1], |task| task.status == TaskStatus::Running).await;
    assert_eq!(step(&moved, "answer").node, Some(second.id));
    assert_eq!(place(&hub, ids[2]).await, Some((1, 1)));
    empty.open(2);
    assert_eq!(hub.ended(ids[2]).await.status, TaskStatus::Succeeded);
    assert_eq!(empty.order(), ["b", "c"]);
    full.open(1);
    hub.ended(ids[0]).await;
}

#[tokio::test]
async fn who_waits_for_a_model_of_their_own_does_not_hold_up_the_others() {
    let hub = Hub::start().await;
    let (left, right) = (Gate::new(), Gate::new());
    let _left = StandIn::llm_with_slots(&hub.url, "left", 1, left.reasoner()).await;
    let _right = StandIn::llm_with_slots(&hub.url, "right", 1, right.reasoner()).await;
    let with = |model: &str, input: &str| TaskRequest { model: Some(model.to_owned()), ..directly(input) };
    for input in ["a", "b", "c"] {
        hub.ask(&with("left", input)).await;
    }
    let d = hub.ask(&with("right", "d")).await;
    let d = hub.until(d, |task| task.status == TaskStatus::Running).await;
    assert_eq!(step(&d, "answer").model.as_deref(), Some("right"));
    right.open(1);
    hub.ended(d.id).await;
    left.open(3);
}

#[tokio::test]
async fn what_waits_for_a_node_that_goes_says_that_it_is_missing() {
    let hub = Hub::start().await;
    let gate = Gate::new();
    let llm = StandIn::llm_with_slots(&hub.url, "one", 1, gate.reasoner()).await;
    let a = hub.ask(&directly("a")).await;
    let b = hub.ask(&directly("b")).await;
    assert_eq!(place(&hub, b).await, Some((1, 1)));
    let leaving = tokio::spawn(llm.leave());
    let missing = |reason: &String| reason.contains("No LLM node");
    let waiting = hub.until(b, |task| step(task, "answer").waiting.as_ref().is_some_and(missing)).await;
    assert!(step(&waiting, "answer").queue.is_none());
    for id in [a, b] {
        let task = hub.ended(id).await;
        assert_eq!(task.error.unwrap().code, ErrorCode::NoNode);
    }
    gate.open(1);
    leaving.await.unwrap();
}

#[tokio::test]
async fn over_the_limit_of_open_tasks_nothing_is_accepted() {
    let hub = Hub::with(OrchestratorOptions { max_open_tasks: 2, ..quick() }).await;
    let gate = Gate::new();
    let _llm = StandIn::llm_with_slots(&hub.url, "one", 1, gate.reasoner()).await;
    let a = hub.ask(&directly("a")).await;
    let b = hub.try_ask(&directly("b"), None).await.unwrap();
    assert_eq!(b.waiting[0].queue, Some(QueuePlace { position: 1, of: 1 }));
    let problem = hub.try_ask(&directly("c"), None).await.unwrap_err();
    assert_eq!((problem.code, problem.retry_after_ms), (ErrorCode::Busy, Some(1_000)));
    gate.open(2);
    hub.ended(a).await;
    hub.ended(b.id).await;
    gate.open(1);
    assert_eq!(hub.ended(hub.ask(&directly("c")).await).await.status, TaskStatus::Succeeded);
}
