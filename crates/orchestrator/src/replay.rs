//! Deciding a task again from its records.
//!
//! The records are walked in order. From each that is next, the input is derived that it answers: a node's report, a person's
//! word, a choice among candidates, the passing of time. What is not an input is decided once more, by the very functions that
//! the driver calls, and held against what was recorded.

mod difference;

use std::sync::Arc;

use kamil_plan::{DEADLINE_PASSED, Input, Step, Task};
use kamil_protocol::{
    ErrorCode, NodeId, StepId, TaskId,
    event::{EventRecord, TaskEvent},
    placement::Placement,
    replay::ReplayReport,
    task::{ApprovalRequest, StepError, StepKind, StepStatus},
    tool::SideEffect,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    driver::{
        NOTHING_TO_KEEP,
        decision::{self, Known, Report},
        fork,
        request::{self, Prepared},
    },
    tool_set::ToolSet,
};
use difference::Difference;

/// All that a task's decisions went by, as the journal has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The task's records, in order.
    pub records: Vec<EventRecord>,
    /// The registered tools that the records name by their digest, as JSON, each set once.
    pub tools: Vec<String>,
    /// For a fork: the records of the task that it was forked from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origin: Vec<EventRecord>,
}

/// Decides a task again.
#[must_use]
pub fn replay(task: TaskId, history: &History) -> ReplayReport {
    let History { records, tools, origin } = history;
    let sets = tools.iter().filter_map(|body| ToolSet::read(body)).map(Arc::new).collect::<Vec<_>>();
    let difference = Replay::begin(task, records, &sets, origin).and_then(Replay::run).err();
    ReplayReport {
        task,
        records: u64::try_from(records.len()).unwrap_or(u64::MAX),
        same: difference.is_none(),
        difference: difference.map(|difference| difference.told(records)),
    }
}

struct Replay<'a> {
    records: &'a [EventRecord],
    sets: &'a [Arc<ToolSet>],
    /// How many records have been held against what is decided.
    done: usize,
    task: Task,
    known: Known,
}

impl<'a> Replay<'a> {
    fn begin(
        id: TaskId,
        records: &'a [EventRecord],
        sets: &'a [Arc<ToolSet>],
        origin: &[EventRecord],
    ) -> Result<Self, Difference> {
        let first = records.first().ok_or_else(|| Difference::unreadable(0, "the task has no records"))?;
        let TaskEvent::TaskCreated { request, idempotency_key, offers, forked_from } = &first.event else {
            return Err(Difference::unreadable(0, "a task begins with `task_created`"));
        };
        let none = Arc::new(ToolSet::default());
        let (tools, memory) = match offers {
            Some(offers) => (set(sets, &offers.tools, 0)?, offers.memory),
            None if request.direct => (&none, false),
            None => {
                let why = "the record does not say which tools were registered: an older Kamil wrote it";
                return Err(Difference::unreadable(0, why));
            }
        };
        let unreadable = |why: String| Difference::unreadable(0, &why);
        let (decided, task) = if forked_from.is_some() {
            let given = records.iter().find_map(|record| match &record.event {
                TaskEvent::ResultGiven { step, output, .. } => Some((step, output.clone())),
                _ => None,
            });
            let (step, output) = given.ok_or_else(|| unreadable("no result was changed".to_owned()))?;
            let origin = fold(origin).map_err(unreadable)?;
            let fork = fork::fork(&origin, id, first.at, step, output, tools, memory)
                .map_err(|problem| unreadable(problem.detail))?;
            (fork.events, fork.task)
        } else {
            let events = decision::begin(request.clone(), idempotency_key.clone(), first.at, tools, memory);
            let task = Task::fold(id, events.iter().map(|event| (first.at, event)))
                .map_err(|error| unreadable(error.to_string()))?;
            (events, task)
        };
        let known = Known::of(vec![Arc::clone(tools)], &task);
        let mut replay = Self { records, sets, done: 0, task, known };
        replay.hold(&decided)?;
        Ok(replay)
    }

    fn run(mut self) -> Result<(), Difference> {
        while let Some(record) = self.records.get(self.done) {
            let input = self.input(record)?;
            let decided = self
                .task
                .advance(record.at, input)
                .map_err(|rejection| Difference::refused(self.done, &rejection.to_string()))?;
            self.known.observe(&self.task);
            if decided.is_empty() {
                return Err(Difference::nothing(self.done));
            }
            self.hold(&decided)?;
        }
        match self.task.settle().first() {
            Some(event) => Err(Difference::missing(self.done, event)),
            None => Ok(()),
        }
    }

    /// Holds what is decided against what was recorded.
    fn hold(&mut self, decided: &[TaskEvent]) -> Result<(), Difference> {
        for event in decided {
            match self.records.get(self.done) {
                None => return Err(Difference::missing(self.done, event)),
                Some(record) if record.event != *event => {
                    return Err(Difference::between(self.done, &record.event, event));
                }
                Some(_) => self.done += 1,
            }
        }
        Ok(())
    }

