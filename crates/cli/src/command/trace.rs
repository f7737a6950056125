//! `kamil trace TASK`

use std::collections::HashMap;

use jiff::Timestamp;
use kamil_protocol::{
    TaskId,
    event::{EventRecord, TaskEvent},
    task::{Decision, StepDoc, StepSpec, StepStatus, TaskDoc},
};
use serde_json::Value;

use crate::{
    approval,
    arguments::TraceFlags,
    command::tasks::status_name,
    context::Context,
    failure::{Exit, Failure},
    following,
    hub::Hub,
    screen::kind_name,
    single_process::Services,
    table::duration_ms,
    terminal::{self, BAD, BOLD, DIM, GOOD, Stream, WARN, one_line, say},
};

const WIDTH: usize = 160;
const MAX_DEPTH: usize = 12;

pub(super) async fn run(context: &Context, flags: &TraceFlags) -> Result<Exit, Failure> {
    let hub = Hub::running_or_local(context, flags.orchestrator.named(), Services::for_reading()).await?;
    let shown = find_and_show(context, &hub, &flags.task.task).await;
    hub.close().await;
    shown.map(|()| Exit::Done)
}

async fn find_and_show(context: &Context, hub: &Hub, name: &str) -> Result<(), Failure> {
    let task = hub.find_task(name).await?;
    show(context, hub, task).await
}

/// Writes the moves and the tree of a task.
pub(super) async fn show(context: &Context, hub: &Hub, task: TaskId) -> Result<(), Failure> {
    let doc = hub.task(task).await?;
    if context.json {
        return terminal::say_json(&doc);
    }
    let records = following::records(hub, task).await?;
    let nodes = node_names(&records);
    show_head(&doc);
    show_moves(&records);
    say(paint(BOLD, "steps"));
    for line in tree(&doc, &nodes) {
        say(line);
    }
    if let Some(answer) = &doc.answer {
        say(format_args!("{} {}", paint(BOLD, "answer"), one_line(answer, WIDTH)));
    }
    Ok(())
}

fn paint(style: anstyle::Style, text: impl std::fmt::Display) -> String {
    Stream::Out.paint(style, text)
}

fn show_head(doc: &TaskDoc) {
    let took = match doc.ended_at {
        Some(end) => format!(" in {}", duration_ms(end.as_millisecond() - doc.created_at.as_millisecond())),
        None => String::new(),
    };
    say(format_args!("{} {}  {}{took}", paint(BOLD, "task"), doc.id, status_name(doc.status)));
    say(format_args!("{} {}", paint(BOLD, "request"), one_line(&doc.input, WIDTH)));
    if let Some(from) = &doc.forked_from {
        say(format_args!(
            "{} the task {}, with another result of `{}`",
            paint(BOLD, "forked"),
            from.task,
            from.step
        ));
    }
    if let Some(error) = &doc.error {
        say(format_args!("{} {} [{}]", paint(BAD, "error"), one_line(&error.detail, WIDTH), error.code));
    }
    for reason in &doc.degraded {
        say(format_args!("{} {}", paint(WARN, "degraded"), one_line(reason, WIDTH)));
    }
}

/// The documents name nodes by id; the placements know their names.
fn node_names(records: &[EventRecord]) -> HashMap<String, String> {
    let chosen = records.iter().filter_map(|record| match &record.event {
        TaskEvent::StepStarted { placement, .. } => placement.chosen.as_ref(),
        _ => None,
    });
    chosen.map(|candidate| (candidate.node.to_string(), candidate.name.clone())).collect()
}

fn show_moves(records: &[EventRecord]) {
    say(paint(BOLD, "moves"));
    let Some(first) = records.first() else { return };
    let mut started: HashMap<(&str, u32), Timestamp> = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        if let TaskEvent::StepStarted { step, attempt, .. } = &record.event {
            started.insert((step.as_str(), *attempt), record.at);
        }
        let since = duration_ms(record.at.as_millisecond() - first.at.as_millisecond());
        let (what, text) = a_move(&record.event, record.at, &started);
        let line = one_line(&text, WIDTH);
        say(format_args!(
            "{:>4}  {:>10}  {what:<9}  {line}",
            index + 1,
            paint(DIM, format_args!("{since:>10}"))
        ));
    }
}

