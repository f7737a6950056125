//! What follows from what came in. Pure: the driver calls it as things happen, and replay with what the journal tells of them.

use std::sync::Arc;

use jiff::Timestamp;
use kamil_plan::{Growth, Input, RetryClass, Step, StepOutput, Task, labels};
use kamil_protocol::{
    ErrorCode, NodeId, StepId,
    event::{ForkedFrom, Offers, RefusedPlan, TaskEvent},
    memory::RecallReply,
    task::{ApprovalRequest, Labels, Source, StepError, StepKind, StepSpec, TaskRequest},
    tool::ToolDescriptor,
};
use serde_json::Value;

use super::{
    growth, labelling,
    request::{class_of, recalled},
};
use crate::{
    planner::{self, Context, Rung},
    tool_set::ToolSet,
};

/// Most sets of tools that a task remembers.
const MAX_TOOL_SETS: usize = 64;

/// What decisions go by beyond the state of the task; all of it follows from the task's records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The sets of tools that the task has known, the one in force last.
    sets: Vec<Arc<ToolSet>>,
    recall: Option<RecallReply>,
    /// The part of it that a plan may rest on.
    planning_recall: Option<RecallReply>,
}

impl Known {
    pub(crate) fn of(sets: Vec<Arc<ToolSet>>, task: &Task) -> Self {
        let mut known = Self { sets, ..Self::default() };
        known.observe(task);
        known
    }

    /// Other tools are in force.
    pub(crate) fn take(&mut self, tools: Arc<ToolSet>) {
        self.sets.retain(|set| set.digest() != tools.digest());
        if self.sets.len() == MAX_TOOL_SETS {
            self.sets.remove(0);
        }
        self.sets.push(tools);
    }

    /// Looks at what the task has learnt.
    pub(crate) fn observe(&mut self, task: &Task) {
        if self.recall.is_none() {
            self.recall = recalled(task);
            self.planning_recall = self.recall.as_ref().map(labelling::for_planning);
        }
    }

    pub(crate) fn set(&self, digest: &str) -> Option<&Arc<ToolSet>> {
        self.sets.iter().rev().find(|set| set.digest() == digest)
    }

    /// The tools in force.
    fn tools(&self) -> &[ToolDescriptor] {
        self.sets.last().map_or(&[], |set| set)
    }

    /// A tool as it was last known, though its node may have gone.
    fn descriptor(&self, name: &str) -> Option<&ToolDescriptor> {
        self.sets.iter().rev().find_map(|set| set.iter().find(|tool| tool.name == name))
    }

    pub(crate) fn context<'a>(&'a self, task: &'a Task) -> Context<'a> {
        Context {
            request: task.request(),
            tools: self.tools(),
            recall: self.recall.as_ref(),
            results: &[],
            now: task.created_at(),
        }
    }

    /// What the prompt of a step of this kind is made of.
    pub(crate) fn context_of<'a>(&'a self, task: &'a Task, kind: StepKind) -> Context<'a> {
        let recall = if kind == StepKind::Plan { &self.planning_recall } else { &self.recall };
        Context { recall: recall.as_ref(), ..self.context(task) }
    }

    /// Whether a step may be run twice.
    pub(crate) fn class(&self, step: &Step) -> RetryClass {
        match (step.spec.kind, &step.spec.tool) {
            (StepKind::Tool, Some(tool)) => class_of(self.descriptor(tool)),
            (StepKind::Tool, None) => RetryClass::Once,
            _ => RetryClass::Repeatable,
        }
    }
}

/// What an attempt came to, in the form in which the journal holds it.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// A result. Of a `plan` step: the model's reply, a text.
    Result {
        output: Value,
        /// Labels that the node put on it.
        labels: Option<Labels>,
        enforced: Vec<String>,
        tokens_in: Option<u32>,
        tokens_out: Option<u32>,
    },
    /// The tool node wants the person's yes.
    Approval(ApprovalRequest),
    /// No result.
    Failed {
        error: StepError,
        /// Nobody told how the attempt ended.
        lost: bool,
    },
}

impl Report {
    /// A result without labels or costs of its own.
    pub(crate) fn of(output: Value) -> Self {
        Self::Result { output, labels: None, enforced: Vec::new(), tokens_in: None, tokens_out: None }
    }
}

