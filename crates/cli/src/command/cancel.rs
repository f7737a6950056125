//! `kamil cancel TASK`

use kamil_protocol::{ErrorCode, TaskId};
use serde_json::Value;

use crate::{
    arguments::CancelFlags,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    terminal,
};

pub(super) async fn run(context: &Context, flags: &CancelFlags) -> Result<Exit, Failure> {
    let hub = Hub::running(context, flags.orchestrator.named()).await?;
    let task = hub.find_task(&flags.task.task).await?;
    cancel(&hub, task).await?;
    if context.json {
        terminal::say_json(&hub.task(task).await?)?;
    } else {
        terminal::say(format_args!("the task {task} is being stopped"));
    }
    Ok(Exit::Done)
}

/// Asks for the task to be stopped; one that has ended in the meantime is as good.
pub(super) async fn cancel(hub: &Hub, task: TaskId) -> Result<(), Failure> {
    let path = format!("/v1/tasks/{task}/cancel");
    match hub.client.post::<_, Value>(&path, &serde_json::json!({})).await {
        Ok(_) => Ok(()),
        Err(problem) if problem.code == ErrorCode::Conflict => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}
