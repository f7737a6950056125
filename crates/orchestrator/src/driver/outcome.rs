//! What the end of an attempt means for its step.

use std::time::Duration;

use kamil_plan::{Growth, Input, RetryClass, Step, StepOutput, labels};
use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, Problem, StepId,
    memory::RecallReply,
    reason::{Constraint, ReasonReply},
    task::{ApprovalRequest, Labels, Source, StepError, StepKind},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Driver,
    attempt::{Ended, Outcome},
    growth, labelling, request,
};
use crate::link::NodeReply;

/// Replies to a `plan` step that one model may get wrong: the first and two repairs.
const REPLIES_OF_ONE_MODEL: u32 = 3;
/// Wait after the first refusal of a full node; doubled up to the longest.
const FIRST_BACKOFF_MS: u64 = 100;
const LONGEST_BACKOFF_MS: u64 = 5_000;
/// A node that failed an attempt and is the only one is asked again after this long.
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// What is kept of an output that is too large, in bytes.
const EXCERPT_BYTES: usize = 16 * 1024;

impl Driver {
    /// Takes the end of an attempt.
    pub(super) fn take_outcome(&mut self, ended: Ended) {
        let Ended { step, number, outcome } = ended;
        match outcome {
            Outcome::Replied(NodeReply::Reasoned(reply)) => self.reasoned(step, number, &reply),
            Outcome::Replied(NodeReply::Executed(reply)) => {
                let labels = labels::join([&self.input_labels(&step), &reply.labels]);
                let result = StepOutput {
                    output: bounded(reply.output),
                    labels,
                    enforced: reply.enforced,
                    tokens_in: None,
                    tokens_out: None,
                };
                self.advance(Input::Succeeded { step, attempt: number, result, then: Growth::default() });
            }
            Outcome::Replied(NodeReply::Recalled(reply)) => self.recalled(step, number, *reply),
            Outcome::Replied(NodeReply::Remembered(reply)) => {
                let labels = self.input_labels(&step);
                let output = serde_json::to_value(&reply).unwrap_or_default();
                let result = plain(output, labels);
                self.advance(Input::Succeeded { step, attempt: number, result, then: Growth::default() });
            }
            Outcome::Failed { problem, lost } => self.failed(step, number, *problem, lost),
        }
    }

    fn input_labels(&self, step: &StepId) -> Labels {
        self.task.step(step).map_or_else(labels::person, |step| self.task.input_labels(step))
    }

