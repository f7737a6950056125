//! An orchestrator under test, and a person who uses it.

use std::{path::PathBuf, time::Duration};

use futures::StreamExt as _;
use kamil_node::{Client, Home, Method, NodeOptions, RunningNode, SseEvent};
use kamil_orchestrator::{History, OrchestratorOptions, start};
use kamil_protocol::{
    Problem, TaskId,
    event::{Delta, EventRecord, TaskEvent},
    replay::ReplayReport,
    task::{StepDoc, StepKind, StepSpec, StepStatus, TaskAccepted, TaskDoc, TaskRequest},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longest that a test waits for something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Hub {
    pub(crate) url: String,
    pub(crate) client: Client,
    home: TempDir,
    running: Option<RunningNode>,
    stop: CancellationToken,
}

pub(crate) fn quick() -> OrchestratorOptions {
    OrchestratorOptions { no_node_wait: Duration::from_millis(800), ..OrchestratorOptions::default() }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::with(quick()).await
    }

    pub(crate) async fn with(options: OrchestratorOptions) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (running, stop) = run(&home, options, 0).await;
        Self { url: running.url.clone(), client: client(&running.url), home, running: Some(running), stop }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.home.path().join("journal.db")
    }

    pub(crate) fn home(&self) -> Home {
        Home::resolve(Some(self.home.path().to_owned())).unwrap()
    }

    pub(crate) fn node_options(&self) -> NodeOptions {
        NodeOptions::local(self.home())
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.stopped().await.unwrap();
        }
    }

    /// Stops, and starts again at the same address on the same home.
    pub(crate) async fn restart(&mut self) {
        let port = self.running.as_ref().unwrap().addr.port();
        self.stop().await;
        let (running, stop) = run(&self.home, quick(), port).await;
        (self.running, self.stop) = (Some(running), stop);
    }

    pub(crate) async fn ask(&self, request: &TaskRequest) -> TaskId {
        self.try_ask(request, None).await.unwrap().id
    }

    pub(crate) async fn try_ask(
        &self,
        request: &TaskRequest,
        key: Option<&str>,
    ) -> Result<TaskAccepted, Problem> {
        let headers: Vec<_> = key.map(|key| ("Idempotency-Key", key)).into_iter().collect();
        self.client.post_with_headers("/v1/tasks", request, &headers).await
    }

    pub(crate) async fn task(&self, id: TaskId) -> TaskDoc {
        self.client.get(&format!("/v1/tasks/{id}")).await.unwrap()
    }

    /// Waits until the task is as wanted.
    pub(crate) async fn until(&self, id: TaskId, wanted: impl Fn(&TaskDoc) -> bool) -> TaskDoc {
        let begun = std::time::Instant::now();
        loop {
            let task = self.task(id).await;
            if wanted(&task) {
                return task;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the task stays {}",
                serde_json::to_string_pretty(&task).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end. Whatever the task was like, its records alone must lead to the same decisions again.
    pub(crate) async fn ended(&self, id: TaskId) -> TaskDoc {
        let task = self.until(id, |task| task.status.is_final()).await;
        let report = self.replay(id).await;
        assert!(report.same, "{report:#?}");
        task
    }

    pub(crate) async fn replay(&self, id: TaskId) -> ReplayReport {
        self.client.get(&format!("/v1/tasks/{id}/replay")).await.unwrap()
    }

    /// What the journal has of a task.
    pub(crate) fn history(&self, id: TaskId) -> History {
        kamil_orchestrator::journal::history(&self.journal(), id).unwrap()
    }

    /// All of a task's event stream, from after `last`.
    pub(crate) async fn events(&self, id: TaskId, last: Option<u64>) -> Vec<SseEvent> {
        let last = last.map(|last| last.to_string());
        let headers: Vec<_> = last.iter().map(|last| ("Last-Event-ID", last.as_str())).collect();
        let path = format!("/v1/tasks/{id}/events");
        let stream = self.client.stream(Method::GET, &path, None::<&()>, &headers).await.unwrap();
        let all = stream.map(Result::unwrap).collect::<Vec<_>>();
        tokio::time::timeout(PATIENCE, all).await.unwrap()
    }

    pub(crate) async fn records(&self, id: TaskId) -> Vec<EventRecord> {
        let events = self.events(id, None).await;
        let records = events.iter().filter(|event| event.event == "record");
        records.map(|event| serde_json::from_str(&event.data).unwrap()).collect()
    }

    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.client.get_text("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(home: &TempDir, options: OrchestratorOptions, port: u16) -> (RunningNode, CancellationToken) {
    let mut node = NodeOptions::local(Home::resolve(Some(home.path().to_owned())).unwrap());
    node.bind.set_port(port);
    let stop = CancellationToken::new();
    (start(node, options, stop.clone()).await.unwrap(), stop)
}

fn client(url: &str) -> Client {
    Client::new(url, None).unwrap()
}

pub(crate) fn asks(input: &str) -> TaskRequest {
    TaskRequest { input: input.to_owned(), ..TaskRequest::default() }
}

pub(crate) fn directly(input: &str) -> TaskRequest {
    TaskRequest { direct: true, ..asks(input) }
}

/// A request with a graph of its own.
pub(crate) fn graph(steps: &Value) -> TaskRequest {
    let steps: Vec<StepSpec> = serde_json::from_value(steps.clone()).unwrap();
    TaskRequest { steps: Some(steps), ..asks("a graph of one's own") }
}

pub(crate) fn one_tool(name: &str) -> TaskRequest {
    graph(&json!([{"id": "run", "kind": "tool", "tool": name}]))
}

pub(crate) fn step<'a>(task: &'a TaskDoc, id: &str) -> &'a StepDoc {
    task.steps.iter().find(|step| step.id.as_str() == id).unwrap()
}

pub(crate) fn kinds(task: &TaskDoc) -> Vec<StepKind> {
    task.steps.iter().map(|step| step.kind).collect()
}

pub(crate) fn all_succeeded(task: &TaskDoc) -> bool {
    task.steps.iter().all(|step| step.status == StepStatus::Succeeded)
}

/// Names of the events, for comparing the order of things.
pub(crate) fn names(records: &[EventRecord]) -> Vec<String> {
    let name = |record: &EventRecord| {
        let value = serde_json::to_value(&record.event).unwrap();
        let step =
            value.get("step").and_then(Value::as_str).map(|step| format!(" {step}")).unwrap_or_default();
        format!("{}{step}", value["type"].as_str().unwrap())
    };
    records.iter().map(name).collect()
}

/// Puts deltas together as a client does: text up to the offset is kept, the rest replaced.
pub(crate) fn assemble(events: &[SseEvent]) -> String {
    let mut text: Vec<char> = Vec::new();
    for event in events.iter().filter(|event| event.event == "delta") {
        let delta: Delta = serde_json::from_str(&event.data).unwrap();
        let offset = usize::try_from(delta.offset).unwrap();
        assert!(offset <= text.len(), "a gap before {offset}");
        text.truncate(offset);
        text.extend(delta.text.chars());
    }
    text.into_iter().collect()
}

pub(crate) fn starts_of(records: &[EventRecord], id: &str) -> usize {
    let started = records
        .iter()
        .filter(|record| matches!(&record.event, TaskEvent::StepStarted { step, .. } if step.as_str() == id));
    started.count()
}
