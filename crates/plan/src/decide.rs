//! What follows from something that came in.

use jiff::Timestamp;
use kamil_protocol::{
    ErrorCode, NodeId, Problem, StepId, digest,
    event::{Offers, RefusedPlan, TaskEvent},
    placement::Placement,
    task::{ApprovalRequest, Decision, Labels, StepError, StepKind, StepSpec, StepStatus, TaskRequest},
    tool::SideEffect,
};
use serde_json::Value;

use crate::{
    budget::MAX_RETRIES,
    failure::{RetryClass, Verdict, judge},
    reference::ReferenceError,
    step::Step,
    task::{FoldError, Task, unknown},
};

/// What a step returned.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutput {
    /// The result.
    pub output: Value,
    /// Labels on it.
    pub labels: Labels,
    /// Layers of confinement that were enforced.
    pub enforced: Vec<String>,
    /// Prompt tokens read.
    pub tokens_in: Option<u32>,
    /// Tokens written.
    pub tokens_out: Option<u32>,
}

/// How the graph goes on after a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    /// What is done less well than asked, and why.
    pub degraded: Vec<String>,
    /// Steps to be added; [`graph::validate`](crate::graph::validate) has passed them.
    pub steps: Vec<StepSpec>,
}

/// Something that came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A node was chosen for a ready step. If what others may have written would steer what the step changes, the person is asked
    /// first, and it does not start yet.
    Placed {
        /// The step.
        step: StepId,
        /// The node.
        node: NodeId,
        /// The model, for steps of an LLM node.
        model: Option<String>,
        /// What the tool may change, as far as it is known: for a tool step, nothing counts as `external`.
        effect: Option<SideEffect>,
        /// Most tokens that the model is wanted to write, for steps of an LLM node.
        max_tokens: Option<u32>,
        /// The node has this long.
        lease_ms: u64,
        /// Why there.
        placement: Placement,
        /// Digest of the request.
        request_digest: Option<String>,
        /// What is done less well than asked.
        degraded: Vec<String>,
    },
    /// Other tools are registered than the decisions knew so far.
    ToolsChanged {
        /// Digest of the tools.
        tools: String,
    },
    /// The attempt that was just placed goes on with an answer that another node began.
    Spliced {
        /// The step.
        step: StepId,
        /// How much was written before, in Unicode scalar values.
        offset: u64,
        /// The node that broke off.
        from: NodeId,
        /// The model that began, if another one goes on.
        from_model: Option<String>,
    },
    /// The person gives a step of a forked task another result than it had.
    Given {
        /// The step.
        step: StepId,
        /// The result.
        output: Value,
        /// Labels on it.
        labels: Labels,
        /// How the graph goes on.
        then: Growth,
    },
    /// A ready step has nothing to do.
    Needless {
        /// The step.
        step: StepId,
        /// Why not.
        reason: String,
    },
    /// No node can take a ready step now.
    Waiting {
        /// The step.
        step: StepId,
        /// What it waits for, for the person.
        reason: String,
    },
    /// A node answered.
    Succeeded {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// What it returned.
        result: StepOutput,
        /// How the graph goes on.
        then: Growth,
    },
    /// An attempt ended without a result; attempt 0 gives up a step that was never started.
    Failed {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// Whether it may be tried again.
        class: RetryClass,
        /// Nobody told how the attempt ended: the connection broke, or the lease ran out.
        lost: bool,
        /// For a `plan` step: the reply that is no valid plan.
        refused: Option<RefusedPlan>,
        /// What the person is told if there is another attempt.
        again: Option<String>,
        /// How the graph goes on if there is no other attempt.
        otherwise: Growth,
    },
    /// Nobody can tell any more whether the step had its effect.
    Doubted {
        /// The step.
        step: StepId,
        /// Why nobody can tell.
        reason: String,
    },
    /// The tool node wants the person's yes.
    ApprovalNeeded {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
        /// What the person is asked.
        request: ApprovalRequest,
    },
    /// The person decided.
    Decided {
        /// The step.
        step: StepId,
        /// What.
        decision: Decision,
        /// The digest that they saw; without one, whatever is asked now.
        digest: Option<String>,
    },
    /// The person stops the task.
    Cancel {
        /// Why.
        reason: String,
    },
    /// The task's deadline passed.
    Deadline,
    /// The orchestrator starts again: no attempt that was running is being listened to.
    Restarted,
}

/// Why a task is stopped whose time is over.
pub const DEADLINE_PASSED: &str = "the task's time limit passed";

/// How an attempt ended without a result.
struct Failure {
    attempt: u32,
    error: StepError,
    class: RetryClass,
    lost: bool,
    refused: Option<RefusedPlan>,
    again: Option<String>,
}

