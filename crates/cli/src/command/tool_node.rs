//! `kamil tool-node [PORT] [ORCHESTRATOR] [TOOLS]`

use kamil_protocol::TOOL_PORT;

use crate::{
    arguments::ToolNodeFlags,
    context::Context,
    failure::{Exit, Failure},
    node_options::{self, NodeSetup},
    stopping,
};

pub(super) async fn run(context: &Context, flags: ToolNodeFlags) -> Result<Exit, Failure> {
    let setup = NodeSetup::new(&flags.node, &context.settings.node)?;
    let bind = setup.listen(flags.port.or(flags.port_flag), context.settings.tools.port, TOOL_PORT)?;
    let target = context.target(flags.orchestrator.or(flags.orchestrator_flag).as_deref())?;
    let node = setup.options(context, bind, Some(target.address.url()), context.cluster_key()?);
    let families = if flags.tools.is_empty() { flags.tools_flag } else { flags.tools };
    let options = node_options::tools_options(context, &families, flags.workspace)?;
    let running = kamil_tools::start(node, options, stopping::on_signal()).await;
    super::orchestrator::serve(context, running.map_err(|error| Failure::usage(error.to_string()))?).await
}