    fn recalled(&mut self, step: StepId, attempt: u32, mut reply: RecallReply) {
        let size = |reply: &RecallReply| serde_json::to_vec(reply).map_or(0, |bytes| bytes.len());
        let mut degraded: Vec<String> =
            reply.degraded.iter().map(|reason| format!("Recall: {reason}")).collect();
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
            degraded.push(format!("Recall: {} of {found} memories were too long to be used.", found - kept));
        }
        let labels = labelling::of_recall(&reply);
        let output = serde_json::to_value(&reply).unwrap_or_default();
        self.planning_recall = Some(labelling::for_planning(&reply));
        self.recall = Some(reply);
        self.tools = self.hub.registry.tools();
        let mut then = growth::after_recall(&self.context(), &self.task);
        then.degraded.extend(degraded);
        self.advance(Input::Succeeded { step, attempt, result: plain(output, labels), then });
    }

    fn reasoned(&mut self, id: StepId, attempt: u32, reply: &ReasonReply) {
        let Some(step) = self.task.step(&id) else { return };
        if step.spec.kind == StepKind::Plan {
            self.planned(id, attempt, reply);
            return;
        }
        let (output, then) = match step.spec.kind {
            StepKind::Answer => {
                let text = self.live.feed.written().unwrap_or_default();
                let then = growth::after_answer(&self.context(), &self.task, &text);
                (Value::String(text), then)
            }
            _ => (self.reasoning(step, reply), Growth::default()),
        };
        let result = self.written(&id, output, reply);
        self.advance(Input::Succeeded { step: id, attempt, result, then });
    }

    /// The output of a `reason` step: its text, or the JSON that it was constrained to.
    fn reasoning(&self, step: &Step, reply: &ReasonReply) -> Value {
        let inputs = self.task.resolve(step).map(Value::Object).unwrap_or_default();
        let request = crate::planner::reason_request(&self.context(), &inputs);
        let constrained = matches!(request.constraint, Some(Constraint::JsonSchema { .. }));
        let parsed = if constrained { serde_json::from_str(&reply.text).ok() } else { None };
        bounded(parsed.unwrap_or_else(|| Value::String(reply.text.clone())))
    }

    fn written(&self, step: &StepId, output: Value, reply: &ReasonReply) -> StepOutput {
        let labels = self.task.step(step).map_or_else(
            || labels::untrusted(Source::Model),
            |step| labelling::of_prompt(&self.context_of(step.spec.kind), &self.task, step),
        );
        StepOutput {
            output,
            labels: labels::with_source(labels, Source::Model),
            enforced: Vec::new(),
            tokens_in: Some(reply.usage.tokens_in),
            tokens_out: Some(reply.usage.tokens_out),
        }
    }

    fn planned(&mut self, id: StepId, attempt: u32, reply: &ReasonReply) {
        self.tools = self.hub.registry.tools();
        match growth::after_plan(&self.context(), &self.task, &reply.text) {
            Ok(then) => {
                let output =
                    serde_json::from_str(&reply.text).unwrap_or_else(|_| Value::String(reply.text.clone()));
                let result = self.written(&id, bounded(output), reply);
                self.advance(Input::Succeeded { step: id, attempt, result, then });
            }
            Err(reason) => self.plan_refused(id, attempt, reply, reason),
        }
    }

    /// The ladder: the same model with the error, twice; another model; simple rules; the answer without a plan.
    fn plan_refused(&mut self, id: StepId, attempt: u32, reply: &ReasonReply, reason: String) {
        let replies = self.task.step(&id).map_or(0, Step::invalid_replies) + 1;
        let model =
            self.task.step(&id).and_then(|step| step.model.clone()).unwrap_or_else(|| reply.model.clone());
        let another = self.hub.registry.models(true).into_iter().find(|name| *name != model);
        let last_rung =
            replies > REPLIES_OF_ONE_MODEL || replies == REPLIES_OF_ONE_MODEL && another.is_none();
        let error = StepError {
            code: ErrorCode::PlanInvalid,
            detail: format!("The plan that `{model}` wrote is not valid: {reason}"),
            next_step: None,
        };
        let (class, otherwise) = if last_rung {
            let why = format!("no valid one came after {replies} replies: {}", reason.trim_end_matches('.'));
            (RetryClass::Never, self.otherwise(&id, &why))
        } else {
            (RetryClass::Repeatable, Growth::default())
        };
        let note = self.notes.entry(id.clone()).or_default();
        note.previous = Some((reply.text.clone(), reason));
        if replies == REPLIES_OF_ONE_MODEL
            && let Some(another) = another
        {
            note.previous = None;
            note.model = Some(another.clone());
            self.degrade(format!("`{model}` wrote no valid plan in {replies} replies; `{another}` tries."));
        }
        self.advance(Input::Failed { step: id, attempt, error, class, lost: false, otherwise });
    }

    fn failed(&mut self, id: StepId, attempt: u32, problem: Problem, lost: bool) {
        let Some(step) = self.task.step(&id) else { return };
        if problem.code == ErrorCode::ApprovalRequired && step.spec.kind == StepKind::Tool {
            self.approval_needed(id, attempt, problem);
            return;
        }
        let node = step.node;
        let class = match step.spec.kind {
            StepKind::Tool => {
                let tool = step.spec.tool.as_deref().and_then(|tool| self.hub.registry.tool(None, tool));
                request::class_of(tool.as_ref().or_else(|| {
                    self.tools.iter().find(|tool| Some(tool.name.as_str()) == step.spec.tool.as_deref())
                }))
            }
            _ => RetryClass::Repeatable,
        };
        let refusals = step.busy_replies();
        let alone = self.hub.registry.alive(kamil_placement::fleet::role_for(step.spec.kind)) <= 1;
        let note = self.notes.entry(id.clone()).or_default();
        let now = Instant::now();
        if problem.code == ErrorCode::Busy {
            let backoff = (FIRST_BACKOFF_MS << refusals.min(6)).min(LONGEST_BACKOFF_MS);
            let pause = problem
                .retry_after_ms
                .map_or(backoff, |asked| asked.clamp(FIRST_BACKOFF_MS, backoff.max(1_000)));
            note.full.extend(node.map(|node| (node, now + Duration::from_millis(pause))));
        } else if alone {
            note.not_before = Some(now + RETRY_PAUSE);
        }
        let otherwise = self.otherwise(&id, &problem.detail);
        let error = StepError { code: problem.code, detail: problem.detail, next_step: problem.next_step };
        self.advance(Input::Failed { step: id, attempt, error, class, lost, otherwise });
    }

    fn approval_needed(&mut self, step: StepId, attempt: u32, problem: Problem) {
        let asked = problem.data.map(serde_json::from_value::<ApprovalRequest>);
        match asked {
            Some(Ok(request)) => {
                self.advance(Input::ApprovalNeeded { step, attempt, request });
            }
            _ => {
                let error = StepError {
                    code: ErrorCode::BadGateway,
                    detail: "The tool node wants the person's yes, but does not say to what.".to_owned(),
                    next_step: None,
                };
                let (class, otherwise) = (RetryClass::Never, Growth::default());
                self.advance(Input::Failed { step, attempt, error, class, lost: false, otherwise });
            }
        }
    }
}

fn plain(output: Value, labels: Labels) -> StepOutput {
    StepOutput { output: exact(output), labels, enforced: Vec::new(), tokens_in: None, tokens_out: None }
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
    let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "truncated": true,
        "bytes": text.len(),
        "sha256": digest,
        "excerpt": text.get(..end).unwrap_or_default(),
    })
}

/// Numbers as they read back from the journal (`1.0` is written as `1`), so that replay gives the very same state.
fn exact(value: Value) -> Value {
    fn has_whole_float(value: &Value) -> bool {
        match value {
            Value::Number(number) => {
                number.is_f64() && number.as_f64().is_some_and(|float| float.fract() == 0.0)
            }
            Value::Array(items) => items.iter().any(has_whole_float),
            Value::Object(members) => members.values().any(has_whole_float),
            _ => false,
        }
    }
    if !has_whole_float(&value) {
        return value;
    }
    serde_json::from_str(&kamil_ledger::canonical_json(&value)).unwrap_or(value)
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

    #[test]
    fn numbers_read_back_as_they_are() {
        let value = exact(json!({"a": [1.0, 0.5, 1e300]}));
        let again: Value = serde_json::from_str(&kamil_ledger::canonical_json(&value)).unwrap();
        assert_eq!(value, again);
        assert_eq!(value["a"][0], json!(1));
    }
}
