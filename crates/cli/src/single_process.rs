//! All services in one process: the same crates, the same registration, the same messages over loopback as with one
//! process a node.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use kamil_node::{Client, ClusterKey, NodeError, NodeOptions, RunningNode};
use kamil_orchestrator::{OrchestratorOptions, StartError};
use kamil_protocol::{ORCHESTRATOR_PORT, node::Role};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    failure::Failure,
    node_options::{self, NodeSetup},
    settings::LlmSettings,
};

/// A model is loaded before its node registers.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where the orchestrator listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Any free one.
    Any,
    /// This one if it is free, else any.
    Prefer(u16),
    /// This one.
    Exactly(u16),
}

/// Which services are started.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) roles: Vec<Role>,
    pub(crate) port: Port,
    pub(crate) model: Option<String>,
    /// The web page is served.
    pub(crate) pages: bool,
    /// Tasks that were left unfinished go on.
    pub(crate) resumes: bool,
    /// How the orchestrator is reached from outside.
    pub(crate) setup: NodeSetup,
}

impl Services {
    /// These workers beside the orchestrator, which nobody else is meant to find.
    pub(crate) fn only(roles: &[Role]) -> Self {
        Self {
            roles: roles.to_vec(),
            port: Port::Any,
            model: None,
            pages: false,
            resumes: true,
            setup: NodeSetup::default(),
        }
    }

    /// The orchestrator alone, to read its journal: nothing that was left unfinished goes on.
    pub(crate) fn for_reading() -> Self {
        Self { resumes: false, ..Self::only(&[]) }
    }

    /// Everything.
    pub(crate) fn all(port: Port) -> Self {
        Self { port, ..Self::only(&[Role::Llm, Role::Tool, Role::Memory]) }
    }

    pub(crate) fn with_model(mut self, model: Option<String>) -> Self {
        self.model = model;
        self
    }

    pub(crate) fn with_pages(mut self) -> Self {
        self.pages = true;
        self
    }
}

/// The running services.
pub(crate) struct SingleProcess {
    /// `http://127.0.0.1:port`, as this process reaches the orchestrator.
    url: String,
    hub: RunningNode,
    workers: Vec<RunningNode>,
    hub_shutdown: CancellationToken,
    worker_shutdown: CancellationToken,
}

impl SingleProcess {
    /// Starts the services and waits until every node is registered.
    pub(crate) async fn start(context: &Context, services: Services) -> Result<Self, Failure> {
        let hub_shutdown = CancellationToken::new();
        let key = if services.setup.bind.is_some_and(|bind| !bind.is_loopback()) {
            context.cluster_key_or_new()?
        } else {
            context.cluster_key()?
        };
        let hub = start_orchestrator(context, &services, key.clone(), hub_shutdown.clone()).await?;
        let url = format!("http://{}", SocketAddr::new(reachable(hub.addr.ip()), hub.addr.port()));
        let worker_shutdown = CancellationToken::new();
        let mut process = Self { url, hub, workers: Vec::new(), hub_shutdown, worker_shutdown };
        match process.start_workers(context, &services, key).await {
            Ok(()) => Ok(process),
            Err(failure) => {
                process.stop().await;
                Err(failure)
            }
        }
    }

    async fn start_workers(
        &mut self,
        context: &Context,
        services: &Services,
        key: Option<ClusterKey>,
    ) -> Result<(), Failure> {
        let options = |role| NodeOptions {
            home: context.home.clone(),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            name: services.setup.name.as_ref().map(|name| format!("{name}-{role:?}").to_lowercase()),
            orchestrator: Some(self.url.clone()),
            advertise: None,
            cluster_key: key.clone(),
            hardware_profile: services.setup.hardware_profile.clone(),
            allowed_hosts: Vec::new(),
        };
        // The model takes longest to load: the light ones are up meanwhile.
        if services.roles.contains(&Role::Memory) {
            let memory = node_options::memory_options(context);
            let node = kamil_memory::start(options(Role::Memory), memory, self.worker_shutdown.clone()).await;
            self.workers.push(node.map_err(|error| Failure::usage(error.to_string()))?);
        }
        if services.roles.contains(&Role::Tool) {
            let tools = node_options::tools_options(context, &[], None)?;
            let node = kamil_tools::start(options(Role::Tool), tools, self.worker_shutdown.clone()).await;
            self.workers.push(node.map_err(|error| Failure::usage(error.to_string()))?);
        }
        if services.roles.contains(&Role::Llm) {
            let typed = LlmSettings { model: services.model.clone(), ..LlmSettings::default() };
            let llm = node_options::llm_options(context, typed);
            let node = kamil_llm::start(options(Role::Llm), llm, self.worker_shutdown.clone()).await;
            self.workers.push(node.map_err(|error| Failure::usage(error.to_string()))?);
        }
        self.wait_until_registered(context).await
    }

