//! Every environment variable that Kamil reads, in one place.
//!
//! A flag wins over its variable, a variable over `kamil.toml`, and that over the default.

/// Kamil's folder.
pub(crate) const HOME: &str = "KAMIL_HOME";
/// The orchestrator that commands and nodes talk to.
pub(crate) const ORCHESTRATOR: &str = "KAMIL_ORCHESTRATOR";
/// The port that a node command listens on.
pub(crate) const PORT: &str = "KAMIL_PORT";
/// The address that a node listens on.
pub(crate) const BIND: &str = "KAMIL_BIND";
/// A node's name for people.
pub(crate) const NODE_NAME: &str = "KAMIL_NODE_NAME";
/// The address under which other machines reach a node.
pub(crate) const ADVERTISE: &str = "KAMIL_ADVERTISE";
/// The file that holds the cluster key.
pub(crate) const CLUSTER_KEY_FILE: &str = "KAMIL_CLUSTER_KEY_FILE";
/// A hardware profile that replaces the probe.
pub(crate) const HARDWARE_PROFILE: &str = "KAMIL_HARDWARE_PROFILE";
/// The model that an LLM node loads.
pub(crate) const MODEL: &str = "KAMIL_MODEL";
/// An OpenAI-compatible server that does an LLM node's work.
pub(crate) const ENGINE_URL: &str = "KAMIL_ENGINE_URL";
/// The key that this server asks for.
pub(crate) const ENGINE_KEY: &str = "KAMIL_ENGINE_KEY";
/// Which log records are kept, e.g. `info,kamil_orchestrator=debug`.
pub(crate) const LOG: &str = "KAMIL_LOG";
/// Set to anything but nothing: no colours (<https://no-color.org>).
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// The variable's value, if it is set, not empty and text.
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
