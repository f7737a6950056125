//! What every command knows: Kamil's folder, the settings, and where the orchestrator is.

use std::path::PathBuf;

use kamil_node::{ClusterKey, Home};
use kamil_protocol::ORCHESTRATOR_PORT;

use crate::{
    address::Address,
    arguments::{CommonFlags, OrchestratorFlag},
    environment,
    failure::Failure,
    settings::Settings,
};

/// The surroundings of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    /// Results are wanted as JSON.
    pub(crate) json: bool,
    cluster_key_file: Option<PathBuf>,
}

/// An orchestrator's address, and how firmly it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    /// On the command line: nothing else may take its place.
    pub(crate) named: bool,
    /// In a variable or in the settings.
    pub(crate) configured: bool,
}

impl Context {
    pub(crate) fn new(common: &CommonFlags) -> Result<Self, Failure> {
        let named = common.home.clone().or_else(|| environment::text(environment::HOME).map(PathBuf::from));
        let home = Home::resolve(named).map_err(|error| Failure::usage(error.to_string()))?;
        let settings = Settings::load(&home.settings())?;
        let cluster_key_file = common
            .cluster_key_file
            .clone()
            .or_else(|| environment::text(environment::CLUSTER_KEY_FILE).map(PathBuf::from))
            .or_else(|| settings.cluster.key_file.clone());
        Ok(Self { home, settings, json: common.json, cluster_key_file })
    }

    /// The same surroundings with another folder.
    pub(crate) fn at(&self, home: Home) -> Self {
        Self { home, ..self.clone() }
    }

    /// The cluster's key, if one is configured.
    pub(crate) fn cluster_key(&self) -> Result<Option<ClusterKey>, Failure> {
        let load = |path: &PathBuf| ClusterKey::load(path).map_err(|error| Failure::usage(error.to_string()));
        self.cluster_key_file.as_ref().map(load).transpose()
    }

    /// The same for the orchestrator, which makes the key at its first start.
    pub(crate) fn cluster_key_or_new(&self) -> Result<Option<ClusterKey>, Failure> {
        let load = |path: &PathBuf| {
            ClusterKey::load_or_create(path).map_err(|error| Failure::usage(error.to_string()))
        };
        self.cluster_key_file.as_ref().map(load).transpose()
    }

    /// Where the orchestrator is: flag over variable over settings over 127.0.0.1:8000.
    pub(crate) fn target(&self, flag: Option<&str>) -> Result<Target, Failure> {
        let configured = environment::text(environment::ORCHESTRATOR)
            .or_else(|| self.settings.orchestrator.address.clone());
        let address = match flag.or(configured.as_deref()) {
            Some(text) => Address::parse(text, ORCHESTRATOR_PORT)?,
            None => Address::loopback(self.settings.orchestrator.port.unwrap_or(ORCHESTRATOR_PORT)),
        };
        Ok(Target { address, named: flag.is_some(), configured: flag.is_none() && configured.is_some() })
    }
}

impl OrchestratorFlag {
    pub(crate) fn named(&self) -> Option<&str> {
        self.orchestrator.as_deref()
    }
}
