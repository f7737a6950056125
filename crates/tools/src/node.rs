//! Starting the tool node.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::SignedDuration;
use kamil_node::{Home, Listener, Metrics, NodeError, NodeOptions, RunningNode, Service, orchestrator_only};
use kamil_protocol::node::{Capabilities, Role};
use kamil_sandbox::{Launcher, Limits};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    confinement::Confinement, executor::Executor, http, permission::Rules, receipts::Receipts,
    registry::Registry, worker::Worker, workspace::Workspace,
};

/// How long deleted files can be had back.
const TRASH_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often the trash is looked through.
const TRASH_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// What the caller of [`start`] decides.
#[derive(Clone, Debug)]
pub struct ToolsOptions {
    /// Families (`file_ops`) or tools (`file_ops.read`) to offer; empty: all.
    pub families: Vec<String>,
    /// The program that confines.
    pub launcher: Launcher,
    /// The program that trains.
    pub worker: Worker,
    /// The folder that tools work in; made if it is missing.
    pub workspace: PathBuf,
    /// Exceptions from the default permissions.
    pub rules: Rules,
    /// How far confined programs may go; the time is bounded by each tool's own limit as well.
    pub limits: Limits,
    /// Lowest version of Landlock's interface under which programs are run; 0 for any that the sandbox accepts.
    pub min_landlock_abi: u32,
    /// Calls that may run at once, 1–256; default: as many as there are logical cores, at least 2.
    pub slots: Option<u32>,
}

impl ToolsOptions {
    /// All tools, with default permissions and limits.
    #[must_use]
    pub fn new(launcher: Launcher, worker: Worker, workspace: impl Into<PathBuf>) -> Self {
        Self {
            families: Vec::new(),
            launcher,
            worker,
            workspace: workspace.into(),
            rules: Rules::new(),
            limits: Limits {
                cpu_seconds: 120,
                wall_ms: 600_000,
                output_bytes: 256 * 1024,
                ..Limits::default()
            },
            min_landlock_abi: 0,
            slots: None,
        }
    }
}

/// Why a tool node cannot start. The text is for a person: what failed, on what, why, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node as such cannot start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A family or tool that does not exist.
    #[error(
        "There are no tools `{name}`{nearest} The families are {families}; `family.tool` chooses one tool. Tools whose interpreter is missing on this machine are not offered."
    )]
    UnknownFamily {
        /// What was given.
        name: String,
        /// Those there are.
        families: String,
        /// A hint, or nothing.
        nearest: String,
    },
    /// A permission rule about what does not exist.
    #[error(
        "The permission rule for `{name}` is about no tool{nearest} Name a tool (`file_ops.delete`) or a family: {families}."
    )]
    UnknownRule {
        /// What was given.
        name: String,
        /// Those there are.
        families: String,
        /// A hint, or nothing.
        nearest: String,
    },
    /// The workspace cannot be used.
    #[error("The workspace {} cannot be opened: {source}. Check its owner and mode, or choose another folder.", path.display())]
    Workspace {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The record of idempotency keys cannot be used.
    #[error("The record of what tools have done, {}, cannot be opened: {source}. Check the file's owner and mode and the space on the disk.", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The tools cannot be made ready.
    #[error("The tools cannot be made ready: {0}.")]
    Tools(String),
}

/// Starts a tool node: takes the port, serves, registers with the orchestrator, until the shutdown.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    node: NodeOptions,
    options: ToolsOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    let listener = Listener::bind(&node, Role::Tool).await?;
    serve(listener, &node.home, options, shutdown).await
}

/// As [`start`], on a port that has been taken already: for those who need the listener's token or address before.
///
/// # Errors
/// See [`StartError`].
pub async fn serve(
    listener: Listener,
    home: &Home,
    options: ToolsOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    let slots = options.slots.unwrap_or_else(|| listener.hardware().logical_cores.max(2)).clamp(1, 256);
    let (record, stop) = (home.tools_db(), shutdown.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(options, record, slots, stop));
    let (executor, workspace) = prepared.await.map_err(|error| StartError::Tools(error.to_string()))??;
    let executor = Arc::new(executor);
    tokio::spawn(empty_trash(workspace, shutdown.clone()));

    let tools = executor.registry().descriptors();
    tracing::info!(tools = tools.len(), slots, "tools are ready");
    let (_, capabilities) = watch::channel(Capabilities { tools, slots, ..Capabilities::default() });
    let metrics = Metrics::new();
    let router = http::router(Arc::clone(&executor), Arc::clone(&metrics));
    let service = Service {
        role: Role::Tool,
        router: orchestrator_only(router, listener.token()),
        openapi: http::openapi(),
        capabilities,
        load: Arc::new(move || executor.load()),
        metrics,
    };
    Ok(listener.start(service, shutdown))
}

fn prepare(
    options: ToolsOptions,
    record: PathBuf,
    slots: u32,
    shutdown: CancellationToken,
) -> Result<(Executor, Arc<Workspace>), StartError> {
    let ToolsOptions { families, launcher, worker, workspace, rules, limits, min_landlock_abi, slots: _ } =
        options;
    let workspace =
        Workspace::open(&workspace).map_err(|source| StartError::Workspace { path: workspace, source })?;
    let workspace = Arc::new(workspace);
    let confinement = Arc::new(Confinement::new(launcher, limits, min_landlock_abi, Arc::clone(&workspace)));
    let registry = Registry::new(&families, &rules, &workspace, &confinement, &worker)?;
    if let Err(error) = confinement.probe() {
        tracing::warn!(%error, "this machine cannot confine programs; tools that start one will refuse");
    }
    let receipts = Receipts::open(&record).map_err(|source| StartError::Record { path: record, source })?;
    Ok((Executor::new(registry, rules, receipts, slots, shutdown), workspace))
}

async fn empty_trash(workspace: Arc<Workspace>, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(TRASH_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let workspace = Arc::clone(&workspace);
        match tokio::task::spawn_blocking(move || workspace.empty_trash(TRASH_KEPT)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "deletions older than 30 days have left the trash"),
            Ok(Err(error)) => tracing::warn!(%error, "the trash cannot be emptied"),
            Err(error) => tracing::warn!(%error, "emptying the trash broke off"),
        }
    }
}
