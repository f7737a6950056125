//! `kamil memory-node [PORT] [ORCHESTRATOR]`

use kamil_protocol::MEMORY_PORT;

use crate::{
    arguments::MemoryNodeFlags,
    context::Context,
    failure::{Exit, Failure},
    node_options::{self, NodeSetup},
    stopping,
};

pub(super) async fn run(context: &Context, flags: MemoryNodeFlags) -> Result<Exit, Failure> {
    let setup = NodeSetup::new(&flags.node, &context.settings.node)?;
    let bind = setup.listen(flags.port.or(flags.port_flag), context.settings.memory.port, MEMORY_PORT)?;
    let target = context.target(flags.orchestrator.or(flags.orchestrator_flag).as_deref())?;
    let node = setup.options(context, bind, Some(target.address.url()), context.cluster_key()?);
    let running =
        kamil_memory::start(node, node_options::memory_options(context), stopping::on_signal()).await;
    super::orchestrator::serve(context, running.map_err(|error| Failure::usage(error.to_string()))?).await
}