    async fn wait_until_registered(&self, context: &Context) -> Result<(), Failure> {
        let all = futures::future::join_all(self.workers.iter().map(RunningNode::registered));
        if tokio::time::timeout(READY_WITHIN, all).await.is_ok() {
            return Ok(());
        }
        let what = format!("not all nodes have registered within {} s", READY_WITHIN.as_secs());
        Err(Failure::failed(what).next(format!("read the log in {}", context.home.logs().display())))
    }

    /// A client of the orchestrator.
    pub(crate) fn client(&self, context: &Context) -> Result<Client, Failure> {
        Ok(Client::new(&self.url, context.cluster_key()?.as_ref())?)
    }

    /// Where the orchestrator is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends all services. The orchestrator goes first: what it had given to the workers stays open in its journal, and
    /// is taken up at the next start, instead of being recorded as failed.
    pub(crate) async fn stop(self) {
        let Self { hub, workers, hub_shutdown, worker_shutdown, .. } = self;
        hub_shutdown.cancel();
        end(vec![hub]).await;
        worker_shutdown.cancel();
        end(workers).await;
    }
}

async fn end(nodes: Vec<RunningNode>) {
    let all = futures::future::join_all(nodes.into_iter().map(RunningNode::stopped));
    match tokio::time::timeout(STOP_WITHIN, all).await {
        Ok(ends) => {
            for error in ends.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "a service did not end well");
            }
        }
        Err(_) => tracing::warn!("the services did not end within {} s", STOP_WITHIN.as_secs()),
    }
}

async fn start_orchestrator(
    context: &Context,
    services: &Services,
    key: Option<ClusterKey>,
    shutdown: CancellationToken,
) -> Result<RunningNode, Failure> {
    let ip = services.setup.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let ports = match services.port {
        Port::Any => vec![0],
        Port::Exactly(port) => vec![port],
        Port::Prefer(port) => vec![port, 0],
    };
    let mut refused = None;
    for port in ports {
        let node = services.setup.options(context, SocketAddr::new(ip, port), None, key.clone());
        let pages = if services.pages { kamil_web::router() } else { axum::Router::new() };
        let options =
            OrchestratorOptions { pages, resume: services.resumes, ..OrchestratorOptions::default() };
        match kamil_orchestrator::start(node, options, shutdown.clone()).await {
            Ok(running) => return Ok(running),
            Err(error) if is_port_taken(&error) => refused = Some(error.to_string()),
            Err(error) => return Err(not_started(&error)),
        }
    }
    Err(Failure::usage(refused.unwrap_or_else(|| "the orchestrator has no port to listen on".to_owned())))
}

/// A node that cannot start was asked for something wrong; a journal that cannot be used is no fault of the command line.
pub(crate) fn not_started(error: &StartError) -> Failure {
    match error {
        StartError::Node(_) => Failure::usage(error.to_string()),
        _ => Failure::failed(error.to_string()),
    }
}

/// Looks through the causes, since the orchestrator wraps what its listener says.
fn is_port_taken(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(NodeError::PortInUse { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip }
}

/// The port that single-process mode prefers.
pub(crate) fn preferred_port(context: &Context) -> Port {
    Port::Prefer(context.settings.orchestrator.port.unwrap_or(ORCHESTRATOR_PORT))
}