/// One move of the request's way: a word for it, and what happened.
fn a_move(
    event: &TaskEvent,
    at: Timestamp,
    started: &HashMap<(&str, u32), Timestamp>,
) -> (&'static str, String) {
    let took = |step: &str, attempt: u32| {
        started.get(&(step, attempt)).map_or(String::new(), |start| {
            format!(" in {}", duration_ms(at.as_millisecond() - start.as_millisecond()))
        })
    };
    match event {
        TaskEvent::TaskCreated { request, .. } => ("accepted", request.input.clone()),
        TaskEvent::StepsAdded { cause: None, steps, digest } => {
            ("graph", format!("begun with {}{}", spec_names(steps), known_by(digest.as_deref())))
        }
        TaskEvent::StepsAdded { cause: Some(cause), steps, digest } => {
            ("extended", format!("`{cause}` adds {}{}", spec_names(steps), known_by(digest.as_deref())))
        }
        TaskEvent::ResultKept { step, .. } => ("kept", format!("`{step}` as it ended before")),
        TaskEvent::ResultGiven { step, output, .. } => ("changed", format!("`{step}`: {}", excerpt(output))),
        TaskEvent::ToolsChanged { .. } => ("tools", "other tools are registered than before".to_owned()),
        TaskEvent::Degraded { reason } => ("degraded", reason.clone()),
        TaskEvent::ApprovalRequested { step, request } => {
            let spans = request.spans.iter().map(approval::where_it_is);
            let why: Vec<String> = std::iter::once(request.reason.clone()).chain(spans).collect();
            ("asked", format!("`{step}` needs your yes for {}: {}", request.tool, why.join("; ")))
        }
        TaskEvent::ApprovalDecided { step, decision, .. } => {
            let decision = if *decision == Decision::Approve { "agreed" } else { "refused" };
            ("decided", format!("`{step}`: {decision}"))
        }
        TaskEvent::StepStarted { step, attempt, model, placement, .. } => {
            let node = placement.chosen.as_ref().map_or("a node", |chosen| chosen.name.as_str());
            let model = model.as_ref().map(|model| format!(" with {model}")).unwrap_or_default();
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let why = placement.reasons.first().map(|reason| format!(": {reason}")).unwrap_or_default();
            ("placed", format!("`{step}` on {node}{model}{again}{why}"))
        }
        TaskEvent::StreamSpliced { step, offset, .. } => {
            ("spliced", format!("`{step}` goes on after the {offset} characters that are there"))
        }
        TaskEvent::StepWaiting { step, reason } => ("waiting", format!("`{step}`: {reason}")),
        TaskEvent::StepSucceeded { step, attempt, output, tokens_out, .. } => {
            let tokens = tokens_out.map(|tokens| format!(", {tokens} tokens")).unwrap_or_default();
            ("executed", format!("`{step}`{}{tokens}: {}", took(step.as_str(), *attempt), excerpt(output)))
        }
        TaskEvent::StepFailed { step, attempt, error, retry, .. } => {
            let then = if *retry { "; tried again" } else { "" };
            (
                "failed",
                format!("`{step}`{}: {} [{}]{then}", took(step.as_str(), *attempt), error.detail, error.code),
            )
        }
        TaskEvent::StepOutcomeUnknown { step, reason, .. } => ("unknown", format!("`{step}`: {reason}")),
        TaskEvent::StepCancelled { step, reason } => ("cancelled", format!("`{step}`: {reason}")),
        TaskEvent::CancelRequested { reason } => ("stopping", reason.clone()),
        TaskEvent::TaskCompleted { status, error, .. } => {
            let why = error.as_ref().map(|error| format!(": {}", error.detail)).unwrap_or_default();
            ("completed", format!("{}{why}", status_name(*status)))
        }
    }
}

/// The beginning of a plan's digest, enough to tell plans apart.
fn known_by(digest: Option<&str>) -> String {
    digest.and_then(|digest| digest.get(..16)).map_or(String::new(), |digest| format!("; plan {digest}"))
}

