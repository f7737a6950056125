//! Which steps a task begins with, and how its graph goes on.

use kamil_plan::{Growth, Task, labels};
use kamil_protocol::{
    StepId,
    task::{StepKind, StepSpec, TaskRequest},
};

use super::request::results;
use crate::planner::{self, Context, Gate};

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

/// What follows a plan that a model wrote.
///
/// # Errors
/// What is wrong with the plan, in words for the model.
pub(super) fn after_plan(ctx: &Context<'_>, task: &Task, reply: &str) -> Result<Growth, String> {
    let plan = planner::read(ctx, &existing(task), reply)?;
    let mut growth = with_ending(task, plan.steps);
    growth.degraded.extend(plan.told);
    Ok(growth)
}

/// What follows when no model wrote a valid plan: a plan by rules, or the answer.
pub(super) fn without_plan(ctx: &Context<'_>, task: &Task, why: &str) -> Growth {
    let (how, steps) = planner::without_model(ctx, &existing(task));
    let mut growth = with_ending(task, steps);
    growth.degraded.push(format!("No plan was made ({why}); {how}."));
    growth
}

fn existing(task: &Task) -> Vec<&StepSpec> {
    task.steps().iter().map(|step| step.spec.as_ref()).collect()
}

fn with_ending(task: &Task, mut steps: Vec<StepSpec>) -> Growth {
    let recalled = task.steps().iter().any(|step| step.id().as_str() == RECALL);
    let mut needed: Vec<String> = Vec::new();
    if recalled {
        needed.push(RECALL.to_owned());
    }
    match steps.as_slice() {
        [] => needed.push(PLAN.to_owned()),
        planned => needed.extend(planned.iter().map(|step| step.id.to_string())),
    }
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    steps.extend(ending(task.request(), &needed));
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
