//! What a task may use up: plans, attempts beyond the first, and tokens that models write.

use kamil_protocol::{
    ErrorCode, StepId,
    event::TaskEvent,
    task::{DEFAULT_MAX_TOKENS_OUT, StepError, StepKind, StepSpec, StepStatus},
};

use crate::{failure::leaves_doubt, step::Step, task::Task};

/// Most `plan` steps of a task: the first, and new ones after what was seen or what failed.
pub const MAX_PLANS: usize = 3;
/// Most attempts of a task that follow a failed one, over all of its steps. Full nodes and restarts of the orchestrator do not count.
pub const MAX_RETRIES: u32 = 32;

impl Task {
    /// How many `plan` steps may still be added.
    #[must_use]
    pub fn plans_left(&self) -> usize {
        MAX_PLANS.saturating_sub(self.plans().count())
    }

    /// The name of the next `plan` step, if there may be one.
    #[must_use]
    pub fn next_plan(&self) -> Option<StepId> {
        let name = match self.plans().count() {
            0 => "plan".to_owned(),
            number if number < MAX_PLANS => format!("plan{}", number + 1),
            _ => return None,
        };
        name.parse().ok()
    }

    /// Tokens that models may still write for the task: its budget, less what was written and what running steps may write.
    #[must_use]
    pub fn tokens_left(&self) -> u64 {
        let running = self.steps.iter().filter(|step| step.status == StepStatus::Running);
        let granted: u64 = running.filter_map(|step| step.granted).map(u64::from).sum();
        self.token_budget().saturating_sub(self.tokens_spent).saturating_sub(granted)
    }

    /// Tokens that were written for the task. Of an attempt of which nobody told how much it wrote, all that it might have.
    #[must_use]
    pub const fn tokens_spent(&self) -> u64 {
        self.tokens_spent
    }

    fn token_budget(&self) -> u64 {
        let asked = self.request.sampling.as_ref().and_then(|sampling| sampling.max_tokens);
        let usual = DEFAULT_MAX_TOKENS_OUT.max(asked.unwrap_or(0));
        u64::from(self.request.max_tokens_out.unwrap_or(usual))
    }

    /// The step that follows when a planned one has failed in a way that another plan may mend: a new plan, which sees the results
    /// and the error. There is at most one for each plan, and it waits until all that was planned has ended.
    pub(crate) fn another_plan(&self) -> Option<TaskEvent> {
        let last = self.plans().last()?;
        let answered = self
            .steps
            .iter()
            .any(|step| step.spec.kind == StepKind::Answer && (step.attempt > 0 || step.status.is_final()));
        if last.status != StepStatus::Succeeded || answered || self.cancelled.is_some() {
            return None;
        }
        let failed = self.steps.iter().find(|step| {
            let code = step.error.as_ref().map(|error| error.code);
            step.status == StepStatus::Failed && self.planned_by(step, last) && code.is_some_and(mendable)
        })?;
        let step = StepSpec {
            depends_on: self.planned_so_far(),
            tolerates_failure: true,
            ..StepSpec::new(self.next_plan()?, StepKind::Plan)
        };
        let (cause, steps) = (Some(failed.id().clone()), vec![step]);
        let digest = Some(kamil_protocol::digest::of_steps(&steps));
        Some(TaskEvent::StepsAdded { cause, steps, digest })
    }

    /// What a further plan, or an answer, waits for and sees: the recall and all that was planned, in order.
    #[must_use]
    pub fn planned_so_far(&self) -> Vec<StepId> {
        let items: Vec<usize> = self.steps.iter().flat_map(|step| &step.items).copied().collect();
        let kinds = [StepKind::Recall, StepKind::Tool, StepKind::Reason];
        let seen = self
            .steps
            .iter()
            .enumerate()
            .filter(|(place, step)| kinds.contains(&step.spec.kind) && !items.contains(place));
        seen.map(|(_, step)| step.id().clone()).collect()
    }

    fn plans(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.spec.kind == StepKind::Plan)
    }

    fn planned_by(&self, step: &Step, plan: &Step) -> bool {
        let cause = step.cause.as_ref();
        let list = cause.and_then(|cause| self.step(cause)).filter(|list| list.spec.for_each.is_some());
        cause == Some(plan.id()) || list.is_some_and(|list| list.cause.as_ref() == Some(plan.id()))
    }

    /// Counts what an attempt has used up that ended in this failure.
    pub(crate) fn count_failure(&mut self, place: usize, code: ErrorCode, retry: bool) {
        if retry && !matches!(code, ErrorCode::Busy | ErrorCode::Cancelled) {
            self.retries += 1;
        }
        let Some(step) = self.steps.get_mut(place) else { return };
        let may_have_written =
            leaves_doubt(code) || matches!(code, ErrorCode::PlanInvalid | ErrorCode::BudgetExceeded);
        if let Some(granted) = step.granted.take().filter(|_| may_have_written) {
            self.tokens_spent += u64::from(granted);
        }
    }

    /// Why a step cannot start that would have a model write.
    #[must_use]
    pub fn out_of_tokens(&self) -> StepError {
        let budget = self.token_budget();
        StepError {
            code: ErrorCode::BudgetExceeded,
            detail: format!("The task's budget of {budget} tokens that models may write is used up."),
            next_step: Some("Ask again with a larger `max_tokens_out`, or for less.".to_owned()),
        }
    }
}

/// Whether another plan might avoid such a failure: the call was wrong, not the node that ran it, and nobody said no.
const fn mendable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidArguments
            | ErrorCode::NotFound
            | ErrorCode::ToolFailed
            | ErrorCode::ToolUnknown
            | ErrorCode::PlanInvalid
            | ErrorCode::ValidationFailed
            | ErrorCode::ContextExceeded
    )
}