fn spec_names(steps: &[StepSpec]) -> String {
    let name = |spec: &StepSpec| match &spec.tool {
        Some(tool) => format!("{} ({tool})", spec.id),
        None => spec.id.to_string(),
    };
    steps.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn excerpt(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The steps, each below the latest of those that it waits for or that called for it.
fn tree(doc: &TaskDoc, nodes: &HashMap<String, String>) -> Vec<String> {
    let position = |id: &str| doc.steps.iter().position(|step| step.id.as_str() == id);
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (index, step) in doc.steps.iter().enumerate() {
        // Only steps before it: a document with a cycle must not hang this.
        let cause = step.added_by.as_ref().map(|id| id.as_str());
        let above = step.depends_on.iter().map(|id| id.as_str()).chain(cause);
        let parent = above.filter_map(position).filter(|at| *at < index).max();
        children.entry(parent).or_default().push(index);
    }
    let mut lines = Vec::new();
    grow(doc, nodes, &children, None, "", &mut lines);
    lines
}

fn grow(
    doc: &TaskDoc,
    nodes: &HashMap<String, String>,
    children: &HashMap<Option<usize>, Vec<usize>>,
    parent: Option<usize>,
    indent: &str,
    lines: &mut Vec<String>,
) {
    let Some(steps) = children.get(&parent) else { return };
    for (place, &index) in steps.iter().enumerate() {
        let Some(step) = doc.steps.get(index) else { continue };
        let is_last = place + 1 == steps.len();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indent}{branch}{}", headline(step, nodes)));
        // Deep graphs go on at the same depth rather than off the screen.
        let deeper = indent.chars().count() / 3 < MAX_DEPTH;
        let inner = if deeper { format!("{indent}{below}") } else { indent.to_owned() };
        let rail = if children.contains_key(&Some(index)) { "│  " } else { "   " };
        for detail in details(step) {
            lines.push(format!("{inner}{rail}{}", paint(DIM, one_line(&detail, WIDTH))));
        }
        grow(doc, nodes, children, Some(index), &inner, lines);
    }
}

fn headline(step: &StepDoc, nodes: &HashMap<String, String>) -> String {
    let (style, status) = match step.status {
        StepStatus::Succeeded => (GOOD, "succeeded"),
        StepStatus::Failed => (BAD, "failed"),
        StepStatus::Cancelled => (WARN, "cancelled"),
        StepStatus::OutcomeUnknown => (WARN, "outcome unknown"),
        StepStatus::AwaitingApproval => (WARN, "awaiting approval"),
        StepStatus::Running => (BOLD, "running"),
        StepStatus::Ready => (DIM, "ready"),
        StepStatus::Pending => (DIM, "pending"),
    };
    let mut parts = vec![format!("{} {}", step.id, paint(style, status))];
    parts.push(step.tool.clone().unwrap_or_else(|| kind_name(step.kind).to_owned()));
    if let Some(node) = &step.node {
        let id = node.to_string();
        parts.push(format!("on {}", one_line(nodes.get(&id).unwrap_or(&id), 64)));
    }
    parts.extend(step.model.as_ref().map(|model| one_line(model, 60)));
    if let (Some(start), Some(end)) = (step.started_at, step.ended_at) {
        parts.push(duration_ms(end.as_millisecond() - start.as_millisecond()));
    }
    if let (Some(read), Some(written)) = (step.tokens_in, step.tokens_out) {
        parts.push(format!("{read} tokens in, {written} out"));
    }
    if step.attempt > 1 {
        parts.push(format!("attempt {}", step.attempt));
    }
    parts.join(" · ")
}

fn details(step: &StepDoc) -> Vec<String> {
    let mut details = Vec::new();
    details.extend(step.added_by.as_ref().map(|id| format!("added by: {id}")));
    if let Some(placement) = &step.placement {
        if !placement.reasons.is_empty() {
            details.push(format!("why there: {}", placement.reasons.join("; ")));
        }
        for rejected in &placement.rejected {
            let model = rejected.model.as_ref().map(|model| format!(" with {model}")).unwrap_or_default();
            details.push(format!("not {}{model}: {}", rejected.name, rejected.reason));
        }
    }
    details.extend(step.waiting.as_ref().map(|waiting| format!("waits: {waiting}")));
    if let Some(labels) = step.plan_labels.as_ref().filter(|labels| !labels.is_trusted()) {
        details.push(format!("planned from {}", approval::labels(labels)));
    }
    details.extend(step.labels.as_ref().map(|labels| format!("result is {}", approval::labels(labels))));
    if !step.enforced.is_empty() {
        details.push(format!("confined by: {}", step.enforced.join(", ")));
    }
    if let Some(error) = &step.error {
        let next = error.next_step.as_ref().map(|next| format!(" Next: {next}")).unwrap_or_default();
        details.push(format!("error: {} [{}]{next}", error.detail, error.code));
    }
    details
}