/// Why an input changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The task has ended.
    #[error("the task has ended")]
    Ended,
    /// There is no step of this name.
    #[error("the task has no step `{0}`")]
    UnknownStep(StepId),
    /// The reply is to an attempt that is over.
    #[error("attempt {attempt} at step `{step}` is over")]
    Stale {
        /// The step.
        step: StepId,
        /// The attempt.
        attempt: u32,
    },
    /// The step does not wait for the person.
    #[error("step `{0}` does not wait for a decision")]
    NotAsked(StepId),
    /// The person decided on something else than what is asked now.
    #[error("step `{step}` asks about {asked}, not about {given}: nothing was approved")]
    OtherDigest {
        /// The step.
        step: StepId,
        /// The digest of what is asked.
        asked: String,
        /// The digest in the decision.
        given: String,
    },
    /// An input of the step is not there.
    #[error("step `{step}` cannot start")]
    Arguments {
        /// The step.
        step: StepId,
        /// Which, and why.
        #[source]
        error: ReferenceError,
    },
    /// The events do not fit the state; a fault in Kamil.
    #[error("the decision does not fit the task")]
    Fold(#[from] FoldError),
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::UnknownStep(_) => ErrorCode::StepUnknown,
            Rejection::Fold(_) => ErrorCode::Internal,
            _ => ErrorCode::Conflict,
        };
        Self::new(code, format!("{rejection}."))
    }
}

impl Task {
    /// The events that begin a task.
    #[must_use]
    pub fn begin(
        request: TaskRequest,
        idempotency_key: Option<String>,
        offers: Option<Offers>,
        first: Vec<StepSpec>,
    ) -> Vec<TaskEvent> {
        vec![
            TaskEvent::TaskCreated { request, idempotency_key, offers, forked_from: None },
            TaskEvent::StepsAdded { cause: None, digest: Some(digest::of_steps(&first)), steps: first },
        ]
    }

    /// What follows from an input, as events that [`Task::apply`] accepts one after the other.
    ///
    /// # Errors
    /// [`Rejection`] when the input comes too late or fits nothing; the state needs no change then.
    pub fn decide(&self, input: Input) -> Result<Vec<TaskEvent>, Rejection> {
        if self.ended.is_some() {
            return Err(Rejection::Ended);
        }
        match input {
            Input::Placed {
                step,
                node,
                model,
                effect,
                max_tokens,
                lease_ms,
                placement,
                request_digest,
                degraded,
            } => {
                let found = self.standing(&step, StepStatus::Ready)?;
                let effect =
                    (found.spec.kind == StepKind::Tool).then(|| effect.unwrap_or(SideEffect::External));
                let attempt = found.attempt + 1;
                let max_tokens = match max_tokens.map(|wanted| self.grant(found, wanted)) {
                    None => None,
                    Some(Ok(granted)) => Some(granted),
                    Some(Err(instead)) => return Ok(instead),
                };
                match effect.map_or(Ok(None), |effect| self.unapproved(found, effect)) {
                    Ok(None) => {}
                    Ok(Some(request)) => return Ok(vec![TaskEvent::ApprovalRequested { step, request }]),
                    Err(error) => return Err(Rejection::Arguments { step, error }),
                }
                let started = TaskEvent::StepStarted {
                    step,
                    attempt,
                    node,
                    model,
                    effect,
                    max_tokens,
                    lease_ms,
                    placement,
                    request_digest,
                };
                Ok(std::iter::once(started).chain(self.news(degraded)).collect())
            }
            Input::ToolsChanged { tools } => {
                let known = self.tools.as_ref() == Some(&tools);
                Ok(if known { Vec::new() } else { vec![TaskEvent::ToolsChanged { tools }] })
            }
            Input::Spliced { step, offset, from, from_model } => {
                let found = self.standing(&step, StepStatus::Running)?;
                let (attempt, to) = (found.attempt, found.node);
                let to = to.ok_or_else(|| Rejection::Stale { step: step.clone(), attempt })?;
                let degraded = from_model.iter().zip(&found.model).map(|(before, now)| {
                    let reason = format!("`{now}` goes on with the answer that `{before}` began.");
                    TaskEvent::Degraded { reason }
                });
                let degraded: Vec<TaskEvent> = degraded.collect();
                let spliced = TaskEvent::StreamSpliced { step, attempt, offset, from, to, from_model };
                Ok(std::iter::once(spliced).chain(degraded).collect())
            }
            Input::Given { step, output, labels, then } => {
                self.find(&step)?;
                let mut events = vec![TaskEvent::ResultGiven { step: step.clone(), output, labels }];
                grow(&mut events, step, then);
                Ok(events)
            }
            Input::Needless { step, reason } => {
                self.standing(&step, StepStatus::Ready)?;
                Ok(vec![TaskEvent::StepCancelled { step, reason }])
            }
            Input::Waiting { step, reason } => {
                let known = self.standing(&step, StepStatus::Ready)?.waiting.as_ref() == Some(&reason);
                Ok(if known { Vec::new() } else { vec![TaskEvent::StepWaiting { step, reason }] })
            }
            Input::Succeeded { step, attempt, result, then } => {
                self.attempting(&step, attempt)?;
                let StepOutput { output, labels, enforced, tokens_in, tokens_out } = result;
                let mut events = vec![TaskEvent::StepSucceeded {
                    step: step.clone(),
                    attempt,
                    output,
                    labels,
                    enforced,
                    tokens_in,
                    tokens_out,
                }];
                grow(&mut events, step, then);
                Ok(events)
            }
            Input::Failed { step, attempt, error, class, lost, refused, again, otherwise } => {
                let failure = Failure { attempt, error, class, lost, refused, again };
                self.failure(step, failure, otherwise)
            }
            Input::Doubted { step, reason } => {
                let found = self.find(&step)?;
                if !matches!(found.status, StepStatus::Running | StepStatus::Ready) || found.attempt == 0 {
                    return Err(Rejection::Stale { attempt: found.attempt, step });
                }
                let attempt = found.attempt;
                Ok(vec![TaskEvent::StepOutcomeUnknown { step, attempt, reason, code: None, lost: false }])
            }
            Input::ApprovalNeeded { step, attempt, mut request } => {
                let found = self.attempting(&step, attempt)?;
                // A tool node knows that others may have written something, but not what and where it came from.
                request.spans = self.untrusted_spans(found, &request.arguments);
                Ok(vec![TaskEvent::ApprovalRequested { step, request }])
            }
            Input::Decided { step, decision, digest } => self.decision(step, decision, digest),
            Input::Cancel { reason } => Ok(self.stop(&reason)),
            Input::Deadline => Ok(self.stop(DEADLINE_PASSED)),
            Input::Restarted => Ok(self.restarted()),
        }
    }

