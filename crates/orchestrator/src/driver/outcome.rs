//! The end of an attempt, in the form in which the journal holds it.

use std::time::Duration;

use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, Problem, StepId,
    memory::RecallReply,
    reason::{Finish, ReasonReply},
    task::{ApprovalRequest, StepError, StepKind},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Driver,
    attempt::{Ended, Outcome},
    decision::{self, Report, exact},
};
use crate::link::NodeReply;

/// A node that failed an attempt and is the only one is asked again after this long.
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// What is kept of an output that is too large, in bytes.
const EXCERPT_BYTES: usize = 16 * 1024;

impl Driver {
    /// Takes the end of an attempt.
    pub(super) fn take_outcome(&mut self, ended: Ended) {
        let Ended { step, number, outcome } = ended;
        let Some(kind) = self.task.step(&step).map(|step| step.spec.kind) else { return };
        if matches!(kind, StepKind::Recall | StepKind::Plan) {
            self.refresh_tools();
        }
        let report = match outcome {
            Outcome::Replied(NodeReply::Reasoned(reply)) => match self.cut(&step, &reply) {
                Some(error) => Report::Failed { error, lost: false },
                None => self.reasoned(kind, *reply),
            },
            Outcome::Replied(NodeReply::Executed(reply)) => Report::Result {
                output: bounded(reply.output),
                labels: Some(reply.labels),
                enforced: reply.enforced,
                tokens_in: None,
                tokens_out: None,
            },
            Outcome::Replied(NodeReply::Recalled(reply)) => recalled(*reply),
            Outcome::Replied(NodeReply::Remembered(reply)) => {
                Report::of(exact(serde_json::to_value(&reply).unwrap_or_default()))
            }
            Outcome::Failed { problem, lost } => {
                let asks = kind == StepKind::Tool && problem.code == ErrorCode::ApprovalRequired;
                if !asks {
                    self.pause(&step, kind, &problem);
                }
                failed(*problem, lost, asks)
            }
        };
        let models = if kind == StepKind::Plan { self.hub.registry.models(true) } else { Vec::new() };
        let input = decision::follow(&self.known, &self.task, step, number, report, &models);
        if let Some(input) = input {
            self.advance(input);
        }
    }

    /// Why a text is no result that ends where the task's tokens did.
    fn cut(&self, step: &StepId, reply: &ReasonReply) -> Option<StepError> {
        let granted = self.task.step(step)?.granted();
        let cut = reply.finish == Finish::Length && granted == Some(reply.usage.tokens_out);
        (cut && self.task.tokens_left() == 0).then(|| self.task.out_of_tokens())
    }

    fn reasoned(&self, kind: StepKind, reply: ReasonReply) -> Report {
        let output = match kind {
            // What was shown, by whichever nodes it was written.
            StepKind::Answer => Value::String(self.live.feed.written().unwrap_or_default()),
            _ => bounded(Value::String(reply.text)),
        };
        Report::Result {
            output,
            labels: None,
            enforced: Vec::new(),
            tokens_in: Some(reply.usage.tokens_in),
            tokens_out: Some(reply.usage.tokens_out),
        }
    }

    /// When the step may be tried again, if it may.
    fn pause(&mut self, id: &StepId, kind: StepKind, problem: &Problem) {
        // A full node is left alone by everybody for a while, and the step waits in the queue.
        let alone = self.hub.registry.alive(kamil_placement::fleet::role_for(kind)) <= 1;
        if alone && problem.code != ErrorCode::Busy {
            self.notes.entry(id.clone()).or_default().not_before = Some(Instant::now() + RETRY_PAUSE);
        }
    }
}

fn failed(problem: Problem, lost: bool, asks: bool) -> Report {
    let Problem { code, detail, next_step, data, .. } = problem;
    if !asks {
        return Report::Failed { error: StepError { code, detail, next_step }, lost };
    }
    match data.map(serde_json::from_value::<ApprovalRequest>) {
        Some(Ok(mut request)) => {
            request.arguments = exact(request.arguments);
            Report::Approval(request)
        }
        _ => {
            let detail = "The tool node wants the person's yes, but does not say to what.".to_owned();
            Report::Failed { error: StepError { code, detail, next_step: None }, lost: false }
        }
    }
}

/// What memory returned, without what is too much for the journal.
fn recalled(mut reply: RecallReply) -> Report {
    let size = |reply: &RecallReply| serde_json::to_vec(reply).map_or(0, |bytes| bytes.len());
    let found = reply.hits.len() + reply.conversation.len();
    while size(&reply) > MAX_OUTPUT_BYTES {
        if reply.hits.pop().is_none() {
            if reply.conversation.is_empty() {
                break;
            }
            reply.conversation.remove(0);
        }
    }
    let kept = reply.hits.len() + reply.conversation.len();
    if kept < found {
        let missing = found - kept;
        reply.degraded.push(format!("{missing} of {found} memories were too long to be used."));
    }
    Report::of(exact(serde_json::to_value(&reply).unwrap_or_default()))
}

/// An output as the journal holds it: at most 64 KiB, else an excerpt with the digest of all of it.
fn bounded(output: Value) -> Value {
    let output = exact(output);
    let text = match &output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() <= MAX_OUTPUT_BYTES {
        return output;
    }
    let mut end = EXCERPT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    json!({
        "truncated": true,
        "bytes": text.len(),
        "sha256": crate::tool_set::digest(&text),
        "excerpt": text.get(..end).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_too_large_becomes_an_excerpt() {
        let small = json!({"a": 1});
        assert_eq!(bounded(small.clone()), small);
        let large = bounded(Value::String("é".repeat(MAX_OUTPUT_BYTES)));
        assert_eq!(large["bytes"], 2 * MAX_OUTPUT_BYTES);
        assert!(large["excerpt"].as_str().unwrap().len() <= EXCERPT_BYTES);
    }
}
