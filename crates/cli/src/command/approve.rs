//! `kamil approve TASK STEP [--deny]`

use crate::{
    approval,
    arguments::ApproveFlags,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    terminal,
};

pub(super) async fn run(context: &Context, flags: &ApproveFlags) -> Result<Exit, Failure> {
    let hub = Hub::running(context, flags.orchestrator.named()).await?;
    let task = hub.find_task(&flags.task.task).await?;
    approval::send(&hub, task, &flags.step, !flags.deny, None).await?;
    if context.json {
        terminal::say_json(&hub.task(task).await?)?;
    } else {
        let decision = if flags.deny { "is refused" } else { "may run" };
        terminal::say(format_args!("the step `{}` of the task {task} {decision}", flags.step));
    }
    Ok(Exit::Done)
}