    /// Decides, adds what follows from the state alone, and applies it all.
    ///
    /// # Errors
    /// [`Rejection`]; the state is then as it was.
    pub fn advance(&mut self, at: Timestamp, input: Input) -> Result<Vec<TaskEvent>, Rejection> {
        let mut events = self.decide(input)?;
        for event in &events {
            self.apply(at, event)?;
        }
        loop {
            let next = self.settle();
            if next.is_empty() {
                return Ok(events);
            }
            for event in &next {
                self.apply(at, event)?;
            }
            events.extend(next);
        }
    }

    /// What of this the person has not been told yet.
    fn news(&self, degraded: Vec<String>) -> impl Iterator<Item = TaskEvent> {
        let new = degraded.into_iter().filter(|reason| !self.degraded.contains(reason));
        new.map(|reason| TaskEvent::Degraded { reason })
    }

    fn failure(
        &self,
        step: StepId,
        failure: Failure,
        otherwise: Growth,
    ) -> Result<Vec<TaskEvent>, Rejection> {
        let Failure { attempt, error, class, lost, refused, again } = failure;
        let found = self.find(&step)?;
        let given_up = attempt == 0 && found.status == StepStatus::Ready;
        if !given_up {
            self.attempting(&step, attempt)?;
        }
        let verdict = if given_up {
            Verdict::Fail
        } else {
            judge(found, error.code, class, lost, self.retries < MAX_RETRIES)
        };
        match verdict {
            Verdict::Retry => {
                let failed = TaskEvent::StepFailed { step, attempt, error, retry: true, lost, refused };
                Ok(std::iter::once(failed).chain(self.news(again.into_iter().collect())).collect())
            }
            Verdict::Unknown => {
                let StepError { code, detail: reason, .. } = error;
                Ok(vec![TaskEvent::StepOutcomeUnknown { step, attempt, reason, code: Some(code), lost }])
            }
            Verdict::Fail => {
                let loss = match found.spec.kind {
                    StepKind::Recall => Some(format!("Memory was not asked: {}", error.detail)),
                    StepKind::Remember => Some(format!("This was not kept in memory: {}", error.detail)),
                    _ => None,
                };
                let id = step.clone();
                let mut events =
                    vec![TaskEvent::StepFailed { step: id, attempt, error, retry: false, lost, refused }];
                events.extend(loss.map(|reason| TaskEvent::Degraded { reason }));
                grow(&mut events, step, otherwise);
                Ok(events)
            }
        }
    }

