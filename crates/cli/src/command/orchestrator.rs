//! `kamil orchestrator [PORT]`, and what all node commands share.

use kamil_node::RunningNode;
use kamil_orchestrator::OrchestratorOptions;
use kamil_protocol::{NodeId, ORCHESTRATOR_PORT, node::Role};
use serde::Serialize;

use crate::{
    arguments::OrchestratorNodeFlags,
    context::Context,
    failure::{Exit, Failure},
    node_options::NodeSetup,
    single_process::not_started,
    stopping, terminal,
};

pub(super) async fn run(context: &Context, flags: OrchestratorNodeFlags) -> Result<Exit, Failure> {
    let setup = NodeSetup::new(&flags.node, &context.settings.node)?;
    let bind = setup.listen(
        flags.port.or(flags.port_flag),
        context.settings.orchestrator.port,
        ORCHESTRATOR_PORT,
    )?;
    let node = setup.options(context, bind, None, context.cluster_key_or_new()?);
    let options = OrchestratorOptions { pages: kamil_web::router(), ..OrchestratorOptions::default() };
    let stop = stopping::on_signal();
    let running = kamil_orchestrator::start(node, options, stop).await;
    serve(context, running.map_err(|error| not_started(&error))?).await
}

/// What `--json` writes once a node listens.
#[derive(Serialize)]
struct Listening<'a> {
    role: Role,
    id: NodeId,
    url: &'a str,
}

/// Says where the node is, and waits for its end.
pub(super) async fn serve(context: &Context, node: RunningNode) -> Result<Exit, Failure> {
    if context.json {
        terminal::say_json_line(&Listening { role: node.role, id: node.id, url: &node.url })?;
    } else {
        let role = match node.role {
            Role::Orchestrator => "the orchestrator",
            Role::Llm => "the LLM node",
            Role::Tool => "the tool node",
            Role::Memory => "the memory node",
        };
        terminal::say(format_args!("{role} listens at {}", node.url));
        terminal::note("Ctrl-C ends it");
    }
    node.stopped().await.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Exit::Done)
}
