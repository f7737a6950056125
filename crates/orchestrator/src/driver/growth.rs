//! Which steps a task begins with, and how its graph goes on.

use kamil_plan::{Growth, MAX_PLANS, Task, labels};
use kamil_protocol::{
    StepId,
    task::{StepKind, StepSpec, TaskRequest},
};

use super::request::results;
use crate::planner::{self, Context, Gate, StepResult};

const RECALL: &str = "recall";
const PLAN: &str = "plan";
const ANSWER: &str = "answer";
const REMEMBER: &str = "remember";

/// The steps that a task begins with: those that were given, or the answer at once, or what comes before it. `memory` says
/// whether there is a memory to ask.
pub(crate) fn first_steps(ctx: &Context<'_>, memory: bool) -> Vec<StepSpec> {
    if let Some(steps) = &ctx.request.steps {
        return steps.clone();
    }
    if ctx.request.direct {
        return ending(ctx.request, &[]);
    }
    if memory {
        return step(RECALL, StepKind::Recall, &[]).into_iter().collect();
    }
    plan_or_answer(ctx, &[])
}

/// What follows the recall, whether it succeeded or not.
pub(super) fn after_recall(ctx: &Context<'_>, task: &Task) -> Growth {
    if task.request().steps.is_some() {
        return Growth::default();
    }
    Growth { degraded: Vec::new(), steps: plan_or_answer(ctx, &[RECALL]) }
}

/// What follows a plan that a model wrote. Where it ends in another plan, that one sees the results before anything else is decided.
///
/// # Errors
/// What is wrong with the plan, in words for the model.
pub(super) fn after_plan(
    ctx: &Context<'_>,
    task: &Task,
    plan: &StepId,
    reply: &str,
) -> Result<Growth, String> {
    let (calls, goes_on) = planner::going_on(reply);
    let planner::Plan { mut steps, mut told, .. } = planner::read(ctx, &existing(task), calls)?;
    let next = task.next_plan();
    if goes_on && next.is_none() {
        told.push(format!("A task has at most {MAX_PLANS} plans; the answer is written without another."));
    }
    let Some(next) = next.filter(|_| goes_on && !steps.is_empty()) else {
        let mut growth = with_ending(task, plan, steps);
        growth.degraded.extend(told);
        return Ok(growth);
    };
    let mut depends_on = task.planned_so_far();
    depends_on.extend(steps.iter().map(|step| step.id.clone()));
    steps.push(StepSpec { depends_on, tolerates_failure: true, ..StepSpec::new(next, StepKind::Plan) });
    Ok(Growth { degraded: told, steps })
}

/// What follows when no model wrote a valid plan: a plan by rules, or the answer. When a new plan was wanted, what there is serves.
pub(super) fn without_plan(ctx: &Context<'_>, task: &Task, plan: &StepId, why: &str) -> Growth {
    let (what, (how, steps)) = if plan.as_str() == PLAN {
        ("No plan", planner::without_model(ctx, &existing(task)))
    } else {
        ("No new plan", ("the answer was written from the results so far", Vec::new()))
    };
    let mut growth = with_ending(task, plan, steps);
    growth.degraded.push(format!("{what} was made ({why}); {how}."));
    growth
}

fn existing(task: &Task) -> Vec<&StepSpec> {
    task.steps().iter().map(|step| step.spec.as_ref()).collect()
}

/// What a step of this kind is told of those before it: a new plan of all that was planned and how it ended.
pub(super) fn seen_by(task: &Task, kind: StepKind) -> Vec<StepResult<'_>> {
    let mut seen = if kind == StepKind::Plan { results(task) } else { Vec::new() };
    let planned = task.planned_so_far();
    // Not of the items of lists: their results are in those of the lists, whose labels tell of them.
    seen.retain(|result| result.spec.kind != StepKind::Recall && planned.contains(&result.spec.id));
    seen
}

/// The steps of a plan, and the answer after them, unless there is one that waits already.
fn with_ending(task: &Task, plan: &StepId, mut steps: Vec<StepSpec>) -> Growth {
    if task.steps().iter().all(|step| step.spec.kind != StepKind::Answer) {
        let mut needed: Vec<String> = task.planned_so_far().iter().map(StepId::to_string).collect();
        match steps.as_slice() {
            [] => needed.push(plan.to_string()),
            planned => needed.extend(planned.iter().map(|step| step.id.to_string())),
        }
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        steps.extend(ending(task.request(), &needed));
    }
    Growth { degraded: Vec::new(), steps }
}

fn plan_or_answer(ctx: &Context<'_>, after: &[&str]) -> Vec<StepSpec> {
    match planner::gate(ctx) {
        Gate::Plan => step(PLAN, StepKind::Plan, after).into_iter().collect(),
        Gate::Direct => ending(ctx.request, after),
    }
}

fn ending(request: &TaskRequest, after: &[&str]) -> Vec<StepSpec> {
    let answer = step(ANSWER, StepKind::Answer, after).map(|mut answer| {
        answer.specialization = Some(planner::specialization(&request.input).to_owned());
        answer
    });
    answer.into_iter().collect()
}

/// What follows the answer: remembering, if there is a memory and something worth keeping.
pub(super) fn after_answer(ctx: &Context<'_>, task: &Task, answer: &str) -> Growth {
    let request = task.request();
    let recalled = task.steps().iter().any(|step| step.spec.kind == StepKind::Recall);
    // What might have been is nothing to remember.
    let forked = task.forked_from().is_some();
    if request.direct || request.steps.is_some() || !recalled || forked {
        return Growth::default();
    }
    if planner::memories(ctx, task.id(), &results(task), answer, &labels::person()).is_empty() {
        return Growth::default();
    }
    Growth {
        degraded: Vec::new(),
        steps: step(REMEMBER, StepKind::Remember, &[ANSWER]).into_iter().collect(),
    }
}

fn step(name: &str, kind: StepKind, after: &[&str]) -> Option<StepSpec> {
    let parse = |name: &str| name.parse::<StepId>().ok();
    Some(StepSpec {
        depends_on: after.iter().copied().filter_map(parse).collect(),
        tolerates_failure: matches!(kind, StepKind::Plan | StepKind::Answer),
        ..StepSpec::new(parse(name)?, kind)
    })
}
