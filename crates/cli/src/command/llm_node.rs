//! `kamil llm-node [PORT] [MODEL] [ORCHESTRATOR] [SPECIALIZATIONS]`

use kamil_protocol::LLM_PORT;

use crate::{
    arguments::LlmNodeFlags,
    context::Context,
    failure::{Exit, Failure},
    models,
    node_options::{self, NodeSetup},
    settings::LlmSettings,
    stopping,
};

pub(super) async fn run(context: &Context, flags: LlmNodeFlags) -> Result<Exit, Failure> {
    let setup = NodeSetup::new(&flags.node, &context.settings.node)?;
    let bind = setup.listen(flags.port.or(flags.port_flag), context.settings.llm.port, LLM_PORT)?;
    let target = context.target(flags.orchestrator.or(flags.orchestrator_flag).as_deref())?;
    let node = setup.options(context, bind, Some(target.address.url()), context.cluster_key()?);
    let specializations =
        if flags.specializations.is_empty() { flags.specializations_flag } else { flags.specializations };
    let typed = LlmSettings {
        model: flags.model.or(flags.model_flag),
        specializations,
        context_tokens: flags.context,
        slots: flags.slots,
        engine_url: flags.engine_url,
        ..LlmSettings::default()
    };
    let options = node_options::llm_options(context, typed);
    if options.engine_url.is_none() {
        models::make_ready(context, options.model.as_deref()).await?;
    }
    let running = kamil_llm::start(node, options, stopping::on_signal()).await;
    super::orchestrator::serve(context, running.map_err(|error| Failure::usage(error.to_string()))?).await
}
