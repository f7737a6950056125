//! `kamil distributed [ADDR]`

use crate::{
    arguments::DistributedFlags,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
};

pub(super) async fn run(context: &Context, flags: DistributedFlags) -> Result<Exit, Failure> {
    if context.json {
        return Err(Failure::usage("a conversation has no JSON form").next("use `kamil ask --json \"…\"`"));
    }
    let address = flags.address.as_deref().or(flags.orchestrator.named());
    let hub = Hub::running(context, address).await?;
    super::chat::converse(context, hub, flags.chat).await
}