    /// What came in, so that this was recorded.
    fn input(&mut self, record: &EventRecord) -> Result<Input, Difference> {
        match &record.event {
            TaskEvent::ToolsChanged { tools } => {
                self.known.take(Arc::clone(set(self.sets, tools, self.done)?));
                Ok(Input::ToolsChanged { tools: tools.clone() })
            }
            TaskEvent::StepWaiting { step, reason } => {
                Ok(Input::Waiting { step: step.clone(), reason: reason.clone() })
            }
            TaskEvent::StepStarted {
                step,
                node,
                model,
                placement,
                effect,
                request_digest,
                max_tokens,
                ..
            } => {
                let prepared = match self.prepare(record, step)? {
                    Ok(prepared) => prepared,
                    Err(input) => return Ok(input),
                };
                let recorded = (*node, model.as_deref());
                let mut placed =
                    self.placed(prepared, recorded, placement, *effect, request_digest.is_some());
                // Records from before tokens were counted hold no grants.
                if let (Input::Placed { max_tokens: wanted, .. }, None) = (&mut placed, max_tokens) {
                    *wanted = None;
                }
                Ok(placed)
            }
            TaskEvent::StreamSpliced { step, offset, .. } => self.spliced(step, *offset),
            TaskEvent::ApprovalRequested { step, request } => self.approval(step, request),
            TaskEvent::ApprovalDecided { step, decision, digest } => {
                Ok(Input::Decided { step: step.clone(), decision: *decision, digest: Some(digest.clone()) })
            }
            TaskEvent::CancelRequested { reason } if reason == DEADLINE_PASSED => Ok(Input::Deadline),
            TaskEvent::CancelRequested { reason } => Ok(Input::Cancel { reason: reason.clone() }),
            TaskEvent::StepSucceeded {
                step,
                attempt,
                output,
                labels,
                enforced,
                tokens_in,
                tokens_out,
                ..
            } => {
                let report = Report::Result {
                    output: output.clone(),
                    labels: Some(labels.clone()),
                    enforced: enforced.clone(),
                    tokens_in: *tokens_in,
                    tokens_out: *tokens_out,
                };
                self.follow(step, *attempt, report, &[])
            }
            TaskEvent::StepOutcomeUnknown { step, attempt, reason, code, lost } => match code {
                Some(code) => {
                    let error = StepError { code: *code, detail: reason.clone(), next_step: None };
                    self.follow(step, *attempt, Report::Failed { error, lost: *lost }, &[])
                }
                None => Ok(Input::Doubted { step: step.clone(), reason: reason.clone() }),
            },
            TaskEvent::StepFailed { .. } | TaskEvent::StepCancelled { .. } => self.end_of_step(record),
            TaskEvent::TaskCreated { .. }
            | TaskEvent::StepsAdded { .. }
            | TaskEvent::ResultKept { .. }
            | TaskEvent::ResultGiven { .. }
            | TaskEvent::Degraded { .. }
            | TaskEvent::TaskCompleted { .. } => Err(Difference::nothing(self.done)),
        }
    }

    /// A step that failed, or was not run.
    fn end_of_step(&self, record: &EventRecord) -> Result<Input, Difference> {
        match &record.event {
            TaskEvent::StepFailed { error, retry: true, lost: false, .. }
                if error.code == ErrorCode::Cancelled =>
            {
                Ok(Input::Restarted)
            }
            TaskEvent::StepFailed { step, attempt, refused: Some(refused), .. } => {
                let report = Report::of(Value::String(refused.reply.clone()));
                self.follow(step, *attempt, report, &refused.offered)
            }
            TaskEvent::StepFailed { step, attempt: 0, error, .. } if error.code == ErrorCode::NoNode => {
                Ok(decision::give_up(&self.known, &self.task, step.clone(), error.clone()))
            }
            TaskEvent::StepFailed { step, attempt: 0, .. } | TaskEvent::StepCancelled { step, .. }
                if self.find(step)?.status == StepStatus::Ready =>
            {
                match self.prepare(record, step)? {
                    // A model was chosen that may not write any more.
                    Ok(prepared) if self.task.tokens_left() == 0 && prepared.max_tokens().is_some() => {
                        let nowhere = (NodeId::from_uuid(Uuid::nil()), None);
                        Ok(self.placed(prepared, nowhere, &Placement::default(), None, false))
                    }
                    Ok(_) => Err(Difference::refused(self.done, &format!("step `{step}` can start"))),
                    Err(input) => Ok(input),
                }
            }
            TaskEvent::StepFailed { step, attempt, error, lost, .. } if *attempt > 0 => {
                self.follow(step, *attempt, Report::Failed { error: error.clone(), lost: *lost }, &[])
            }
            _ => Err(Difference::nothing(self.done)),
        }
    }

    fn follow(
        &self,
        step: &StepId,
        attempt: u32,
        report: Report,
        models: &[String],
    ) -> Result<Input, Difference> {
        let report = match (report, self.find(step)?.spec.kind) {
            // Only a tool node puts labels of its own on what it returns; all others follow from what went in.
            (Report::Result { output, enforced, tokens_in, tokens_out, .. }, kind)
                if kind != StepKind::Tool =>
            {
                Report::Result { output, labels: None, enforced, tokens_in, tokens_out }
            }
            (report, _) => report,
        };
        let input = decision::follow(&self.known, &self.task, step.clone(), attempt, report, models);
        input.ok_or_else(|| Difference::nothing(self.done))
    }

