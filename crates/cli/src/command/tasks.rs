//! `kamil tasks`

use kamil_protocol::{
    Page,
    task::{TaskStatus, TaskSummary},
};

use crate::{
    arguments::TasksFlags,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    single_process::Services,
    table::{Table, duration_ms},
    terminal::{self, one_line},
};

pub(super) async fn run(context: &Context, flags: &TasksFlags) -> Result<Exit, Failure> {
    let hub = Hub::running_or_local(context, flags.orchestrator.named(), Services::for_reading()).await?;
    let page = hub.client.get::<Page<TaskSummary>>(&format!("/v1/tasks?limit={}", flags.limit)).await;
    hub.close().await;
    let page = page?;
    if context.json {
        terminal::say_json(&page.items)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        terminal::note("there is no task yet; `kamil ask \"…\"` makes one");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["TASK", "STATUS", "ASKED", "TOOK", "STEPS", "REQUEST"]);
    for task in &page.items {
        let took =
            task.ended_at.map(|end| duration_ms(end.as_millisecond() - task.created_at.as_millisecond()));
        let steps: u32 = task.steps.values().sum();
        table.row(vec![
            task.id.to_string(),
            status_name(task.status).to_owned(),
            task.created_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            took.unwrap_or_else(|| "-".to_owned()),
            steps.to_string(),
            one_line(&task.input, 60),
        ]);
    }
    table.show();
    if page.next_cursor.is_some() {
        terminal::note(format_args!(
            "there are more; `kamil tasks --limit {}` shows more",
            (flags.limit * 2).min(200)
        ));
    }
    Ok(Exit::Done)
}

/// The status as it stands on the wire.
pub(super) fn status_name(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Queued => "queued",
        TaskStatus::Running => "running",
        TaskStatus::AwaitingApproval => "awaiting_approval",
        TaskStatus::Succeeded => "succeeded",
        TaskStatus::Failed => "failed",
        TaskStatus::Cancelled => "cancelled",
    }
}
