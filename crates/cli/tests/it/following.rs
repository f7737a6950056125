//! A client that follows a task by its event stream, and checks that no text is missing and none comes twice.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use kamil_node::{Client, Method};
use kamil_protocol::{
    NodeId, TaskId,
    event::{Delta, EventRecord, TaskEvent},
    task::{StepKind, TaskAccepted, TaskDoc, TaskRequest},
};
use tokio::runtime::Runtime;

use crate::binary::wait_until;

/// A client of an orchestrator.
pub(crate) struct Follower {
    client: Client,
    runtime: Runtime,
}

/// What one has seen of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The answer, put together from its pieces.
    pub(crate) text: String,
    /// Pieces that did not begin where the one before ended.
    pub(crate) misplaced: Vec<Delta>,
    pub(crate) records: Vec<EventRecord>,
    pub(crate) ended: bool,
}

/// A task that is followed.
pub(crate) struct Followed {
    pub(crate) id: TaskId,
    seen: Arc<Mutex<Seen>>,
}

impl Follower {
    pub(crate) fn new(url: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { client: Client::new(url, None).unwrap(), runtime }
    }

    /// Asks, and follows what comes of it.
    #[track_caller]
    pub(crate) fn ask(&self, request: &TaskRequest) -> Followed {
        let accepted: TaskAccepted = self.runtime.block_on(self.client.post("/v1/tasks", request)).unwrap();
        let path = format!("/v1/tasks/{}/events", accepted.id);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (client, shared) = (self.client.clone(), Arc::clone(&seen));
        self.runtime.spawn(async move {
            let mut events = client.stream(Method::GET, &path, None::<&()>, &[]).await.unwrap();
            while let Some(Ok(event)) = events.next().await {
                let mut seen = shared.lock().unwrap();
                match event.event.as_str() {
                    "delta" => seen.take(&serde_json::from_str(&event.data).unwrap()),
                    "record" => seen.records.push(serde_json::from_str(&event.data).unwrap()),
                    _ => seen.ended = true,
                }
            }
        });
        Followed { id: accepted.id, seen }
    }

    /// Asks for the task to be stopped.
    #[track_caller]
    pub(crate) fn cancel(&self, task: TaskId) {
        let path = format!("/v1/tasks/{task}/cancel");
        let _: TaskDoc = self.runtime.block_on(self.client.post(&path, &serde_json::json!({}))).unwrap();
    }

    /// The task as it is.
    #[track_caller]
    pub(crate) fn document(&self, task: TaskId) -> TaskDoc {
        self.runtime.block_on(self.client.get(&format!("/v1/tasks/{task}"))).unwrap()
    }
}

impl Seen {
    fn take(&mut self, delta: &Delta) {
        if delta.offset != self.text.chars().count() as u64 {
            self.misplaced.push(delta.clone());
        }
        self.text.push_str(&delta.text);
    }

    /// The nodes that the answer was placed on, one for each attempt.
    pub(crate) fn writers(&self) -> Vec<NodeId> {
        let answers = |event: &TaskEvent| match event {
            TaskEvent::StepsAdded { steps, .. } => {
                steps.iter().find(|spec| spec.kind == StepKind::Answer).map(|spec| spec.id.clone())
            }
            _ => None,
        };
        let Some(answer) = self.records.iter().find_map(|record| answers(&record.event)) else {
            return Vec::new();
        };
        let started = self.records.iter().filter_map(|record| match &record.event {
            TaskEvent::StepStarted { step, node, .. } if *step == answer => Some(*node),
            _ => None,
        });
        started.collect()
    }

    /// Where the answer went on, from which node and to which.
    pub(crate) fn splices(&self) -> Vec<(u64, NodeId, NodeId)> {
        let splices = self.records.iter().filter_map(|record| match &record.event {
            TaskEvent::StreamSpliced { offset, from, to, .. } => Some((*offset, *from, *to)),
            _ => None,
        });
        splices.collect()
    }
}

impl Followed {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until at least so many words of the answer have come.
    #[track_caller]
    pub(crate) fn wait_for_words(&self, count: usize) {
        wait_until("words of the answer appear", || {
            let seen = self.seen.lock().unwrap();
            assert!(!seen.ended, "the task ended early: {seen:#?}");
            seen.text.split_whitespace().count() >= count
        });
    }

    /// Waits for the end of the task.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) -> Seen {
        wait_until("the task ends", || self.seen.lock().unwrap().ended);
        self.seen()
    }
}
