//! Asking a person before a step runs: they see the exact command and arguments.

use std::{
    io::BufRead,
    sync::{Arc, Weak},
};

use kamil_protocol::{
    ErrorCode, Problem, StepId, TaskId,
    label::{ArgumentSpan, Labels, Source, SpanOrigin},
    task::{ApprovalDecision, ApprovalRequest, Decision, StepDoc, TaskDoc},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    failure::Failure,
    hub::Hub,
    terminal::{BOLD, Stream, WARN, exact, note, one_line},
};

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// Nothing was typed and nothing more can be.
    Later,
}

/// Shows what is asked for and waits for `y` or `n`.
pub(crate) async fn ask(step: &StepId, request: &ApprovalRequest) -> Result<Answer, Failure> {
    show(step, request);
    confirm("run it?").await
}

/// Waits for `y` or `n`.
pub(crate) async fn confirm(question: &'static str) -> Result<Answer, Failure> {
    let waiting = Arc::new(());
    let watched = Arc::downgrade(&waiting);
    let read = tokio::task::spawn_blocking(move || read_answer(&watched, question));
    let answer = read.await.map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")));
    drop(waiting);
    answer
}

/// Reads until there is an answer, or nobody waits for one any more: a thread that went on reading would swallow what
/// the person types next.
fn read_answer(waiting: &Weak<()>, question: &str) -> Answer {
    const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let question = || Stream::Err.text(format_args!("  {question} [y/n] "));
    let mut line = String::new();
    question();
    while waiting.strong_count() > 0 {
        let stdin = std::io::stdin();
        let mut typed = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut typed, Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return Answer::Later,
        }
        line.clear();
        match stdin.lock().read_line(&mut line) {
            Ok(0) | Err(_) => return Answer::Later,
            Ok(_) => match line.trim().to_lowercase().as_str() {
                "y" | "yes" => return Answer::Yes,
                "n" | "no" => return Answer::No,
                _ => question(),
            },
        }
    }
    Answer::Later
}

/// Says what waits and how to decide on it.
pub(crate) fn tell(hub: &Hub, task: TaskId, step: &StepId, request: &ApprovalRequest) {
    show(step, request);
    if hub.is_local() {
        note("  the task goes on when Kamil runs again: start `kamil up`, then");
    }
    note(format_args!("  agree with:  kamil approve {task} {step}"));
    note(format_args!("  refuse with: kamil approve {task} {step} --deny"));
}

/// Shows what is asked for.
pub(crate) fn show(step: &StepId, request: &ApprovalRequest) {
    let title = format!("the step `{step}` waits for your yes: {}", request.tool);
    note(Stream::Err.paint(WARN, exact(&title)));
    note(format_args!("  why: {}", exact(&request.reason)));
    if let Some(command) = &request.command {
        // Quoted, so that where one argument ends and the next begins cannot be faked.
        let quoted: Vec<String> = command.iter().map(|argument| format!("{argument:?}")).collect();
        note(format_args!("  command: {}", Stream::Err.paint(BOLD, exact(&quoted.join(" ")))));
    }
    let arguments = serde_json::to_string_pretty(&request.arguments).unwrap_or_default();
    let indented = exact(&arguments).replace('\n', "\n  ");
    note(format_args!("  arguments: {}", Stream::Err.paint(BOLD, indented)));
    for span in &request.spans {
        note(Stream::Err.paint(WARN, format_args!("  others may have written {}", where_it_is(span))));
        // Each line is set apart, so that none of them can pass for one of Kamil's.
        for line in exact(&span.excerpt).lines() {
            note(format_args!("  │ {line}"));
        }
        if span.excerpt.chars().count() as u64 != span.end - span.start {
            note("  │ … (cut; the arguments above have all of it)");
        }
    }
}

/// Which part of a call's arguments a span is, and where it came from, in one line.
pub(crate) fn where_it_is(span: &ArgumentSpan) -> String {
    let from: Vec<String> = span.from.iter().map(origin).collect();
    let from = if from.is_empty() { String::new() } else { format!(", from {}", from.join(", ")) };
    let line =
        format!("`{}`, characters {} to {}{from} ({})", span.at, span.start, span.end, labels(&span.labels));
    exact(&one_line(&line, 400)).into_owned()
}

fn origin(origin: &SpanOrigin) -> String {
    let place = match (&origin.file, &origin.memory, origin.source) {
        (Some(file), _, Source::Web) => format!("the address {file:?}"),
        (Some(file), ..) => format!("the file {file:?}"),
        (None, Some(memory), _) => format!("the memory {memory}"),
        (None, None, Source::File) => "files of the workspace".to_owned(),
        (None, None, Source::Tool) => "a tool's result".to_owned(),
        (None, None, _) => "the earlier conversation".to_owned(),
    };
    match (&origin.step, &origin.tool) {
        (Some(step), Some(tool)) => format!("{place} (step `{step}`, {tool})"),
        (Some(step), None) => format!("{place} (step `{step}`)"),
        _ => place,
    }
}

/// Labels in words: `untrusted: file, model`.
pub(crate) fn labels(labels: &Labels) -> String {
    let name = |source: &Source| match source {
        Source::Person => "you",
        Source::Memory => "memory",
        Source::Model => "model",
        Source::Tool => "tool",
        Source::File => "file",
        Source::Web => "web",
    };
    let sources: Vec<&str> = labels.sources.iter().map(name).collect();
    let trust = if labels.is_trusted() { "trusted" } else { "untrusted" };
    format!("{trust}: {}", sources.join(", "))
}

/// What a person is asked of a step whose outcome nobody knows.
pub(crate) fn repeat_request(step: &StepDoc) -> ApprovalRequest {
    let why = step.error.as_ref().map(|error| error.detail.clone());
    ApprovalRequest {
        tool: step.tool.clone().unwrap_or_else(|| step.id.to_string()),
        arguments: serde_json::Value::Object(step.inputs.clone()),
        command: None,
        reason: format!(
            "nobody knows whether it has happened{}; yes runs it again",
            why.map(|why| format!(" ({why})")).unwrap_or_default()
        ),
        digest: String::new(),
        spans: Vec::new(),
    }
}

/// Sends the decision.
pub(crate) async fn send(
    hub: &Hub,
    task: TaskId,
    step: &StepId,
    approve: bool,
    digest: Option<String>,
) -> Result<(), Problem> {
    let decision = if approve { Decision::Approve } else { Decision::Deny };
    let body = ApprovalDecision { decision, digest: digest.filter(|digest| !digest.is_empty()) };
    let path = format!("/v1/tasks/{task}/steps/{step}/approval");
    let sent = hub.client.post::<_, TaskDoc>(&path, &body).await;
    match sent {
        Ok(_) => Ok(()),
        // The decision arrived, whatever the reply looks like.
        Err(problem) if problem.code == ErrorCode::BadGateway && problem.data.is_none() => Ok(()),
        Err(problem) => Err(problem),
    }
}
