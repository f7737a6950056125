//! `kamil replay TASK [--change STEP=FILE]`

use std::{fs::File, io::Read as _, path::Path};

use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, Problem, TaskId,
    replay::ReplayReport,
    task::{ForkRequest, RepeatedEffect, StepKind, TaskAccepted, TaskDoc, TaskStatus},
    tool::SideEffect,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    approval::{self, Answer},
    arguments::{Change, ReplayFlags},
    context::Context,
    failure::{Exit, Failure},
    following::{self, Followed, Person},
    graph_difference,
    hub::Hub,
    screen::{Screen, Shown},
    single_process::{Port, Services},
    terminal::{self, BAD, GOOD, Stream, WARN, neutralise, say},
};

pub(super) async fn run(context: &Context, flags: &ReplayFlags) -> Result<Exit, Failure> {
    let named = flags.orchestrator.named();
    let Some(change) = &flags.change else {
        let hub = Hub::running_or_local(context, named, Services::for_reading()).await?;
        let report = report(&hub, &flags.task.task).await;
        hub.close().await;
        return show(context, &report?);
    };
    let text = read(&change.file)?;
    let hub = super::ask::connect(context, named, Services::all(Port::Any)).await?;
    let exit = fork(context, &hub, flags, change, &text).await;
    hub.close().await;
    exit
}

async fn report(hub: &Hub, name: &str) -> Result<ReplayReport, Failure> {
    let task = hub.find_task(name).await?;
    Ok(hub.client.get(&format!("/v1/tasks/{task}/replay")).await?)
}

fn show(context: &Context, report: &ReplayReport) -> Result<Exit, Failure> {
    if context.json {
        terminal::say_json(report)?;
    } else {
        let (style, verdict) = if report.same { (GOOD, "the same") } else { (BAD, "different") };
        let verdict = Stream::Out.paint(style, verdict);
        say(format_args!("{verdict}: {} records of the task {} decided again", report.records, report.task));
        if let Some(difference) = &report.difference {
            say(neutralise(&difference.detail));
        }
    }
    Ok(if report.same { Exit::Done } else { Exit::Failed })
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > MAX_OUTPUT_BYTES {
        return Err(Failure::usage(format!(
            "{} has more than {MAX_OUTPUT_BYTES} bytes, the most that a result may have",
            path.display()
        )));
    }
    Ok(text)
}

async fn fork(
    context: &Context,
    hub: &Hub,
    flags: &ReplayFlags,
    change: &Change,
    text: &str,
) -> Result<Exit, Failure> {
    let origin = hub.find_task(&flags.task.task).await?;
    let before = hub.task(origin).await?;
    let output = result(&before, change, text)?;
    let request = ForkRequest { step: change.step.clone(), output, effects: flags.yes };
    let task = match submit(hub, origin, &request).await {
        Err(problem) if problem.code == ErrorCode::ApprovalRequired && !flags.yes => {
            may_run_again(&problem).await?;
            submit(hub, origin, &ForkRequest { effects: true, ..request }).await?
        }
        other => other?,
    };
    terminal::note(format_args!("the fork is the task {task}"));
    let mut screen = Screen::new(if context.json { Shown::Steps } else { Shown::All });
    let person = if terminal::is_interactive() { Person::Present } else { Person::Absent };
    let followed = following::follow(hub, task, person, &mut screen).await?;
    screen.break_line();
    let after = hub.task(task).await?;
    let differences = graph_difference::between(&before, &after);
    if context.json {
        terminal::say_json(&json!({
            "task": task,
            "forked_from": origin,
            "step": change.step,
            "status": after.status,
            "differences": differences,
        }))?;
    } else {
        graph_difference::show(&differences);
    }
    match followed {
        Followed::Ended(TaskStatus::Succeeded) => Ok(Exit::Done),
        Followed::Ended(_) => Ok(Exit::Failed),
        Followed::Awaiting => Ok(Exit::Refused),
    }
}

async fn submit(hub: &Hub, origin: TaskId, request: &ForkRequest) -> Result<TaskId, Problem> {
    let key = Uuid::new_v4().to_string();
    let headers = [("idempotency-key", key.as_str())];
    let path = format!("/v1/tasks/{origin}/forks");
    let accepted: TaskAccepted = hub.client.post_with_headers(&path, request, &headers).await?;
    Ok(accepted.id)
}

/// What the file holds, as a result of this step: a text where a model writes it, else JSON.
fn result(task: &TaskDoc, change: &Change, text: &str) -> Result<Value, Failure> {
    let Some(step) = task.steps.iter().find(|step| step.id == change.step) else {
        let ids: Vec<&str> = task.steps.iter().map(|step| step.id.as_str()).collect();
        return Err(Failure::usage(format!("the task {} has no step `{}`", task.id, change.step))
            .next(format!("name one of its steps: {}", ids.join(", "))));
    };
    if matches!(step.kind, StepKind::Plan | StepKind::Reason | StepKind::Answer) {
        return Ok(Value::String(text.trim_end_matches('\n').to_owned()));
    }
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{} is not JSON: {error}", change.file.display())).next(format!(
            "write the result of the step `{}` as `kamil trace {} --json` shows it",
            change.step, task.id
        ))
    })
}

/// Asks before anything is changed a second time.
async fn may_run_again(problem: &Problem) -> Result<(), Failure> {
    let effects: Vec<RepeatedEffect> =
        problem.data.clone().and_then(|data| serde_json::from_value(data).ok()).unwrap_or_default();
    terminal::note(Stream::Err.paint(WARN, "these steps change something and would run again:"));
    for RepeatedEffect { step, tool, effect } in &effects {
        let effect = if *effect == SideEffect::Write { "writes files" } else { "acts beyond the workspace" };
        terminal::note(format_args!("  {step}: {} ({effect})", neutralise(tool)));
    }
    if terminal::is_interactive() && approval::confirm("run them again?").await? == Answer::Yes {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "nothing was run").next("agree with --yes"))
}
