//! All of Kamil's services in this process, on a folder of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kamil_llm::LlmOptions;
use kamil_memory::MemoryOptions;
use kamil_node::{Client, Home, Listener, NodeOptions, RunningNode};
use kamil_orchestrator::OrchestratorOptions;
use kamil_protocol::{
    MemoryId, SessionId, TaskId,
    memory::{AddMemory, MemoryKind, NewMemory, Origin, Provenance, RememberReply, RememberRequest},
    node::Role,
    task::{ApprovalDecision, Decision, StepDoc, TaskAccepted, TaskDoc, TaskRequest, TaskStatus},
};
use kamil_sandbox::Launcher;
use kamil_tools::{ToolsOptions, Worker};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kamil");
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    folder: TempDir,
    client: Client,
    /// As the orchestrator calls the memory node.
    memory: Client,
    nodes: Vec<RunningNode>,
    stop: CancellationToken,
}

impl World {
    pub(crate) async fn start(llm: &str, files: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().to_owned())).unwrap();
        for (name, text) in files {
            let path = home.workspace().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let stop = CancellationToken::new();
        let hub = kamil_orchestrator::start(
            NodeOptions::local(home.clone()),
            OrchestratorOptions::default(),
            stop.clone(),
        );
        let hub = hub.await.unwrap();
        let worker =
            || NodeOptions { orchestrator: Some(hub.url.clone()), ..NodeOptions::local(home.clone()) };

        let listener = Listener::bind(&worker(), Role::Memory).await.unwrap();
        let memory = Client::new(listener.url(), None).unwrap();
        let memory = memory.with_node_token(listener.token().expose()).unwrap();
        let memory_node =
            kamil_memory::serve(listener, &home, MemoryOptions::default(), stop.clone()).await.unwrap();
        let tools = ToolsOptions::new(Launcher::new(PROGRAM), Worker::new(PROGRAM), home.workspace());
        let tool_node = kamil_tools::start(worker(), tools, stop.clone()).await.unwrap();
        let engine = LlmOptions { engine_url: Some(llm.to_owned()), ..LlmOptions::default() };
        let llm_node = kamil_llm::start(worker(), engine, stop.clone()).await.unwrap();
        let client = Client::new(&hub.url, None).unwrap();
        let nodes = vec![hub, memory_node, tool_node, llm_node];
        for node in &nodes[1..] {
            tokio::time::timeout(PATIENCE, node.registered()).await.unwrap();
        }
        Self { folder, client, memory, nodes, stop }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for node in self.nodes {
            node.stopped().await.unwrap();
        }
    }

    #[expect(clippy::unused_self, reason = "it is the world's conversation")]
    pub(crate) fn session(&self) -> SessionId {
        SessionId::generate()
    }

    /// Puts a passage into memory, as its origin would.
    pub(crate) async fn keep(&self, origin: Origin, text: &str) {
        if origin == Origin::Person {
            let added = AddMemory { text: text.to_owned(), kind: None, fact: None, occurred_at: None };
            self.client.post::<_, serde_json::Value>("/v1/memories", &added).await.unwrap();
            return;
        }
        let memory = NewMemory {
            id: MemoryId::generate(),
            kind: MemoryKind::Semantic,
            text: text.to_owned(),
            fact: None,
            session: None,
            source: Provenance { origin, task: None, step: None, labels: None },
            occurred_at: jiff::Timestamp::now(),
        };
        let request = RememberRequest { memories: vec![memory] };
        let reply: RememberReply = self.memory.post("/v1/remember", &request).await.unwrap();
        assert_eq!(reply.stored.len(), 1);
    }

    pub(crate) async fn ask(&self, request: &TaskRequest) -> TaskId {
        self.client.post::<_, TaskAccepted>("/v1/tasks", request).await.unwrap().id
    }

    /// The task, once it has ended or waits for the person.
    pub(crate) async fn until_it_rests(&self, id: TaskId) -> TaskDoc {
        let begun = Instant::now();
        loop {
            let task: TaskDoc = self.client.get(&format!("/v1/tasks/{id}")).await.unwrap();
            if task.status.is_final() || task.status == TaskStatus::AwaitingApproval {
                return task;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it goes on and on: {}",
                serde_json::to_string_pretty(&task).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub(crate) async fn decide(&self, id: TaskId, step: &StepDoc, decision: Decision) {
        let digest = step.approval.as_ref().map(|request| request.digest.clone());
        let path = format!("/v1/tasks/{id}/steps/{}/approval", step.id);
        self.client.post::<_, TaskDoc>(&path, &ApprovalDecision { decision, digest }).await.unwrap();
    }

    /// All files of the workspace. The trash is left out: what is only there is gone.
    pub(crate) fn workspace(&self) -> BTreeMap<String, String> {
        let root = self.folder.path().join("workspace");
        let mut files = BTreeMap::new();
        read_all(&root, &root, &mut files);
        files
    }
}

fn read_all(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if name == ".trash" {
            continue;
        }
        if path.is_dir() {
            read_all(root, &path, files);
        } else {
            files.insert(name, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned());
        }
    }
}
