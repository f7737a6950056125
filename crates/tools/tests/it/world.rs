//! A tool node on a free port of loopback, called as its orchestrator would call it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use kamil_node::{Client, Home, Listener, NodeOptions, RunningNode};
use kamil_protocol::{
    ErrorCode, Problem, TaskId,
    node::Role,
    task::{Labels, Source, Trust},
    tool::{ExecuteReply, ExecuteRequest},
};
use kamil_sandbox::Launcher;
use kamil_tools::{ToolsOptions, Worker};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The binary that confines and trains.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_kamil-tool-worker");

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) client: Client,
    pub(crate) stranger: Client,
    pub(crate) node: RunningNode,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ToolsOptions)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn on(folder: tempfile::TempDir, change: impl FnOnce(&mut ToolsOptions)) -> Self {
        let home = Home::resolve(Some(folder.path().join("home"))).unwrap();
        let mut options = ToolsOptions::new(Launcher::new(PROGRAM), Worker::new(PROGRAM), home.workspace());
        change(&mut options);
        let listener = Listener::bind(&NodeOptions::local(home.clone()), Role::Tool).await.unwrap();
        let stranger = Client::new(listener.url(), None).unwrap();
        let client = stranger.with_node_token(listener.token().expose()).unwrap();
        let shutdown = CancellationToken::new();
        let node = kamil_tools::serve(listener, &home, options, shutdown.clone()).await.unwrap();
        Self { folder, client, stranger, node, shutdown }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home().join("workspace")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.workspace().join(name)
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<ExecuteReply, Problem> {
        self.send(&request(tool, arguments)).await
    }

    pub(crate) async fn send(&self, request: &ExecuteRequest) -> Result<ExecuteReply, Problem> {
        self.client.post("/v1/execute", request).await
    }

    /// The output of a call that has to succeed.
    pub(crate) async fn output(&self, tool: &str, arguments: Value) -> Value {
        match self.call(tool, arguments).await {
            Ok(reply) => reply.output,
            Err(problem) => panic!("{tool}: {problem}"),
        }
    }

    /// The problem of a call that has to fail, with this code.
    pub(crate) async fn refusal(&self, tool: &str, arguments: Value, code: ErrorCode) -> Problem {
        match self.call(tool, arguments.clone()).await {
            Ok(reply) => panic!("{tool} {:.200} went through: {}", arguments.to_string(), reply.output),
            Err(problem) => {
                assert_eq!(problem.code, code, "{problem}");
                problem
            }
        }
    }
}

/// A call with a key of its own.
pub(crate) fn request(tool: &str, arguments: Value) -> ExecuteRequest {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    ExecuteRequest {
        task: TaskId::generate(),
        step: "s1".parse().unwrap(),
        tool: tool.to_owned(),
        arguments,
        idempotency_key: format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        approval: None,
        labels: Labels { sources: vec![Source::Person], trust: Trust::Trusted },
        deadline_ms: None,
    }
}

/// Whether a process of this machine has the text in its command line.
pub(crate) fn runs(marker: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(marker))
}

/// Polls until the condition holds, for at most 20 s.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
