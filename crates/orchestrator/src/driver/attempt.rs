//! One attempt at a step: the request to a node, and what comes of it.

use std::{sync::Arc, time::Duration};

use kamil_placement::Observation;
use kamil_protocol::{ErrorCode, Problem, StepId, task::StepKind};
use tokio::time::Instant;

use super::request::Prepared;
use crate::{
    feed::Feed,
    hub::Hub,
    link::{NodeCall, NodeReply, NodeRequest},
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
    Replied(NodeReply),
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
        let call = NodeCall { task: feed.task(), step: &prepared.step, request: &prepared.request, lease };
        let write = |text: &str| feed.write(&prepared.step, text);
        let (outcome, told) = tokio::select! {
            biased;
            answer = tokio::time::timeout(lease, node.link.send(call, &write)) => match answer {
                Ok(Ok(reply)) => (Outcome::Replied(reply), true),
                Ok(Err(problem)) => (failed(problem), true),
                Err(_) => (overdue(&node, lease), false),
            },
            () = node.gone.cancelled() => (gone(&node), false),
        };
        match &outcome {
            Outcome::Failed { problem, .. } if problem.code == ErrorCode::Busy => {
                busy.refused(problem.retry_after_ms);
            }
            Outcome::Failed { .. } => {}
            _ => busy.taken(),
        }
        drop(busy);
        match &outcome {
            Outcome::Failed { problem, .. } if told && problem.code == ErrorCode::NodeUnreachable => {
                hub.registry.suspect(node.id).await;
            }
            Outcome::Failed { .. } => {}
            Outcome::Replied(reply) => learn(&hub, &node, &prepared, reply, begun.elapsed()),
        }
        Ended { step: prepared.step, number, outcome }
    }
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

fn learn(hub: &Hub, node: &Handle, prepared: &Prepared, reply: &NodeReply, took: Duration) {
    let total_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    hub.registry.learn(|costs| match reply {
        NodeReply::Reasoned(reply) => {
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
        NodeReply::Executed(reply) if !reply.repeated => {
            if let NodeRequest::Execute(request) = &prepared.request {
                costs.observe_tool(node.id, &request.tool, total_ms);
            }
        }
        NodeReply::Recalled(_) => costs.observe_memory(node.id, StepKind::Recall, total_ms),
        NodeReply::Remembered(_) => costs.observe_memory(node.id, StepKind::Remember, total_ms),
        NodeReply::Executed(_) => {}
    });
}
