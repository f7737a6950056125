//! The orchestrator's counters.

use kamil_node::{Counter, Gauge, Metrics};
use kamil_protocol::task::{StepKind, TaskStatus};

/// Counters that are used often, found once.
pub(crate) struct Measures {
    pub(crate) tasks: Counter,
    pub(crate) open_tasks: Gauge,
    pub(crate) waiting_steps: Gauge,
    pub(crate) retries: Counter,
    pub(crate) followers: Gauge,
    steps: [Counter; 6],
    ended: [Counter; 3],
}

impl Measures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let steps = ["recall", "plan", "reason", "tool", "answer", "remember"];
        let ended = ["succeeded", "failed", "cancelled"];
        Self {
            tasks: metrics.counter("kamil_tasks_total", "Tasks accepted."),
            open_tasks: metrics.gauge("kamil_tasks_open", "Tasks that have not ended."),
            waiting_steps: metrics.gauge("kamil_steps_waiting", "Steps that wait for a node."),
            retries: metrics.counter("kamil_step_retries_total", "Attempts that were followed by another."),
            followers: metrics.gauge("kamil_event_followers", "Event streams that are being followed."),
            steps: steps.map(|kind| {
                metrics.counter_with("kamil_steps_started_total", "Attempts at steps.", &[("kind", kind)])
            }),
            ended: ended.map(|status| {
                metrics.counter_with("kamil_tasks_ended_total", "Tasks ended.", &[("status", status)])
            }),
        }
    }

    pub(crate) fn step(&self, kind: StepKind) {
        let place = match kind {
            StepKind::Recall => 0,
            StepKind::Plan => 1,
            StepKind::Reason => 2,
            StepKind::Tool => 3,
            StepKind::Answer => 4,
            StepKind::Remember => 5,
        };
        if let Some(counter) = self.steps.get(place) {
            counter.inc();
        }
    }

    pub(crate) fn task_ended(&self, status: TaskStatus) {
        let place = match status {
            TaskStatus::Succeeded => 0,
            TaskStatus::Cancelled => 2,
            _ => 1,
        };
        if let Some(counter) = self.ended.get(place) {
            counter.inc();
        }
    }
}
