//! Following a task while it runs: its events as they come, over broken connections.

use std::time::Duration;

use futures::StreamExt;
use kamil_node::{Method, SseEvent};
use kamil_protocol::{
    ErrorCode, Problem, TaskId,
    event::{Delta, End, EventRecord, TaskEvent},
    task::{StepStatus, TaskStatus},
};
use tokio::time::Instant;

use crate::{
    approval::{self, Answer},
    failure::{Exit, Failure},
    hub::Hub,
    screen::Screen,
    terminal,
};

/// An orchestrator that was killed may be back after this long.
const RECONNECT_WITHIN: Duration = Duration::from_secs(120);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How following ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The task has ended.
    Ended(TaskStatus),
    /// A step waits for a person, and none is here.
    Awaiting,
}

/// Whether somebody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    Present,
    Absent,
}

/// What one connection came to.
enum Connection {
    Done(Followed),
    Broken(Problem),
}

/// Follows the task to its end, or until a person is needed who is not here.
pub(crate) async fn follow(
    hub: &Hub,
    task: TaskId,
    person: Person,
    screen: &mut Screen,
) -> Result<Followed, Failure> {
    let mut deadline = Instant::now() + RECONNECT_WITHIN;
    let mut told = false;
    loop {
        let before = screen.last_seq();
        match follow_connection(hub, task, person, screen).await? {
            Connection::Done(followed) => return Ok(followed),
            Connection::Broken(problem) => {
                if screen.last_seq() != before {
                    deadline = Instant::now() + RECONNECT_WITHIN;
                    told = false;
                }
                // In this process there is nobody to come back.
                if hub.is_local() || Instant::now() >= deadline {
                    let detail = format!("the connection to the orchestrator is lost: {}", problem.detail);
                    let next =
                        format!("the task goes on when the orchestrator runs again: `kamil trace {task}`");
                    return Err(Failure::new(Exit::Unreachable, detail).next(next));
                }
                if !std::mem::replace(&mut told, true) {
                    screen.note("connection lost; waiting for the orchestrator");
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

async fn follow_connection(
    hub: &Hub,
    task: TaskId,
    person: Person,
    screen: &mut Screen,
) -> Result<Connection, Failure> {
    let mut events = match open(hub, task, screen.last_seq()).await {
        Ok(events) => events,
        Err(problem) if problem.code.is_transient() => return Ok(Connection::Broken(problem)),
        Err(problem) => return Err(problem.into()),
    };
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(problem) => return Ok(Connection::Broken(problem)),
        };
        match event.event.as_str() {
            "record" => {
                let record: EventRecord = parse(&event)?;
                screen.record(&record);
                if let Some(followed) = ask_if_needed(hub, &record, person, screen).await? {
                    return Ok(Connection::Done(followed));
                }
            }
            "delta" => screen.delta(&parse::<Delta>(&event)?),
            "end" => return Ok(Connection::Done(Followed::Ended(parse::<End>(&event)?.status))),
            _ => {}
        }
    }
    Ok(Connection::Broken(Problem::new(ErrorCode::NodeUnreachable, "the stream of events ended too early")))
}

async fn open(hub: &Hub, task: TaskId, last_seq: Option<u64>) -> Result<kamil_node::SseStream, Problem> {
    let path = format!("/v1/tasks/{task}/events");
    let last = last_seq.map(|seq| seq.to_string());
    let headers: Vec<(&str, &str)> = last.iter().map(|seq| ("last-event-id", seq.as_str())).collect();
    hub.client.stream(Method::GET, &path, None::<&()>, &headers).await
}

fn parse<T: serde::de::DeserializeOwned>(event: &SseEvent) -> Result<T, Failure> {
    serde_json::from_str(&event.data).map_err(|error| {
        Failure::failed(format!(
            "the orchestrator sent a `{}` that cannot be understood: {error}",
            event.event
        ))
        .next("check that client and orchestrator have the same version: `kamil --version`, `kamil nodes`")
    })
}

async fn ask_if_needed(
    hub: &Hub,
    record: &EventRecord,
    person: Person,
    screen: &mut Screen,
) -> Result<Option<Followed>, Failure> {
    let step = match &record.event {
        TaskEvent::ApprovalRequested { step, .. } | TaskEvent::StepOutcomeUnknown { step, .. } => step,
        _ => return Ok(None),
    };
    // The stream also tells what was decided long ago.
    let doc = hub.task(record.task).await?;
    let Some(state) = doc.steps.iter().find(|state| &state.id == step) else { return Ok(None) };
    let request = match (&state.approval, state.status) {
        (Some(request), StepStatus::AwaitingApproval | StepStatus::OutcomeUnknown) => request.clone(),
        (None, StepStatus::OutcomeUnknown) => approval::repeat_request(state),
        _ => return Ok(None),
    };
    screen.break_line();
    if person == Person::Absent {
        approval::tell(hub, record.task, step, &request);
        return Ok(Some(Followed::Awaiting));
    }
    let answer = approval::ask(step, &request).await?;
    if answer == Answer::Later {
        approval::tell(hub, record.task, step, &request);
        return Ok(Some(Followed::Awaiting));
    }
    match approval::send(hub, record.task, step, answer == Answer::Yes, Some(request.digest)).await {
        Ok(()) => {}
        Err(problem) if problem.code == ErrorCode::Conflict => {
            terminal::note("somebody else has decided in the meantime");
        }
        Err(problem) => return Err(problem.into()),
    }
    Ok(None)
}

/// All records of a task so far.
pub(crate) async fn records(hub: &Hub, task: TaskId) -> Result<Vec<EventRecord>, Failure> {
    /// A task that still runs sends nothing more for now.
    const QUIET: Duration = Duration::from_millis(300);
    let mut events = open(hub, task, None).await?;
    let mut records = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.next()).await {
        let event = event?;
        match event.event.as_str() {
            "record" => records.push(parse(&event)?),
            "end" => break,
            _ => {}
        }
    }
    Ok(records)
}
