//! One attempt at a step: the request to a node, and what comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kamil_node::{STEP_HEADER, TASK_HEADER};
use kamil_placement::Observation;
use kamil_protocol::{
    ErrorCode, Problem, StepId, TaskId,
    memory::{RecallReply, RememberReply},
    reason::{ReasonDelta, ReasonReply, ReasonRequest},
    task::StepKind,
    tool::ExecuteReply,
};

use super::request::{Body, Prepared};
use crate::{
    feed::Feed,
    hub::Hub,
    registry::{Busy, Handle},
};

/// An attempt that is about to be made; its start is in the journal.
pub(super) struct Attempt {
    pub(super) hub: Arc<Hub>,
    pub(super) feed: Arc<Feed>,
    pub(super) prepared: Prepared,
    pub(super) number: u32,
    pub(super) node: Handle,
    pub(super) busy: Busy,
}

/// An attempt that has ended.
pub(super) struct Ended {
    pub(super) step: StepId,
    pub(super) number: u32,
    pub(super) outcome: Outcome,
}

/// How it ended.
pub(super) enum Outcome {
    Reasoned(Box<ReasonReply>),
    Executed(Box<ExecuteReply>),
    Recalled(Box<RecallReply>),
    Remembered(RememberReply),
    Failed {
        problem: Box<Problem>,
        /// Nobody told how it ended.
        lost: bool,
    },
}

impl Attempt {
    pub(super) async fn run(self) -> Ended {
        let Self { hub, feed, prepared, number, node, busy } = self;
        let begun = Instant::now();
        let lease = Duration::from_millis(prepared.lease_ms);
        let call = Box::pin(call(&feed, &prepared, &node, lease));
        let (outcome, told) = tokio::select! {
            outcome = tokio::time::timeout(lease, call) => match outcome {
                Ok(Ok(outcome)) => (outcome, true),
                Ok(Err(failure)) => (failure, true),
                Err(_) => (overdue(&node, lease), false),
            },
            () = node.gone.cancelled() => (gone(&node), false),
        };
        drop(busy);
        match &outcome {
            Outcome::Failed { problem, .. } if told && problem.code == ErrorCode::NodeUnreachable => {
                hub.registry.suspect(node.id).await;
            }
            Outcome::Failed { .. } => {}
            good => learn(&hub, &node, &prepared, good, begun.elapsed()),
        }
        Ended { step: prepared.step, number, outcome }
    }
}

async fn call(feed: &Feed, prepared: &Prepared, node: &Handle, lease: Duration) -> Result<Outcome, Outcome> {
    let (task, step) = (feed.task(), &prepared.step);
    let client = node.client.with_timeout(lease);
    let task = task_header(task);
    let headers = [(TASK_HEADER, task.as_str()), (STEP_HEADER, step.as_str())];
    let path = prepared.body.path();
    match &prepared.body {
        Body::Reason(request) if request.stream => {
            let stream = client.stream(Body::method(), path, Some(request.as_ref()), &headers).await;
            follow(feed, step, request, stream.map_err(failed)?).await
        }
        Body::Reason(request) => {
            let reply = client.post_with_headers(path, request.as_ref(), &headers).await.map_err(failed)?;
            Ok(Outcome::Reasoned(Box::new(reply)))
        }
        Body::Execute(request) => {
            let reply = client.post_with_headers(path, request.as_ref(), &headers).await.map_err(failed)?;
            Ok(Outcome::Executed(Box::new(reply)))
        }
        Body::Recall(request) => {
            let reply = client.post_with_headers(path, request, &headers).await.map_err(failed)?;
            Ok(Outcome::Recalled(Box::new(reply)))
        }
        Body::Remember(request) => {
            let reply = client.post_with_headers(path, request, &headers).await.map_err(failed)?;
            Ok(Outcome::Remembered(reply))
        }
    }
}

fn task_header(task: TaskId) -> String {
    task.to_string()
}

/// Reads the answer as it is written, and shows it.
async fn follow(
    feed: &Feed,
    step: &StepId,
    _request: &ReasonRequest,
    mut stream: kamil_node::SseStream,
) -> Result<Outcome, Outcome> {
    let unreadable = |error: &serde_json::Error| {
        failed(Problem::new(
            ErrorCode::BadGateway,
            format!("An event of the stream cannot be read: {error}."),
        ))
    };
    let mut streamed = 0;
    while let Some(event) = stream.next().await {
        let event = event.map_err(failed)?;
        match event.event.as_str() {
            "delta" => {
                let delta: ReasonDelta =
                    serde_json::from_str(&event.data).map_err(|error| unreadable(&error))?;
                streamed += delta.text.len();
                feed.write(step, &delta.text);
            }
            "done" => {
                let reply: ReasonReply =
                    serde_json::from_str(&event.data).map_err(|error| unreadable(&error))?;
                // An engine that does not stream gives all its text at the end.
                feed.write(step, reply.text.get(streamed..).unwrap_or_default());
                return Ok(Outcome::Reasoned(Box::new(reply)));
            }
            "error" => {
                let problem: Problem =
                    serde_json::from_str(&event.data).map_err(|error| unreadable(&error))?;
                return Err(failed(problem));
            }
            _ => {}
        }
    }
    Err(failed(Problem::new(ErrorCode::NodeUnreachable, "The stream of the answer broke off.")))
}

fn failed(problem: Problem) -> Outcome {
    let lost = matches!(problem.code, ErrorCode::NodeUnreachable);
    Outcome::Failed { problem: Box::new(problem), lost }
}

fn overdue(node: &Handle, lease: Duration) -> Outcome {
    let detail = format!("Node `{}` did not answer within its {} s.", node.name, lease.as_secs());
    Outcome::Failed { problem: Box::new(Problem::new(ErrorCode::DeadlineExceeded, detail)), lost: true }
}

fn gone(node: &Handle) -> Outcome {
    let detail = format!("Node `{}` went away while it worked on this.", node.name);
    Outcome::Failed { problem: Box::new(Problem::new(ErrorCode::NodeUnreachable, detail)), lost: true }
}

fn learn(hub: &Hub, node: &Handle, prepared: &Prepared, outcome: &Outcome, took: Duration) {
    let total_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    hub.registry.learn(|costs| match outcome {
        Outcome::Reasoned(reply) => {
            let usage = &reply.usage;
            let observation = Observation {
                tokens_in: usage.tokens_in,
                tokens_cached: usage.tokens_cached,
                tokens_out: usage.tokens_out,
                queue_ms: usage.queue_ms,
                prefill_ms: usage.prefill_ms,
                decode_ms: usage.decode_ms,
                total_ms,
            };
            costs.observe(node.id, &reply.model, prepared.kind, &observation);
        }
        Outcome::Executed(reply) if !reply.repeated => {
            if let Body::Execute(request) = &prepared.body {
                costs.observe_tool(node.id, &request.tool, total_ms);
            }
        }
        Outcome::Recalled(_) => costs.observe_memory(node.id, StepKind::Recall, total_ms),
        Outcome::Remembered(_) => costs.observe_memory(node.id, StepKind::Remember, total_ms),
        Outcome::Executed(_) | Outcome::Failed { .. } => {}
    });
}
