//! From flags, variables and settings to what the service crates want to know.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use kamil_llm::LlmOptions;
use kamil_memory::MemoryOptions;
use kamil_node::{ClusterKey, NodeOptions};
use kamil_sandbox::Launcher;
use kamil_tools::{ToolsOptions, Worker};

use crate::{
    arguments::NodeFlags,
    context::Context,
    environment,
    failure::Failure,
    settings::{LlmSettings, NodeSettings},
};

const DEFAULT_SLOTS: u32 = 2;

/// How a node shows itself: flag over variable over settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeSetup {
    /// Without one, this machine alone.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) name: Option<String>,
    advertise: Option<String>,
    pub(crate) hardware_profile: Option<PathBuf>,
    allowed_hosts: Vec<String>,
}

impl NodeSetup {
    pub(crate) fn new(flags: &NodeFlags, settings: &NodeSettings) -> Result<Self, Failure> {
        let bind = match (flags.bind, environment::text(environment::BIND)) {
            (Some(ip), _) => Some(ip),
            (None, Some(text)) => Some(text.parse().map_err(|_| {
                Failure::usage(format!("{}=`{text}` is not an IP address", environment::BIND))
                    .next("write, for example, 127.0.0.1 or 0.0.0.0")
            })?),
            (None, None) => settings.bind,
        };
        let text = |flag: &Option<String>, variable, setting: &Option<String>| {
            flag.clone().or_else(|| environment::text(variable)).or_else(|| setting.clone())
        };
        Ok(Self {
            bind,
            name: text(&flags.name, environment::NODE_NAME, &settings.name),
            advertise: text(&flags.advertise, environment::ADVERTISE, &settings.advertise),
            hardware_profile: flags
                .hardware_profile
                .clone()
                .or_else(|| environment::text(environment::HARDWARE_PROFILE).map(PathBuf::from))
                .or_else(|| settings.hardware_profile.clone()),
            allowed_hosts: flags.allow_host.iter().chain(&settings.allowed_hosts).cloned().collect(),
        })
    }

    /// The node's options at this place.
    pub(crate) fn options(
        &self,
        context: &Context,
        bind: SocketAddr,
        orchestrator: Option<String>,
        cluster_key: Option<ClusterKey>,
    ) -> NodeOptions {
        NodeOptions {
            home: context.home.clone(),
            bind,
            name: self.name.clone(),
            orchestrator,
            advertise: self.advertise.clone(),
            cluster_key,
            hardware_profile: self.hardware_profile.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
        }
    }

    /// Where a node listens: port from positional argument or flag over variable over settings over default.
    pub(crate) fn listen(
        &self,
        typed: Option<u16>,
        setting: Option<u16>,
        default: u16,
    ) -> Result<SocketAddr, Failure> {
        let ip = self.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(SocketAddr::new(ip, port(typed)?.or(setting).unwrap_or(default)))
    }
}

/// The port as typed, or from its variable.
pub(crate) fn port(typed: Option<u16>) -> Result<Option<u16>, Failure> {
    match (typed, environment::text(environment::PORT)) {
        (Some(port), _) => Ok(Some(port)),
        (None, Some(text)) => text.parse().map(Some).map_err(|_| {
            Failure::usage(format!("{}=`{text}` is not a port", environment::PORT))
                .next("write a number from 0 to 65535")
        }),
        (None, None) => Ok(None),
    }
}

/// What the LLM node is told; `typed` holds what the command line says.
pub(crate) fn llm_options(context: &Context, typed: LlmSettings) -> LlmOptions {
    let settings = &context.settings.llm;
    let text = |typed: Option<String>, variable, setting: &Option<String>| {
        typed.or_else(|| environment::text(variable)).or_else(|| setting.clone())
    };
    let specializations = if typed.specializations.is_empty() {
        settings.specializations.clone()
    } else {
        typed.specializations
    };
    let mut options = LlmOptions {
        model: text(typed.model, environment::MODEL, &settings.model),
        specializations,
        context_tokens: typed.context_tokens.or(settings.context_tokens),
        slots: typed.slots.or(settings.slots).unwrap_or(DEFAULT_SLOTS),
        engine_url: text(typed.engine_url, environment::ENGINE_URL, &settings.engine_url),
        engine_key: environment::text(environment::ENGINE_KEY),
        ..LlmOptions::default()
    };
    if let Some(url) = &settings.ollama_url {
        url.clone_into(&mut options.ollama_url);
    }
    options
}

/// What the tool node is told.
pub(crate) fn tools_options(
    context: &Context,
    families: &[String],
    workspace: Option<PathBuf>,
) -> Result<ToolsOptions, Failure> {
    let settings = &context.settings.tools;
    let families = if families.is_empty() { settings.families.clone() } else { families.to_vec() };
    let workspace =
        workspace.or_else(|| settings.workspace.clone()).unwrap_or_else(|| context.home.workspace());
    let launcher = Launcher::current().map_err(|error| Failure::failed(error.to_string()))?;
    let worker = Worker::current()
        .map_err(|error| Failure::failed(format!("the running program cannot tell its own path: {error}")))?;
    let mut options = ToolsOptions::new(launcher, worker, workspace);
    options.families = families;
    options.rules.clone_from(&settings.permissions);
    Ok(options)
}

/// What the memory node is told.
pub(crate) fn memory_options(_context: &Context) -> MemoryOptions {
    MemoryOptions::default()
}
