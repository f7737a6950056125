//! What follows from the state alone.

use kamil_protocol::{
    ErrorCode, StepId,
    event::TaskEvent,
    task::{StepError, StepKind, StepStatus, TaskStatus},
};
use serde_json::Value;

use crate::{condition, decide::failed, step::Step, task::Task};

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Find a node for the step and start it.
    Start(StepId),
    /// Stop listening to this attempt.
    Stop {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
}

impl Task {
    /// The events that follow from the state alone: steps that can never run or whose condition does not hold, the items and the
    /// results of steps that run over a list, a new plan where one failed, and the end of the task.
    #[must_use]
    pub fn settle(&self) -> Vec<TaskEvent> {
        if self.ended.is_some() {
            return Vec::new();
        }
        let hopeless: Vec<_> = self.steps.iter().filter_map(|step| self.hopeless(step)).collect();
        if !hopeless.is_empty() {
            return hopeless;
        }
        let unwanted: Vec<_> = self.steps.iter().filter_map(|step| self.unwanted(step)).collect();
        if !unwanted.is_empty() {
            return unwanted;
        }
        // One at a time: each takes of the room that is left in the graph.
        if let Some(events) = self.steps.iter().find_map(|step| self.map_turn(step)) {
            return events;
        }
        if let Some(event) = self.another_plan() {
            return vec![event];
        }
        if self.steps.iter().all(|step| step.status.is_final()) {
            vec![self.completion()]
        } else {
            Vec::new()
        }
    }

    /// What the driver has to do in this state. Doing it twice does nothing more.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        let effect = |step: &Step| match step.status {
            StepStatus::Ready => Some(Effect::Start(step.id().clone())),
            StepStatus::Cancelled if step.attempt > 0 => {
                Some(Effect::Stop { step: step.id().clone(), attempt: step.attempt })
            }
            _ => None,
        };
        self.steps.iter().filter_map(effect).collect()
    }

    fn hopeless(&self, step: &Step) -> Option<TaskEvent> {
        if step.status != StepStatus::Pending || step.tolerates_failure() {
            return None;
        }
        // What comes after a list comes after all of its items, also if one has failed.
        if self.items(step).any(|item| !item.status.is_final()) {
            return None;
        }
        let lost = self
            .dependencies(step)
            .find(|needed| needed.status.is_final() && needed.status != StepStatus::Succeeded)?;
        let id = step.id().clone();
        if step.spec.kind == StepKind::Remember || lost.status == StepStatus::Cancelled {
            let reason = format!("Not run, because step `{}` has no result.", lost.id());
            return Some(TaskEvent::StepCancelled { step: id, reason });
        }
        let (code, why) = match &lost.error {
            Some(error) => (error.code, error.detail.as_str()),
            None => (ErrorCode::Internal, "it failed"),
        };
        let item = self.items(step).any(|item| item.id() == lost.id());
        let detail = if item {
            format!("Step `{}`, one of its items, failed: {why}", lost.id())
        } else {
            format!("Not run, because step `{}`, which it needs, failed: {why}", lost.id())
        };
        let error = StepError { code, detail, next_step: None };
        Some(failed(id, 0, error, false))
    }

    /// The cancellation of a step whose condition does not hold.
    fn unwanted(&self, step: &Step) -> Option<TaskEvent> {
        let when = step.spec.when.as_ref()?;
        if step.status != StepStatus::Pending || !self.satisfied(step) || self.permitted(step) {
            return None;
        }
        let reason = condition::refusal(when, self.looked_at(when));
        Some(TaskEvent::StepCancelled { step: step.id().clone(), reason })
    }

    fn completion(&self) -> TaskEvent {
        let answer = self.steps.iter().find(|step| step.spec.kind == StepKind::Answer);
        let answered = answer.and_then(|step| step.output.as_deref()).map(text);
        if answered.is_some() {
            return TaskEvent::TaskCompleted { status: TaskStatus::Succeeded, answer: answered, error: None };
        }
        if let Some(reason) = &self.cancelled {
            let error = StepError {
                code: ErrorCode::Cancelled,
                detail: format!("The task was stopped: {reason}."),
                next_step: None,
            };
            return TaskEvent::TaskCompleted {
                status: TaskStatus::Cancelled,
                answer: None,
                error: Some(error),
            };
        }
        let failed = answer.or_else(|| self.steps.iter().find(|step| self.sinks_the_task(step)));
        if let Some(step) = failed {
            let error = step.error.clone().unwrap_or_else(|| StepError {
                code: ErrorCode::Internal,
                detail: format!("Step `{}` has no result.", step.id()),
                next_step: None,
            });
            return TaskEvent::TaskCompleted { status: TaskStatus::Failed, answer: None, error: Some(error) };
        }
        let items: Vec<usize> = self.steps.iter().flat_map(|step| &step.items).copied().collect();
        let speaks = |place: usize, step: &Step| {
            step.spec.kind != StepKind::Remember && step.output.is_some() && !items.contains(&place)
        };
        let last = self.steps.iter().enumerate().rev().find(|(place, step)| speaks(*place, step));
        let answer = last.and_then(|(_, step)| step.output.as_deref()).map(text);
        TaskEvent::TaskCompleted { status: TaskStatus::Succeeded, answer, error: None }
    }

    /// Whether a step without a result leaves a task without an answer step without a result too.
    fn sinks_the_task(&self, step: &Step) -> bool {
        let tolerated = || {
            let uses = |user: &&Step| self.dependencies(user).any(|needed| needed.id() == step.id());
            let mut users = self.steps.iter().filter(uses).peekable();
            users.peek().is_some() && users.all(Step::tolerates_failure)
        };
        let optional = matches!(step.spec.kind, StepKind::Recall | StepKind::Remember);
        // What is cancelled though the task goes on has a condition that does not hold, or needs such a step.
        let ended_well = matches!(step.status, StepStatus::Succeeded | StepStatus::Cancelled);
        !ended_well && !optional && !tolerated()
    }
}

fn text(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
