//! The state of a task: the fold over its events.

use std::sync::Arc;

use jiff::Timestamp;
use kamil_protocol::{
    StepId, TaskId, digest,
    event::{ForkedFrom, TaskEvent},
    flow::Condition,
    task::{Decision, Labels, MAX_STEPS, StepError, StepKind, StepSpec, StepStatus, TaskRequest, TaskStatus},
};

use crate::{condition, labels, reference, step::Step};

/// An event that cannot have happened in the state it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The first event is another than `task_created`, or a later one is that.
    #[error("a task begins with `task_created`, once")]
    Beginning,
    /// The task has ended before.
    #[error("the task has ended, nothing can follow")]
    AfterEnd,
    /// The event is about a step that was never added.
    #[error("there is no step `{0}`")]
    UnknownStep(StepId),
    /// A step was added twice, depends on one that is not there, or is one too many.
    #[error("step `{step}` cannot be added: {reason}")]
    CannotAdd {
        /// The step.
        step: StepId,
        /// Why not.
        reason: &'static str,
    },
    /// The step's status does not allow the event.
    #[error("step `{step}` is {status:?}: {event} cannot happen")]
    Transition {
        /// The step.
        step: StepId,
        /// Its status.
        status: StepStatus,
        /// The event.
        event: &'static str,
    },
    /// The task ended while a step had not.
    #[error("the task ended before step `{0}` did")]
    EndTooEarly(StepId),
    /// The step's model might write more than is left of the task's budget.
    #[error("step `{0}` started with more tokens than the task has left")]
    OverBudget(StepId),
    /// The steps are others than their digest tells.
    #[error("the plan of step `{0}` is another than its digest tells")]
    OtherPlan(StepId),
    /// What others may have written would steer what changes something, and the person has not agreed.
    #[error("step `{0}` started without the person's yes")]
    Unapproved(StepId),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// `succeeded`, `failed` or `cancelled`.
    pub status: TaskStatus,
    /// The reply.
    pub answer: Option<String>,
    /// Why it failed.
    pub error: Option<StepError>,
    /// When.
    pub at: Timestamp,
}

/// A task: the request and its graph of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub(crate) id: TaskId,
    pub(crate) request: Arc<TaskRequest>,
    pub(crate) created_at: Timestamp,
    pub(crate) steps: Vec<Step>,
    pub(crate) degraded: Vec<String>,
    pub(crate) tools: Option<String>,
    pub(crate) forked_from: Option<ForkedFrom>,
    pub(crate) cancelled: Option<String>,
    pub(crate) ended: Option<Ended>,
    pub(crate) retries: u32,
    pub(crate) tokens_spent: u64,
}

impl Task {
    /// The task that its first event makes.
    ///
    /// # Errors
    /// [`FoldError::Beginning`] if it is another event than `task_created`.
    pub fn create(id: TaskId, at: Timestamp, event: &TaskEvent) -> Result<Self, FoldError> {
        let TaskEvent::TaskCreated { request, offers, forked_from, .. } = event else {
            return Err(FoldError::Beginning);
        };
        Ok(Self {
            id,
            request: Arc::new(request.clone()),
            created_at: at,
            steps: Vec::new(),
            degraded: Vec::new(),
            tools: offers.as_ref().map(|offers| offers.tools.clone()),
            forked_from: forked_from.clone(),
            cancelled: None,
            ended: None,
            retries: 0,
            tokens_spent: 0,
        })
    }

    /// The state that these events lead to.
    ///
    /// # Errors
    /// [`FoldError`] at the first event that cannot have happened.
    pub fn fold<'a>(
        id: TaskId,
        events: impl IntoIterator<Item = (Timestamp, &'a TaskEvent)>,
    ) -> Result<Self, FoldError> {
        let mut events = events.into_iter();
        let (at, first) = events.next().ok_or(FoldError::Beginning)?;
        let mut task = Self::create(id, at, first)?;
        events.try_for_each(|(at, event)| task.apply(at, event))?;
        Ok(task)
    }

    /// The task's id.
    #[must_use]
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// What was asked.
    #[must_use]
    pub const fn request(&self) -> &Arc<TaskRequest> {
        &self.request
    }