    fn find(&self, step: &StepId) -> Result<&Step, Difference> {
        let unknown = || Difference::refused(self.done, &format!("there is no step `{step}`"));
        self.task.step(step).ok_or_else(unknown)
    }

    /// The request of a step, or what happens instead because there is none.
    fn prepare(&self, record: &EventRecord, step: &StepId) -> Result<Result<Prepared, Input>, Difference> {
        let found = self.find(step)?;
        let ctx = self.known.context_of(&self.task, found.spec.kind);
        Ok(match request::prepare(&ctx, &self.task, found, None, record.at) {
            Ok(Some(prepared)) => Ok(prepared),
            Ok(None) => Err(Input::Needless { step: step.clone(), reason: NOTHING_TO_KEEP.to_owned() }),
            Err(error) => Err(decision::give_up(&self.known, &self.task, step.clone(), error)),
        })
    }

    /// The choice once more, among the candidates as they were predicted.
    fn placed(
        &self,
        prepared: Prepared,
        recorded: (NodeId, Option<&str>),
        placement: &Placement,
        effect: Option<SideEffect>,
        digested: bool,
    ) -> Input {
        let step = self.task.step(&prepared.step);
        let failed_on = step.map_or(&[][..], |step| &step.failed_on);
        let (node, model) = kamil_placement::choose_again(placement, failed_on).unwrap_or(recorded);
        let node = step.and_then(|step| decision::pinned_to(&self.known, step)).unwrap_or(node);
        let announced = self.records.iter().skip(self.done + 1).map_while(|record| match &record.event {
            TaskEvent::Degraded { reason } if placement.reasons.contains(reason) => Some(reason.clone()),
            _ => None,
        });
        let prepared = prepared.aimed_at(model);
        Input::Placed {
            node,
            model: model.map(str::to_owned),
            effect,
            max_tokens: prepared.max_tokens(),
            lease_ms: prepared.lease_ms,
            placement: placement.clone(),
            request_digest: digested.then(|| prepared.digest()),
            degraded: announced.collect(),
            step: prepared.step,
        }
    }

    /// An answer that goes on: how much of it had been written is what nodes reported, by which ones follows from the attempts.
    fn spliced(&self, id: &StepId, offset: u64) -> Result<Input, Difference> {
        let before = self.records.iter().take(self.done);
        let attempts = before.filter_map(|record| match &record.event {
            TaskEvent::StepStarted { step, node, model, .. } if step == id => Some((*node, model)),
            _ => None,
        });
        let (from, model) = attempts.rev().nth(1).ok_or_else(|| Difference::nothing(self.done))?;
        let from_model = model
            .clone()
            .filter(|before| Some(before) != self.find(id).ok().and_then(|step| step.model.as_ref()));
        Ok(Input::Spliced { step: id.clone(), offset, from, from_model })
    }

    /// The person is asked: by the tool node that ran the step, or before it is given to one that says it changes something.
    fn approval(&self, step: &StepId, request: &ApprovalRequest) -> Result<Input, Difference> {
        let found = self.find(step)?;
        if found.status == StepStatus::Running {
            let (step, attempt) = (step.clone(), found.attempt);
            let report = Report::Approval(request.clone());
            return self.follow(&step, attempt, report, &[]);
        }
        let placed = |effect: SideEffect| Input::Placed {
            step: step.clone(),
            node: found.node.unwrap_or(NodeId::from_uuid(Uuid::nil())),
            model: None,
            effect: Some(effect),
            max_tokens: None,
            lease_ms: 0,
            placement: Placement::default(),
            request_digest: None,
            degraded: Vec::new(),
        };
        let asked = [TaskEvent::ApprovalRequested { step: step.clone(), request: request.clone() }];
        let effects = [SideEffect::External, SideEffect::Write];
        let fits =
            |effect: &SideEffect| self.task.decide(placed(*effect)).is_ok_and(|events| events == asked);
        Ok(placed(effects.into_iter().find(fits).unwrap_or(SideEffect::External)))
    }
}

fn fold(records: &[EventRecord]) -> Result<Task, String> {
    let Some(first) = records.first() else {
        return Err("the task that it was forked from is not there".to_owned());
    };
    Task::fold(first.task, records.iter().map(|record| (record.at, &record.event))).map_err(|error| {
        format!("the records of the task that it was forked from do not fit together: {error}")
    })
}

fn set<'a>(sets: &'a [Arc<ToolSet>], digest: &str, position: usize) -> Result<&'a Arc<ToolSet>, Difference> {
    let missing = || {
        let why = format!(
            "the tools under the digest {digest} are not kept, or are not those that were registered"
        );
        Difference::unreadable(position, &why)
    };
    sets.iter().find(|set| set.digest() == digest).ok_or_else(missing)
}
