//! `kamil tasks`

use jiff::Timestamp;
use kamil_protocol::{
    Page,
    task::{QueuePlace, TaskStatus, TaskSummary},
};

use crate::{
    arguments::{StatusName, TasksFlags},
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    single_process::Services,
    table::{Table, duration_ms},
    terminal::{self, one_line},
};

pub(super) async fn run(context: &Context, flags: &TasksFlags) -> Result<Exit, Failure> {
    let hub = Hub::running_or_local(context, flags.orchestrator.named(), Services::for_reading()).await?;
    let status = flags.status.map(|status| format!("&status={}", status_name(wanted(status))));
    let path = format!("/v1/tasks?limit={}{}", flags.limit, status.unwrap_or_default());
    let page = hub.client.get::<Page<TaskSummary>>(&path).await;
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
    let mut table = Table::new(&["TASK", "STATUS", "PRIORITY", "AGE", "TOOK", "LEFT", "DOING", "REQUEST"]);
    let now = Timestamp::now();
    for task in &page.items {
        let since = |from: Timestamp, to: Timestamp| duration_ms(to.as_millisecond() - from.as_millisecond());
        let took = task.ended_at.map_or_else(|| "-".to_owned(), |end| since(task.created_at, end));
        let left = task.deadline_at.filter(|_| !task.status.is_final());
        table.row(vec![
            task.id.to_string(),
            status_name(task.status).to_owned(),
            if task.priority.is_interactive() { "interactive" } else { "batch" }.to_owned(),
            since(task.created_at, now),
            took,
            left.map_or_else(|| "-".to_owned(), |deadline| since(now, deadline)),
            one_line(&doing(task), 60),
            one_line(&task.input, 40),
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

/// What is done for a task now, or what it waits for.
fn doing(task: &TaskSummary) -> String {
    let running = task.running.iter().map(|step| format!("{} on {}", step.step, step.name));
    let waiting = task.waiting.iter().map(|waiting| match waiting.queue {
        Some(QueuePlace { position, of }) => format!("{} waits, {position} of {of}", waiting.step),
        None => format!("{} waits: {}", waiting.step, waiting.reason),
    });
    let all: Vec<String> = running.chain(waiting).collect();
    match (all.is_empty(), task.steps.values().sum::<u32>()) {
        (false, _) => all.join("; "),
        (true, 1) => "1 step".to_owned(),
        (true, steps) => format!("{steps} steps"),
    }
}

const fn wanted(status: StatusName) -> TaskStatus {
    match status {
        StatusName::Queued => TaskStatus::Queued,
        StatusName::Running => TaskStatus::Running,
        StatusName::AwaitingApproval => TaskStatus::AwaitingApproval,
        StatusName::Succeeded => TaskStatus::Succeeded,
        StatusName::Failed => TaskStatus::Failed,
        StatusName::Cancelled => TaskStatus::Cancelled,
    }
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
