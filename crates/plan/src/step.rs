//! One step of a task.

use std::sync::Arc;

use jiff::Timestamp;
use kamil_protocol::{
    ErrorCode, NodeId, StepId,
    event::RefusedPlan,
    placement::Placement,
    task::{ApprovalRequest, Labels, StepError, StepKind, StepSpec, StepStatus},
};
use serde_json::Value;

use crate::failure::leaves_doubt;

/// A step and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As it was planned.
    pub spec: Arc<StepSpec>,
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts started so far.
    pub attempt: u32,
    /// What it returned.
    pub output: Option<Arc<Value>>,
    /// Labels on the output.
    pub labels: Option<Labels>,
    /// Labels on the literals among its inputs: those of the plan that wrote them.
    pub plan_labels: Labels,
    /// The step whose end called for it.
    pub cause: Option<StepId>,
    /// Why the last attempt ended without an output.
    pub error: Option<StepError>,
    /// The node of the last attempt.
    pub node: Option<NodeId>,
    /// The model of the last attempt.
    pub model: Option<String>,
    /// Why the last attempt ran where it ran.
    pub placement: Option<Arc<Placement>>,
    /// What the person is asked.
    pub approval: Option<ApprovalRequest>,
    /// Digest of tool and arguments that the person agreed to.
    pub approved: Option<String>,
    /// What it waits for, while it could start.
    pub waiting: Option<String>,
    /// Layers of confinement that were enforced.
    pub enforced: Vec<String>,
    /// Nodes on which an attempt failed, in the order of the attempts.
    pub failed_on: Vec<NodeId>,
    /// An earlier attempt may have had its effect: a step that must not run twice may only go to the same node, under the
    /// same key.
    pub doubtful: bool,
    /// The last reply that was no valid plan, for the model that wrote it.
    pub refused: Option<RefusedPlan>,
    /// The model that took over from one that wrote no valid plan.
    pub taken_over_by: Option<String>,
    /// How often the person had it run again after its outcome was unknown.
    pub reruns: u32,
    /// When it could first start.
    pub ready_at: Option<Timestamp>,
    /// Start of the last attempt.
    pub started_at: Option<Timestamp>,
    /// End of the step.
    pub ended_at: Option<Timestamp>,
    /// Prompt tokens read.
    pub tokens_in: Option<u32>,
    /// Tokens written.
    pub tokens_out: Option<u32>,
    pub(crate) dependencies: Vec<usize>,
    /// For a step that runs over a list, once that is there: the places of its items' steps, in the order of the items.
    pub(crate) items: Vec<usize>,
    /// Tokens that its model may write in the attempt that runs.
    pub(crate) granted: Option<u32>,
    pub(crate) failures: u32,
    pub(crate) busy: u32,
    pub(crate) invalid: u32,
}

impl Step {
    pub(crate) fn new(
        spec: StepSpec,
        dependencies: Vec<usize>,
        plan_labels: Labels,
        cause: Option<StepId>,
    ) -> Self {
        Self {
            spec: Arc::new(spec),
            plan_labels,
            cause,
            status: StepStatus::Pending,
            attempt: 0,
            output: None,
            labels: None,
            error: None,
            node: None,
            model: None,
            placement: None,
            approval: None,
            approved: None,
            waiting: None,
            enforced: Vec::new(),
            failed_on: Vec::new(),
            doubtful: false,
            refused: None,
            taken_over_by: None,
            reruns: 0,
            ready_at: None,
            started_at: None,
            ended_at: None,
            tokens_in: None,
            tokens_out: None,
            dependencies,
            items: Vec::new(),
            granted: None,
            failures: 0,
            busy: 0,
            invalid: 0,
        }
    }

    /// Its name in the task.
    #[must_use]
    pub fn id(&self) -> &StepId {
        &self.spec.id
    }

    /// Replies to a `plan` step that were no valid plan.
    #[must_use]
    pub fn invalid_replies(&self) -> u32 {
        self.invalid
    }

    /// Times that a full node turned the step away.
    #[must_use]
    pub fn busy_replies(&self) -> u32 {
        self.busy
    }

    /// Whether it may run though a step it depends on has failed. An answer may always: the person is told what failed.
    #[must_use]
    pub fn tolerates_failure(&self) -> bool {
        self.spec.tolerates_failure || self.spec.kind == StepKind::Answer
    }

    pub(crate) fn refuse(&mut self, refused: &RefusedPlan) {
        self.refused = refused.another.is_none().then(|| refused.clone());
        if refused.another.is_some() {
            self.taken_over_by.clone_from(&refused.another);
        }
    }

    /// Tokens that its model may write in the attempt that runs, for steps of an LLM node.
    #[must_use]
    pub const fn granted(&self) -> Option<u32> {
        self.granted
    }

    /// What is left of the step's own time, in milliseconds; `None` if it has no limit of its own.
    #[must_use]
    pub fn left_ms(&self, now: Timestamp) -> Option<u64> {
        let limit = self.spec.deadline_ms?;
        let since = self.ready_at.map_or(0, |ready| now.as_millisecond() - ready.as_millisecond());
        Some(limit.saturating_sub(u64::try_from(since).unwrap_or(0)))
    }

    pub(crate) fn fail(&mut self, at: Timestamp, error: &StepError, retry: bool) {
        match error.code {
            // Neither a full node nor a restart of the orchestrator is a fault of the step.
            ErrorCode::Busy => self.busy += 1,
            ErrorCode::Cancelled if retry => {}
            ErrorCode::PlanInvalid if self.spec.kind == StepKind::Plan => self.invalid += 1,
            _ => {
                self.failures += 1;
                self.failed_on.extend(self.node);
            }
        }
        if retry && self.spec.kind == StepKind::Tool && leaves_doubt(error.code) {
            self.doubtful = true;
        }
        self.error = Some(error.clone());
        self.waiting = None;
        if retry {
            self.status = StepStatus::Ready;
        } else {
            self.status = StepStatus::Failed;
            self.ended_at = Some(at);
        }
    }
}