/// The events that begin a task. `tools` and `memory` say what is registered; a direct request depends on neither.
pub(crate) fn begin(
    mut request: TaskRequest,
    idempotency_key: Option<String>,
    at: Timestamp,
    tools: &ToolSet,
    memory: bool,
) -> Vec<TaskEvent> {
    request.steps.as_deref_mut().into_iter().flatten().for_each(exact_step);
    let offers = offers(&request, tools, memory);
    let ctx = Context { request: &request, tools, recall: None, results: &[], now: at };
    let first = growth::first_steps(&ctx, memory);
    Task::begin(request, idempotency_key, offers, exact_steps(first))
}

/// The event that begins a fork.
pub(crate) fn forked(request: TaskRequest, tools: &ToolSet, memory: bool, from: ForkedFrom) -> TaskEvent {
    let offers = offers(&request, tools, memory);
    TaskEvent::TaskCreated { request, idempotency_key: None, offers, forked_from: Some(from) }
}

fn offers(request: &TaskRequest, tools: &ToolSet, memory: bool) -> Option<Offers> {
    (!request.direct).then(|| Offers { tools: tools.digest().to_owned(), memory })
}

/// What an attempt's end means for its task. `models` are those on offer, in case another one has to take over.
pub(crate) fn follow(
    known: &Known,
    task: &Task,
    step: StepId,
    attempt: u32,
    report: Report,
    models: &[String],
) -> Option<Input> {
    let found = task.step(&step)?;
    Some(match report {
        Report::Approval(request) => Input::ApprovalNeeded { step, attempt, request },
        Report::Failed { error, lost } => {
            let otherwise = otherwise(known, task, found, &error.detail);
            let class = known.class(found);
            Input::Failed { step, attempt, error, class, lost, refused: None, again: None, otherwise }
        }
        Report::Result { output, labels, enforced, tokens_in, tokens_out } => {
            let then = match growth_of(known, task, found, &output) {
                Ok(then) => then,
                Err(reason) => {
                    let refused = refuse(found, output.as_str().unwrap_or_default(), reason, models);
                    return Some(refused.input(known, task, found, attempt));
                }
            };
            let labels = labels_of(known, task, found, &output, labels.as_ref());
            let result = StepOutput { output, labels, enforced, tokens_in, tokens_out };
            Input::Succeeded { step, attempt, result, then }
        }
    })
}

/// How the graph goes on when a step has this result.
///
/// # Errors
/// For a plan: what is wrong with it, in words for the model.
pub(crate) fn growth_of(known: &Known, task: &Task, step: &Step, output: &Value) -> Result<Growth, String> {
    let results = growth::seen_by(task, step.spec.kind);
    let ctx = Context { results: &results, ..known.context_of(task, step.spec.kind) };
    let text = output.as_str().unwrap_or_default();
    let growth = match step.spec.kind {
        StepKind::Plan => growth::after_plan(&ctx, task, step.id(), text)?,
        StepKind::Recall => {
            let reply: Option<RecallReply> = serde_json::from_value(output.clone()).ok();
            let ctx = Context { recall: reply.as_ref(), ..ctx };
            let mut then = growth::after_recall(&ctx, task);
            let degraded = reply.iter().flat_map(|reply| &reply.degraded);
            then.degraded.extend(degraded.map(|reason| format!("Recall: {reason}")));
            then
        }
        StepKind::Answer => growth::after_answer(&ctx, task, text),
        StepKind::Reason | StepKind::Tool | StepKind::Remember => Growth::default(),
    };
    Ok(exact_growth(growth))
}

/// Gives up a step before an attempt at it. What an earlier attempt may have done stays in doubt.
pub(crate) fn give_up(known: &Known, task: &Task, step: StepId, error: StepError) -> Input {
    if task.step(&step).is_some_and(|step| pinned_to(known, step).is_some()) {
        return Input::Doubted { step, reason: error.detail };
    }
    let otherwise = task.step(&step).map(|found| otherwise(known, task, found, &error.detail));
    Input::Failed {
        step,
        attempt: 0,
        error,
        class: RetryClass::Never,
        lost: false,
        refused: None,
        again: None,
        otherwise: otherwise.unwrap_or_default(),
    }
}

/// The node that alone may be asked: an earlier attempt there may have had its effect, and only that node can tell.
pub(crate) fn pinned_to(known: &Known, step: &Step) -> Option<NodeId> {
    if step.doubtful && known.class(step) == RetryClass::Once { step.node } else { None }
}

