//! The task as its documents show it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kamil_protocol::task::{
    DEFAULT_DEADLINE_MS, RunningStep, StepDoc, StepKind, StepStatus, TaskDoc, TaskSummary, WaitingStep,
};
use serde_json::Value;

use crate::{step::Step, task::Task};

/// Longest piece of the request that a summary repeats, in characters.
const SUMMARY_CHARS: usize = 200;

impl Task {
    /// The task document. The answer is there as soon as it is written, though the task may not have ended.
    #[must_use]
    pub fn document(&self) -> TaskDoc {
        let ended = self.ended.as_ref();
        let written = || {
            let answer = self.steps.iter().find(|step| step.spec.kind == StepKind::Answer)?;
            answer.output.as_deref().and_then(Value::as_str).map(str::to_owned)
        };
        TaskDoc {
            id: self.id,
            status: self.status(),
            input: self.request.input.clone(),
            answer: ended.map_or_else(written, |ended| ended.answer.clone()),
            error: ended.and_then(|ended| ended.error.clone()),
            session: self.request.session,
            created_at: self.created_at,
            ended_at: ended.map(|ended| ended.at),
            forked_from: self.forked_from.clone(),
            degraded: self.degraded.clone(),
            steps: self.steps.iter().map(|step| self.step_document(step)).collect(),
        }
    }

    /// The task's line in a list.
    #[must_use]
    pub fn summary(&self) -> TaskSummary {
        let mut steps = BTreeMap::new();
        for step in &self.steps {
            *steps.entry(status_name(step.status).to_owned()).or_insert(0) += 1;
        }
        TaskSummary {
            id: self.id,
            status: self.status(),
            input: self.request.input.chars().take(SUMMARY_CHARS).collect(),
            session: self.request.session,
            created_at: self.created_at,
            ended_at: self.ended.as_ref().map(|ended| ended.at),
            steps,
            priority: self.request.priority,
            deadline_at: self.deadline_at(),
            waiting: self.steps.iter().filter_map(waiting_step).collect(),
            running: self.steps.iter().filter_map(running_step).collect(),
        }
    }

    /// When the task is given up, if it has not ended by then.
    fn deadline_at(&self) -> Option<Timestamp> {
        let after_ms = self.request.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS);
        let after_ms = i64::try_from(after_ms).ok()?;
        Timestamp::from_millisecond(self.created_at.as_millisecond().checked_add(after_ms)?).ok()
    }

    /// How far a step that runs over a list has come.
    fn items_left(&self, step: &Step) -> Option<String> {
        if step.status.is_final() || step.items.is_empty() {
            return None;
        }
        let ended = self.items(step).filter(|item| item.status.is_final()).count();
        Some(format!("{ended} of its {} items have ended.", step.items.len()))
    }

    fn step_document(&self, step: &Step) -> StepDoc {
        StepDoc {
            id: step.id().clone(),
            kind: step.spec.kind,
            status: step.status,
            depends_on: self.dependencies(step).map(|needed| needed.id().clone()).collect(),
            added_by: step.cause.clone(),
            tool: step.spec.tool.clone(),
            inputs: step.spec.inputs.clone(),
            for_each: step.spec.for_each.clone(),
            when: step.spec.when.clone(),
            output: step.output.as_deref().cloned(),
            error: step.error.clone(),
            node: step.node,
            model: step.model.clone(),
            attempt: step.attempt,
            placement: step.placement.as_deref().cloned(),
            waiting: step.waiting.clone().or_else(|| self.items_left(step)),
            queue: None,
            specialization: step.spec.specialization.clone(),
            labels: step.labels.clone(),
            plan_labels: Some(step.plan_labels.clone()),
            approval: step.approval.clone(),
            enforced: step.enforced.clone(),
            started_at: step.started_at,
            ended_at: step.ended_at,
            tokens_in: step.tokens_in,
            tokens_out: step.tokens_out,
        }
    }
}

fn waiting_step(step: &Step) -> Option<WaitingStep> {
    let reason = step.waiting.clone()?;
    Some(WaitingStep { step: step.id().clone(), reason, queue: None })
}

fn running_step(step: &Step) -> Option<RunningStep> {
    let running = step.status == StepStatus::Running && step.attempt > 0;
    let chosen = step.placement.as_ref().and_then(|placement| placement.chosen.as_ref());
    Some(RunningStep {
        step: step.id().clone(),
        node: step.node.filter(|_| running)?,
        name: chosen.map(|chosen| chosen.name.clone()).unwrap_or_default(),
        model: step.model.clone(),
        started_at: step.started_at?,
    })
}

const fn status_name(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Pending => "pending",
        StepStatus::Ready => "ready",
        StepStatus::AwaitingApproval => "awaiting_approval",
        StepStatus::Running => "running",
        StepStatus::Succeeded => "succeeded",
        StepStatus::Failed => "failed",
        StepStatus::Cancelled => "cancelled",
        StepStatus::OutcomeUnknown => "outcome_unknown",
    }
}
