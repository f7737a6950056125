//! A task that is another one with one result changed: what does not descend from that step is kept, the rest really runs.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kamil_plan::{Input, Step, Task, labels};
use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, Problem, StepId, TaskId, digest,
    event::{ForkedFrom, TaskEvent},
    memory::RecallReply,
    task::{RepeatedEffect, StepKind, StepSpec},
    tool::SideEffect,
};
use serde_json::Value;

use super::decision::{self, Known, exact};
use crate::tool_set::ToolSet;

/// What a fork begins with.
pub(crate) struct Fork {
    pub(crate) events: Vec<TaskEvent>,
    pub(crate) task: Task,
    /// Steps that run again and change something.
    pub(crate) effects: Vec<RepeatedEffect>,
}

/// Forks a task that has ended.
///
/// # Errors
/// `step_unknown`, `validation_failed`, `plan_invalid`: what is given is no result of this step.
pub(crate) fn fork(
    origin: &Task,
    id: TaskId,
    at: Timestamp,
    step: &StepId,
    output: Value,
    tools: &Arc<ToolSet>,
    memory: bool,
) -> Result<Fork, Problem> {
    let changed = origin.step(step).ok_or_else(|| unknown(origin, step))?;
    let output = exact(output);
    if let Some(list) = changed.cause.as_ref().filter(|_| is_item(origin, changed)) {
        let detail = format!("Step `{step}` is an item of step `{list}`, whose result holds it.");
        return Err(
            Problem::new(ErrorCode::ValidationFailed, detail).next(format!("Change the result of `{list}`."))
        );
    }
    check(changed, &output)?;
    let descendants = descendants(origin, changed);
    let from = ForkedFrom { task: origin.id(), step: step.clone() };
    let mut events = vec![decision::forked(origin.request().as_ref().clone(), tools, memory, from)];
    for group in origin.steps().chunk_by(|left, right| left.cause == right.cause) {
        if group.iter().any(|step| step.cause.as_ref().is_some_and(|cause| descendants.contains(cause))) {
            continue;
        }
        let steps: Vec<StepSpec> = group.iter().map(|step| step.spec.as_ref().clone()).collect();
        let cause = group.first().and_then(|step| step.cause.clone());
        events.push(TaskEvent::StepsAdded { cause, digest: Some(digest::of_steps(&steps)), steps });
        // A step over a list ends after its items, which are added while it waits for them.
        let waits = |id: &StepId| {
            origin.steps().iter().any(|item| item.cause.as_ref() == Some(id) && is_item(origin, item))
        };
        let now = group.iter().filter(|step| !waits(step.id()));
        let list =
            group.first().filter(|first| is_item(origin, first)).and_then(|first| first.cause.as_ref());
        let kept = now.chain(list.and_then(|list| origin.step(list)));
        events.extend(kept.filter(|step| !descendants.contains(step.id())).map(keep));
    }
    let mut task = Task::fold(id, events.iter().map(|event| (at, event)))
        .map_err(|error| Problem::new(ErrorCode::Internal, format!("The fork cannot begin: {error}.")))?;
    let known = Known::of(vec![Arc::clone(tools)], &task);
    let then = decision::growth_of(&known, &task, changed, &output).map_err(|reason| {
        Problem::new(
            ErrorCode::PlanInvalid,
            format!("This is no plan that step `{step}` could have: {reason}"),
        )
    })?;
    let given = Input::Given { step: step.clone(), output, labels: labels::person(), then };
    events.extend(task.advance(at, given).map_err(Problem::from)?);
    let open = task.steps().iter().filter(|step| !step.status.is_final() && step.spec.kind == StepKind::Tool);
    let effects = open.filter_map(|step| repeated(step, tools)).collect();
    Ok(Fork { events, task, effects })
}

fn keep(step: &Step) -> TaskEvent {
    TaskEvent::ResultKept {
        step: step.id().clone(),
        status: step.status,
        output: step.output.as_deref().cloned(),
        labels: step.labels.clone(),
        error: step.error.clone(),
    }
}

/// Whether the step is one of those that run over a list.
fn is_item(task: &Task, step: &Step) -> bool {
    let list = step.cause.as_ref().and_then(|cause| task.step(cause));
    // A list that failed may have called for a new plan.
    step.spec.kind != StepKind::Plan && list.is_some_and(|list| list.spec.for_each.is_some())
}

/// What a step changes when it runs, if it changes something.
fn repeated(step: &Step, tools: &ToolSet) -> Option<RepeatedEffect> {
    let name = step.spec.tool.as_deref()?;
    let known = tools.iter().find(|tool| tool.name == name);
    let effect = known.map_or(SideEffect::External, |tool| tool.side_effect);
    (effect >= SideEffect::Write).then(|| RepeatedEffect {
        step: step.id().clone(),
        tool: name.to_owned(),
        effect,
    })
}

/// The step, all that uses it, and all that was called for by any of these.
fn descendants(task: &Task, step: &Step) -> BTreeSet<StepId> {
    let mut found = BTreeSet::from([step.id().clone()]);
    loop {
        let more: Vec<StepId> = task
            .steps()
            .iter()
            .filter(|step| !found.contains(step.id()))
            .filter(|step| {
                step.cause.as_ref().is_some_and(|cause| found.contains(cause))
                    || task.dependencies(step).any(|needed| found.contains(needed.id()))
            })
            .map(|step| step.id().clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn check(step: &Step, output: &Value) -> Result<(), Problem> {
    let invalid = |what: String| Err(Problem::new(ErrorCode::ValidationFailed, what));
    let bytes = output.as_str().map_or_else(|| output.to_string().len(), str::len);
    if bytes > MAX_OUTPUT_BYTES {
        return invalid(format!("`output` has {bytes} bytes; at most {MAX_OUTPUT_BYTES} are allowed."));
    }
    match step.spec.kind {
        StepKind::Plan | StepKind::Reason | StepKind::Answer if !output.is_string() => {
            invalid(format!("Step `{}` is written by a model: its result is a text.", step.id()))
        }
        StepKind::Recall => match serde_json::from_value::<RecallReply>(output.clone()) {
            Ok(_) => Ok(()),
            Err(error) => {
                invalid(format!("This is not what memory returns to step `{}`: {error}.", step.id()))
            }
        },
        StepKind::Remember => invalid(format!("Nothing depends on what step `{}` returned.", step.id())),
        _ => Ok(()),
    }
}

fn unknown(task: &Task, step: &StepId) -> Problem {
    let ids: Vec<&str> = task.steps().iter().map(|step| step.id().as_str()).collect();
    Problem::new(ErrorCode::StepUnknown, format!("Task {} has no step `{step}`.", task.id()))
        .next(format!("Name one of its steps: {}.", ids.join(", ")))
}