    /// When it was accepted.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The steps, in the order in which they were added.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step with this name.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id() == id)
    }

    /// What was done less well than asked.
    #[must_use]
    pub fn degraded(&self) -> &[String] {
        &self.degraded
    }

    /// Digest of the tools that decisions go by now; none for a task that no tool bears on.
    #[must_use]
    pub fn tools(&self) -> Option<&str> {
        self.tools.as_deref()
    }

    /// The task that it is, but for one result.
    #[must_use]
    pub const fn forked_from(&self) -> Option<&ForkedFrom> {
        self.forked_from.as_ref()
    }

    /// How it ended, if it has.
    #[must_use]
    pub const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Where the task stands.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        if let Some(ended) = &self.ended {
            return ended.status;
        }
        let any = |wanted: &[StepStatus]| self.steps.iter().any(|step| wanted.contains(&step.status));
        if any(&[StepStatus::Running]) {
            TaskStatus::Running
        } else if any(&[StepStatus::AwaitingApproval, StepStatus::OutcomeUnknown])
            && !any(&[StepStatus::Ready])
        {
            TaskStatus::AwaitingApproval
        } else if self.steps.iter().any(|step| step.attempt > 0) {
            TaskStatus::Running
        } else {
            TaskStatus::Queued
        }
    }

    /// The steps that `step` depends on: those named, those that it refers to, and those of its items.
    pub fn dependencies(&self, step: &Step) -> impl Iterator<Item = &Step> {
        step.dependencies.iter().filter_map(|place| self.steps.get(*place))
    }

    /// A step's inputs with all references replaced; a failed step that is tolerated reads as null.
    ///
    /// # Errors
    /// [`reference::ReferenceError`] when an output has nothing at a pointer.
    pub fn resolve(
        &self,
        step: &Step,
    ) -> Result<serde_json::Map<String, serde_json::Value>, reference::ReferenceError> {
        reference::resolve(&step.spec.inputs, |id| {
            let source = self.step(id)?;
            match &source.output {
                Some(output) => Some(Some(output.as_ref())),
                None if source.status.is_final() && step.tolerates_failure() => Some(None),
                None => None,
            }
        })
    }

    /// Takes an event.
    ///
    /// # Errors
    /// [`FoldError`]; the state is then as it was.
    pub fn apply(&mut self, at: Timestamp, event: &TaskEvent) -> Result<(), FoldError> {
        if self.ended.is_some() {
            return Err(FoldError::AfterEnd);
        }
        match event {
            TaskEvent::TaskCreated { .. } => return Err(FoldError::Beginning),
            TaskEvent::StepsAdded { cause, steps, digest } => {
                self.add(cause.as_ref(), steps, digest.as_deref())?;
            }
            TaskEvent::ToolsChanged { tools } => self.tools = Some(tools.clone()),
            TaskEvent::Degraded { reason } => self.degraded.push(reason.clone()),
            TaskEvent::CancelRequested { reason } => self.cancelled = Some(reason.clone()),
            TaskEvent::TaskCompleted { status, answer, error } => {
                if let Some(open) = self.steps.iter().find(|step| !step.status.is_final()) {
                    return Err(FoldError::EndTooEarly(open.id().clone()));
                }
                self.ended =
                    Some(Ended { status: *status, answer: answer.clone(), error: error.clone(), at });
            }
            about_a_step => self.apply_to_step(at, about_a_step)?,
        }
        self.refresh(at);
        Ok(())
    }

    fn apply_to_step(&mut self, at: Timestamp, event: &TaskEvent) -> Result<(), FoldError> {
        match event {
            TaskEvent::StepStarted { step, attempt, node, model, placement, effect, max_tokens, .. } => {
                if max_tokens.is_some_and(|granted| u64::from(granted) > self.tokens_left()) {
                    return Err(FoldError::OverBudget(step.clone()));
                }
                if let (Some(effect), Some(step)) = (effect, self.step(step))
                    && !matches!(self.unapproved(step, *effect), Ok(None))
                {
                    return Err(FoldError::Unapproved(step.id().clone()));
                }
                let step = self.in_status(step, "start", &[StepStatus::Ready])?;
                if *attempt != step.attempt + 1 {
                    return Err(impossible(step, "start"));
                }
                step.status = StepStatus::Running;
                step.attempt = *attempt;
                step.node = Some(*node);
                step.model.clone_from(model);
                step.granted = *max_tokens;
                step.placement = Some(Arc::new(placement.clone()));
                step.started_at = Some(at);
                step.waiting = None;
            }
            TaskEvent::StreamSpliced { step, attempt, .. } => {
                self.running(step, *attempt, "splicing")?;
            }
            TaskEvent::ResultKept { step, status, output, labels, error } => {
                let step = self.in_status(step, "keeping", &[StepStatus::Pending, StepStatus::Ready])?;
                if !status.is_final() || (*status == StepStatus::Succeeded) != output.is_some() {
                    return Err(impossible(step, "keeping"));
                }
                step.status = *status;
                step.output = output.clone().map(Arc::new);
                step.labels.clone_from(labels);
                step.error.clone_from(error);
                step.ended_at = Some(at);
            }
            TaskEvent::ResultGiven { step, output, labels } => {
                let step = self.in_status(step, "giving", &[StepStatus::Pending, StepStatus::Ready])?;
                step.status = StepStatus::Succeeded;
                step.output = Some(Arc::new(output.clone()));
                step.labels = Some(labels.clone());
                step.ended_at = Some(at);
            }
            TaskEvent::StepWaiting { step, reason } => {
                self.in_status(step, "wait", &[StepStatus::Ready])?.waiting = Some(reason.clone());
            }
            TaskEvent::StepSucceeded { step, attempt, output, labels, enforced, tokens_in, tokens_out } => {
                let step = match attempt {
                    0 => self.gathering(step)?,
                    _ => self.running(step, *attempt, "success")?,
                };
                step.status = StepStatus::Succeeded;
                step.output = Some(Arc::new(output.clone()));
                step.labels = Some(labels.clone());
                step.enforced.clone_from(enforced);
                (step.tokens_in, step.tokens_out) = (*tokens_in, *tokens_out);
                (step.error, step.ended_at) = (None, Some(at));
                let written = tokens_out.or(step.granted.take()).unwrap_or(0);
                step.granted = None;
                self.tokens_spent += u64::from(written);
            }
            TaskEvent::StepFailed { step, attempt, error, retry, refused, .. } => {
                let failed = self.failed(at, step, *attempt, error, *retry)?;
                if let Some(refused) = refused {
                    failed.refuse(refused);
                }
                let place = self.place(step)?;
                self.count_failure(place, error.code, *retry);
            }
            TaskEvent::StepOutcomeUnknown { step, attempt, reason, .. } => {
                let step = self.in_status(step, "doubt", &[StepStatus::Running, StepStatus::Ready])?;
                if *attempt != step.attempt || *attempt == 0 {
                    return Err(impossible(step, "doubt"));
                }
                step.status = StepStatus::OutcomeUnknown;
                step.waiting = None;
                step.error = Some(unknown(reason));
                let granted = step.granted.take().unwrap_or(0);
                self.tokens_spent += u64::from(granted);
            }
            TaskEvent::ApprovalRequested { step, request } => {
                let step = self.in_status(step, "asking", &[StepStatus::Running, StepStatus::Ready])?;
                step.status = StepStatus::AwaitingApproval;
                step.waiting = None;
                step.approval = Some(request.clone());
                let granted = step.granted.take().unwrap_or(0);
                self.tokens_spent += u64::from(granted);
            }
            TaskEvent::ApprovalDecided { step, decision, digest } => {
                self.decided(at, step, *decision, digest)?
            }
            TaskEvent::StepCancelled { step, reason } => {
                let step = self.known(step)?;
                if step.status.is_final() {
                    return Err(impossible(step, "cancellation"));
                }
                step.status = StepStatus::Cancelled;
                step.ended_at = Some(at);
                (step.approval, step.waiting) = (None, None);
                step.error = Some(StepError {
                    code: kamil_protocol::ErrorCode::Cancelled,
                    detail: reason.clone(),
                    next_step: None,
                });
            }
            _ => return Err(FoldError::Beginning),
        }
        Ok(())
    }

    fn failed(
        &mut self,
        at: Timestamp,
        step: &StepId,
        attempt: u32,
        error: &StepError,
        retry: bool,
    ) -> Result<&mut Step, FoldError> {
        let step = self.known(step)?;
        let possible = match step.status {
            StepStatus::Running => attempt == step.attempt,
            // Given up before an attempt: no node, or a step it needs has failed.
            StepStatus::Pending | StepStatus::Ready => attempt == 0 && !retry,
            StepStatus::AwaitingApproval | StepStatus::OutcomeUnknown => attempt == step.attempt && !retry,
            StepStatus::Succeeded | StepStatus::Failed | StepStatus::Cancelled => false,
        };
        if !possible {
            return Err(impossible(step, "failure"));
        }
        step.approval = None;
        step.fail(at, error, retry);
        Ok(step)
    }

    fn decided(
        &mut self,
        at: Timestamp,
        step: &StepId,
        decision: Decision,
        digest: &str,
    ) -> Result<(), FoldError> {
        let waits = [StepStatus::AwaitingApproval, StepStatus::OutcomeUnknown];
        let step = self.in_status(step, "decision", &waits)?;
        if decision == Decision::Deny {
            return Ok(());
        }
        if step.status == StepStatus::OutcomeUnknown {
            step.reruns += 1;
            step.doubtful = false;
            step.failures = 0;
            step.failed_on.clear();
        } else {
            step.approved = Some(digest.to_owned());
        }
        step.approval = None;
        step.status = StepStatus::Ready;
        step.ready_at = Some(at);
        Ok(())
    }

    fn add(
        &mut self,
        cause: Option<&StepId>,
        specs: &[StepSpec],
        digest: Option<&str>,
    ) -> Result<(), FoldError> {
        if let Some(first) = specs.first()
            && digest.is_some_and(|digest| digest != digest::of_steps(specs))
        {
            return Err(FoldError::OtherPlan(first.id.clone()));
        }
        let plan_labels = self.plan_labels(cause);
        let list = cause.map(|cause| self.place(cause)).transpose()?;
        // A list that failed may be the cause of a new plan as well.
        let items = specs.iter().all(|spec| spec.kind != StepKind::Plan);
        let list = list.filter(|place| items && self.steps[*place].spec.for_each.is_some());
        let mut plans_left = self.plans_left();
        let mut all: Vec<&StepId> = self.steps.iter().map(Step::id).collect();
        for spec in specs {
            let refuse = |reason| FoldError::CannotAdd { step: spec.id.clone(), reason };
            if all.contains(&&spec.id) {
                return Err(refuse("there is one of this name"));
            }
            if all.len() == MAX_STEPS {
                return Err(refuse("the graph is full"));
            }
            if spec.kind == StepKind::Plan && plans_left == 0 {
                return Err(refuse("the task has as many plans as it may have"));
            }
            plans_left -= usize::from(spec.kind == StepKind::Plan);
            if list.is_some_and(|place| !self.expects_items(place)) {
                return Err(refuse("the list it is an item of does not wait for items"));
            }
            all.push(&spec.id);
        }
        let mut added = Vec::with_capacity(specs.len());
        for spec in specs {
            let refuse = |reason| FoldError::CannotAdd { step: spec.id.clone(), reason };
            let needs = reference::needs(spec).map_err(|_| refuse("its references have no form"))?;
            let place = |id: &StepId| all.iter().position(|known| *known == id);
            let places: Option<Vec<usize>> = needs.steps.iter().map(place).collect();
            let places = places.ok_or_else(|| refuse("it depends on a step that is not there"))?;
            added.push(Step::new(spec.clone(), places, plan_labels.clone(), cause.cloned()));
        }
        if let Some(place) = list {
            let items = self.steps.len()..self.steps.len() + added.len();
            self.steps[place].items = items.clone().collect();
            // It ends after its items, and what went into them goes into its output.
            self.steps[place].dependencies.extend(items);
        } else if cause.is_some() {
            self.defer_answer(&added);
        }
        self.steps.extend(added);
        Ok(())
    }

    /// The answer comes last: it waits for what is planned after it was, unless it has been started.
    fn defer_answer(&mut self, added: &[Step]) {
        let first = self.steps.len();
        let kinds = [StepKind::Plan, StepKind::Tool, StepKind::Reason];
        let planned = added.iter().enumerate().filter(|(_, step)| kinds.contains(&step.spec.kind));
        let planned: Vec<usize> = planned.map(|(place, _)| first + place).collect();
        let open = [StepStatus::Pending, StepStatus::Ready];
        for step in &mut self.steps {
            if step.spec.kind == StepKind::Answer && step.attempt == 0 && open.contains(&step.status) {
                step.dependencies.extend(&planned);
                if !planned.is_empty() {
                    (step.status, step.waiting) = (StepStatus::Pending, None);
                }
            }
        }
    }

    /// Labels on what a step's result makes others do.
    fn plan_labels(&self, cause: Option<&StepId>) -> Labels {
        let Some(cause) = cause.and_then(|cause| self.step(cause)) else { return labels::person() };
        match (cause.spec.kind, &cause.labels) {
            // What follows a recall, and a plan that nobody could write, is made by rules from the person's own words.
            (StepKind::Recall, _) | (StepKind::Plan, None) => labels::person(),
            (_, Some(labels)) => labels::join([&cause.plan_labels, labels]),
            (_, None) => cause.plan_labels.clone(),
        }
    }

    fn place(&self, id: &StepId) -> Result<usize, FoldError> {
        let place = self.steps.iter().position(|step| step.id() == id);
        place.ok_or_else(|| FoldError::UnknownStep(id.clone()))
    }

    fn expects_items(&self, place: usize) -> bool {
        let step = &self.steps[place];
        step.status == StepStatus::Pending && step.items.is_empty() && self.satisfied(step)
    }

    /// Whether all that the step waits for has ended as it must.
    pub(crate) fn satisfied(&self, step: &Step) -> bool {
        let tolerant = step.tolerates_failure();
        self.dependencies(step)
            .all(|needed| needed.status == StepStatus::Succeeded || (tolerant && needed.status.is_final()))
    }

    /// Whether the step's condition holds, if it has one.
    pub(crate) fn permitted(&self, step: &Step) -> bool {
        step.spec.when.as_ref().is_none_or(|when| condition::holds(&when.is, self.looked_at(when)))
    }

    /// What the condition looks at; `None` if it is not there.
    pub(crate) fn looked_at(&self, when: &Condition) -> Option<&serde_json::Value> {
        let output = self.step(&when.value.from)?.output.as_deref()?;
        output.pointer(&when.value.path)
    }

    fn refresh(&mut self, at: Timestamp) {
        for place in 0..self.steps.len() {
            let step = &self.steps[place];
            let starts = step.status == StepStatus::Pending && step.spec.for_each.is_none();
            if starts && self.satisfied(step) && self.permitted(step) {
                self.steps[place].status = StepStatus::Ready;
                self.steps[place].ready_at = Some(at);
            }
        }
    }

    /// A step over a list that may end now: the list is empty, or all of its items have ended.
    fn gathering(&mut self, id: &StepId) -> Result<&mut Step, FoldError> {
        let place = self.place(id)?;
        let step = &self.steps[place];
        let may = step.status == StepStatus::Pending && step.spec.for_each.is_some() && self.satisfied(step);
        if may { Ok(&mut self.steps[place]) } else { Err(impossible(step, "success")) }
    }

    fn known(&mut self, id: &StepId) -> Result<&mut Step, FoldError> {
        let found = self.steps.iter_mut().find(|step| step.id() == id);
        found.ok_or_else(|| FoldError::UnknownStep(id.clone()))
    }

    fn in_status(
        &mut self,
        id: &StepId,
        event: &'static str,
        allowed: &[StepStatus],
    ) -> Result<&mut Step, FoldError> {
        let step = self.known(id)?;
        if allowed.contains(&step.status) { Ok(step) } else { Err(impossible(step, event)) }
    }

    fn running(&mut self, id: &StepId, attempt: u32, event: &'static str) -> Result<&mut Step, FoldError> {
        let step = self.in_status(id, event, &[StepStatus::Running])?;
        if step.attempt == attempt { Ok(step) } else { Err(impossible(step, event)) }
    }
}

fn impossible(step: &Step, event: &'static str) -> FoldError {
    FoldError::Transition { step: step.id().clone(), status: step.status, event }
}

pub(crate) fn unknown(reason: &str) -> StepError {
    StepError {
        code: kamil_protocol::ErrorCode::OutcomeUnknown,
        detail: reason.to_owned(),
        next_step: Some(
            "Look whether the effect happened, then approve to run it again, or deny to leave it.".to_owned(),
        ),
    }
}