/// How the graph goes on if a step fails for good.
fn otherwise(known: &Known, task: &Task, step: &Step, why: &str) -> Growth {
    let ctx = known.context_of(task, step.spec.kind);
    exact_growth(match step.spec.kind {
        StepKind::Recall => growth::after_recall(&ctx, task),
        StepKind::Plan => growth::without_plan(&ctx, task, step.id(), why.trim_end_matches('.')),
        _ => Growth::default(),
    })
}

fn labels_of(known: &Known, task: &Task, step: &Step, output: &Value, own: Option<&Labels>) -> Labels {
    let inputs = || task.input_labels(step);
    match step.spec.kind {
        StepKind::Tool => {
            // Of what a node does not label, nothing is known.
            let unknown = labels::untrusted(Source::Tool);
            labels::join([&inputs(), own.unwrap_or(&unknown)])
        }
        StepKind::Recall => {
            let reply: Option<RecallReply> = serde_json::from_value(output.clone()).ok();
            reply.as_ref().map_or_else(|| labels::untrusted(Source::Memory), labelling::of_recall)
        }
        StepKind::Remember => inputs(),
        StepKind::Plan | StepKind::Reason | StepKind::Answer => {
            let ctx = known.context_of(task, step.spec.kind);
            labels::with_source(labelling::of_prompt(&ctx, task, step), Source::Model)
        }
    }
}

/// A reply that is no valid plan, and how often that has happened.
struct Refusal {
    model: String,
    replies: u32,
    plan: RefusedPlan,
}

fn refuse(step: &Step, reply: &str, reason: String, models: &[String]) -> Refusal {
    let replies = step.invalid_replies() + 1;
    let model = step.model.clone().unwrap_or_default();
    // Which models are on offer matters only where another one could take over.
    let matters = planner::next_rung(replies, true) == Rung::AnotherModel;
    let offered = if matters { models.to_vec() } else { Vec::new() };
    let another = offered.iter().find(|name| **name != model).cloned();
    Refusal { model, replies, plan: RefusedPlan { reply: reply.to_owned(), reason, offered, another } }
}

impl Refusal {
    /// The ladder: the same model with the error, twice; another model; simple rules; the answer without a plan.
    fn input(self, known: &Known, task: &Task, step: &Step, attempt: u32) -> Input {
        let Self { model, replies, plan } = self;
        let reason = &plan.reason;
        let last_rung = planner::next_rung(replies, plan.another.is_some()) == Rung::WithoutModel;
        let error = StepError {
            code: ErrorCode::PlanInvalid,
            detail: format!("The plan that `{model}` wrote is not valid: {reason}"),
            next_step: None,
        };
        let (class, otherwise) = if last_rung {
            let why = format!("no valid one came after {replies} replies: {}", reason.trim_end_matches('.'));
            (RetryClass::Never, otherwise(known, task, step, &why))
        } else {
            (RetryClass::Repeatable, Growth::default())
        };
        let again = plan
            .another
            .as_ref()
            .map(|another| format!("`{model}` wrote no valid plan in {replies} replies; `{another}` tries."));
        let (step, refused) = (step.id().clone(), Some(plan));
        Input::Failed { step, attempt, error, class, lost: false, refused, again, otherwise }
    }
}

fn exact_growth(growth: Growth) -> Growth {
    Growth { steps: exact_steps(growth.steps), ..growth }
}

fn exact_steps(mut steps: Vec<StepSpec>) -> Vec<StepSpec> {
    steps.iter_mut().for_each(exact_step);
    steps
}

fn exact_step(step: &mut StepSpec) {
    if step.inputs.is_empty() && step.when.is_none() {
        return;
    }
    let value = serde_json::to_value(&*step).map(exact);
    if let Ok(exact) = value.and_then(serde_json::from_value) {
        *step = exact;
    }
}

/// A value as it reads back from the journal: members sorted, `1.0` as `1`. Prompts repeat values as text, so without this
/// a restart or a replay would ask another question than the first run did.
pub(crate) fn exact(value: Value) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Number(_) => {
            serde_json::from_str(&kamil_ledger::canonical_json(&value)).unwrap_or(value)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_read_back_as_they_are() {
        let value = exact(json!({"b": [1.0, 0.5, 1e300], "a": {"d": 1, "c": 2}}));
        let again: Value = serde_json::from_str(&kamil_ledger::canonical_json(&value)).unwrap();
        assert_eq!(value.to_string(), again.to_string());
        assert_eq!(value["b"][0], json!(1));
        assert!(value.to_string().starts_with("{\"a\":{\"c\":2,\"d\":1}"), "{value}");
    }
}