    fn decision(
        &self,
        step: StepId,
        decision: Decision,
        digest: Option<String>,
    ) -> Result<Vec<TaskEvent>, Rejection> {
        let found = self.find(&step)?;
        let (asked, denial) = match (found.status, &found.approval) {
            (StepStatus::AwaitingApproval, Some(request)) => {
                let detail = format!("The person did not allow `{}` with these arguments.", request.tool);
                (request.digest.clone(), StepError { code: ErrorCode::Denied, detail, next_step: None })
            }
            (StepStatus::OutcomeUnknown, _) => {
                let mut error = unknown("Whether it had its effect is not known, and it was not run again.");
                error.next_step = None;
                (String::new(), error)
            }
            _ => return Err(Rejection::NotAsked(step)),
        };
        if let Some(given) = digest.filter(|given| *given != asked) {
            return Err(Rejection::OtherDigest { step, asked, given });
        }
        let attempt = found.attempt;
        let mut events = vec![TaskEvent::ApprovalDecided { step: step.clone(), decision, digest: asked }];
        if decision == Decision::Deny {
            events.push(failed(step, attempt, denial, false));
        }
        Ok(events)
    }

    fn stop(&self, reason: &str) -> Vec<TaskEvent> {
        let open = self.steps.iter().filter(|step| !step.status.is_final());
        let cancelled = open.map(|step| {
            let acts = step.spec.kind == StepKind::Tool;
            let reason = match step.status {
                StepStatus::Running if acts => {
                    format!("Stopped while it ran, so part of its effect may have happened: {reason}.")
                }
                StepStatus::OutcomeUnknown => {
                    format!("Stopped; whether it had its effect is not known: {reason}.")
                }
                _ if acts && step.doubtful => {
                    format!("Stopped; whether an earlier attempt had its effect is not known: {reason}.")
                }
                _ => format!("Not run to its end: {reason}."),
            };
            TaskEvent::StepCancelled { step: step.id().clone(), reason }
        });
        std::iter::once(TaskEvent::CancelRequested { reason: reason.to_owned() }).chain(cancelled).collect()
    }

    fn restarted(&self) -> Vec<TaskEvent> {
        let running = self.steps.iter().filter(|step| step.status == StepStatus::Running);
        let interrupted = running.map(|step| {
            let detail = match step.spec.kind {
                StepKind::Answer => "The orchestrator stopped while the answer was written; it starts anew.",
                _ => "The orchestrator stopped while the step ran.",
            };
            let detail = detail.to_owned();
            let error = StepError { code: ErrorCode::Cancelled, detail, next_step: None };
            failed(step.id().clone(), step.attempt, error, true)
        });
        interrupted.collect()
    }

    /// How many tokens a model may write for a step, or what happens instead: while others write, the step waits for what they leave.
    fn grant(&self, step: &Step, wanted: u32) -> Result<u32, Vec<TaskEvent>> {
        let left = self.tokens_left();
        if left > 0 {
            return Ok(wanted.min(u32::try_from(left).unwrap_or(u32::MAX)));
        }
        let id = step.id().clone();
        let others =
            self.steps.iter().any(|other| other.status == StepStatus::Running && other.granted.is_some());
        if !others {
            let error = self.out_of_tokens();
            return Err(vec![failed(id, 0, error, false)]);
        }
        let reason = "What is left of the task's tokens is reserved for steps that are running.".to_owned();
        let told = step.waiting.as_ref() == Some(&reason);
        Err(if told { Vec::new() } else { vec![TaskEvent::StepWaiting { step: id, reason }] })
    }

    fn find(&self, id: &StepId) -> Result<&Step, Rejection> {
        self.step(id).ok_or_else(|| Rejection::UnknownStep(id.clone()))
    }

    fn standing(&self, id: &StepId, status: StepStatus) -> Result<&Step, Rejection> {
        let step = self.find(id)?;
        let stale = || Rejection::Stale { step: id.clone(), attempt: step.attempt };
        if step.status == status { Ok(step) } else { Err(stale()) }
    }

    fn attempting(&self, id: &StepId, attempt: u32) -> Result<&Step, Rejection> {
        let step = self.standing(id, StepStatus::Running)?;
        if step.attempt == attempt { Ok(step) } else { Err(Rejection::Stale { step: id.clone(), attempt }) }
    }
}

pub(crate) fn failed(step: StepId, attempt: u32, error: StepError, retry: bool) -> TaskEvent {
    TaskEvent::StepFailed { step, attempt, error, retry, lost: false, refused: None }
}

fn grow(events: &mut Vec<TaskEvent>, cause: StepId, growth: Growth) {
    events.extend(growth.degraded.into_iter().map(|reason| TaskEvent::Degraded { reason }));
    if !growth.steps.is_empty() {
        let digest = Some(digest::of_steps(&growth.steps));
        events.push(TaskEvent::StepsAdded { cause: Some(cause), steps: growth.steps, digest });
    }
}
