//! The four kinds of nodes as processes of their own, each on a home of its own, as on four machines.

use kamil_protocol::node::Role;
use serde_json::Value;

use crate::{
    binary::{Finished, Kamil, Running, wait_until},
    scripted_llm::{Prompt, ScriptedLlm},
};

/// A whole Kamil in four processes; a client makes five.
pub(crate) struct Cluster {
    pub(crate) llm: ScriptedLlm,
    pub(crate) orchestrator: Running,
    pub(crate) llm_node: Running,
    pub(crate) tool_node: Running,
    pub(crate) memory_node: Running,
    hub_home: Kamil,
    llm_home: Kamil,
    tool_home: Kamil,
    memory_home: Kamil,
    client: Kamil,
}

impl Cluster {
    /// Starts it on free ports and waits until every node is registered.
    pub(crate) fn start(script: impl Fn(&Prompt) -> String + Send + Sync + 'static) -> Self {
        Self::start_with_tool_settings(script, "")
    }

    /// The same with these settings on the tool node.
    pub(crate) fn start_with_tool_settings(
        script: impl Fn(&Prompt) -> String + Send + Sync + 'static,
        settings: &str,
    ) -> Self {
        let llm = ScriptedLlm::start(script);
        let (hub_home, llm_home, memory_home) = (Kamil::new(), Kamil::new(), Kamil::new());
        let tool_home = Kamil::new().with_settings(settings);
        let orchestrator = hub_home.start(&["orchestrator", "0"]);
        let hub = orchestrator.address().to_owned();
        let llm_node = start_llm_node(&llm_home, "0", &hub, &llm);
        let tool_node = tool_home.start(&["tool-node", "0", &hub]);
        let memory_node = memory_home.start(&["memory-node", "0", &hub]);
        let cluster = Self {
            llm,
            orchestrator,
            llm_node,
            tool_node,
            memory_node,
            hub_home,
            llm_home,
            tool_home,
            memory_home,
            client: Kamil::new(),
        };
        cluster.wait_for_nodes(3);
        cluster
    }

    /// Runs a client command against it.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let mut all = arguments.to_vec();
        all.extend(["--orchestrator", self.orchestrator.address()]);
        self.client.run(&all)
    }

    /// The nodes as `kamil nodes --json` lists them.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        self.run(&["nodes", "--json"]).succeeded().json().as_array().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_for_nodes(&self, count: usize) {
        wait_until("all nodes are registered", || {
            self.nodes().iter().filter(|node| node["status"] == "alive").count() == count
        });
    }

    /// One more LLM node in front of the same server, on this home.
    pub(crate) fn another_llm_node(&self, home: &Kamil) -> Running {
        let node = start_llm_node(home, "0", self.orchestrator.address(), &self.llm);
        self.wait_for_nodes(4);
        node
    }

    /// Kills one of the processes as a power failure would, and starts it again where it was.
    pub(crate) fn kill_and_restart(&mut self, role: Role) {
        let hub = self.orchestrator.address().to_owned();
        let process = match role {
            Role::Orchestrator => &mut self.orchestrator,
            Role::Llm => &mut self.llm_node,
            Role::Tool => &mut self.tool_node,
            Role::Memory => &mut self.memory_node,
        };
        let port = process.port().to_owned();
        process.kill();
        *process = match role {
            Role::Orchestrator => self.hub_home.start(&["orchestrator", &port]),
            Role::Llm => start_llm_node(&self.llm_home, &port, &hub, &self.llm),
            Role::Tool => self.tool_home.start(&["tool-node", &port, &hub]),
            Role::Memory => self.memory_home.start(&["memory-node", &port, &hub]),
        };
    }

    /// The file of the tool node's workspace.
    pub(crate) fn workspace(&self, name: &str) -> std::path::PathBuf {
        self.tool_home.path("workspace").join(name)
    }

    /// The orchestrator's folder.
    pub(crate) fn hub_home(&self) -> &Kamil {
        &self.hub_home
    }

    /// What all processes have logged, for a test that fails.
    pub(crate) fn logs(&self) -> String {
        [&self.orchestrator, &self.llm_node, &self.tool_node, &self.memory_node]
            .map(Running::log)
            .join("\n---\n")
    }
}

fn start_llm_node(home: &Kamil, port: &str, hub: &str, llm: &ScriptedLlm) -> Running {
    home.start(&["llm-node", port, "scripted", hub, "general,coding", "--engine-url", llm.url()])
}

/// Trains on the iris data and answers with the accuracy that it was told.
pub(crate) fn iris(prompt: &Prompt) -> String {
    if prompt.is_plan() {
        return "s1 = ml_tools.train(dataset=\"iris\")\nanswer".to_owned();
    }
    match accuracy(&prompt.text()) {
        Some(accuracy) => format!("The model reached an accuracy of {accuracy} on the test rows [s1]."),
        None => "I know of no training.".to_owned(),
    }
}

/// The accuracy that a prompt tells of.
fn accuracy(text: &str) -> Option<&str> {
    let rest = text.split_once("\"accuracy\":")?.1;
    Some(rest.split([',', '}']).next().unwrap_or(rest).trim())
}
