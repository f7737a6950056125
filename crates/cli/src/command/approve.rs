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
    let doc = hub.task(task).await?;
    let asked = doc.steps.iter().find(|step| step.id == flags.step).and_then(|step| step.approval.as_ref());
    if let Some(request) = asked {
        approval::show(&flags.step, request);
    }
    // What was shown is what is decided on, though something else may be asked by now.
    let digest = asked.map(|request| request.digest.clone());
    approval::send(&hub, task, &flags.step, !flags.deny, digest).await?;
    if context.json {
        terminal::say_json(&hub.task(task).await?)?;
    } else {
        let decision = if flags.deny { "is refused" } else { "may run" };
        terminal::say(format_args!("the step `{}` of the task {task} {decision}", flags.step));
    }
    Ok(Exit::Done)
}
