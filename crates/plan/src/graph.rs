//! Whether steps may be added to a graph.

use kamil_protocol::{
    ErrorCode, Problem, StepId,
    task::{MAX_STEPS, StepKind, StepSpec},
    tool::ToolDescriptor,
};

use crate::{
    arguments, checks,
    reference::{self, Reference},
    schema::Shape,
};

/// Longest chain of steps that wait for each other.
pub const MAX_DEPTH: usize = 32;
/// Names that Kamil gives to its own steps; a plan must not use them.
pub const RESERVED: &[&str] = &["recall", "plan", "plan2", "plan3", "answer", "remember"];
/// Room that a model's plan leaves for steps of Kamil's own: two more plans, the answer, and remembering.
const OWN_STEPS: usize = 4;

/// Why steps cannot be added, in words for people and models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct PlanError {
    /// `plan_invalid`, `tool_unknown` or `invalid_arguments`.
    pub code: ErrorCode,
    /// The step at fault, if it is one.
    pub step: Option<StepId>,
    /// What is wrong, on which step, and what would be right.
    pub detail: String,
}

impl PlanError {
    fn of(code: ErrorCode, step: &StepId, detail: String) -> Self {
        Self { code, step: Some(step.clone()), detail }
    }

    pub(crate) fn plan(step: &StepId, detail: String) -> Self {
        Self::of(ErrorCode::PlanInvalid, step, detail)
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        let problem = Self::new(error.code, error.detail);
        match error.step {
            Some(step) => problem.data(serde_json::json!({"step": step})),
            None => problem,
        }
    }
}

/// Who made the steps, and so what they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// A model or a rule: `tool` and `reason` steps under names of its own.
    Planner,
    /// The person: any step but `plan`.
    Person,
}

/// Checks steps that are to be added to those that are there already.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(
    author: Author,
    existing: &[&StepSpec],
    added: &[StepSpec],
    tools: &[ToolDescriptor],
) -> Result<(), PlanError> {
    let all: Vec<&StepSpec> = existing.iter().copied().chain(added).collect();
    check_size(author, &all)?;
    let mut edges = Vec::with_capacity(all.len());
    for (place, spec) in all.iter().enumerate() {
        let needs = reference::needs(spec)
            .map_err(|error| PlanError::plan(&spec.id, format!("step `{}`: {error}", spec.id)))?;
        if place >= existing.len() {
            check_name(author, &all, place)?;
            check_kind(author, spec)?;
            checks::bounds(spec)?;
        }
        edges.push(dependencies(&all, spec, &needs.steps)?);
        if place >= existing.len() {
            checks::pointers(&all, spec, &needs.references, tools)?;
            if spec.kind == StepKind::Tool {
                check_tool(&all, spec, &needs.references, tools)?;
            }
        }
    }
    checks::item_names(&all, existing.len())?;
    check_ends(&all, &edges)?;
    check_depth(&all, &edges)
}

/// Counts a step that runs over a list with as many items as it may have.
fn check_size(author: Author, all: &[&StepSpec]) -> Result<(), PlanError> {
    let most = match author {
        Author::Planner => MAX_STEPS - OWN_STEPS,
        Author::Person => MAX_STEPS,
    };
    let waiting = all.iter().filter(|spec| !all.iter().any(|other| checks::is_item_of(&other.id, &spec.id)));
    let items: usize = waiting.map(|spec| checks::most_items(spec)).sum();
    let count = all.len() + items;
    if count <= most {
        return Ok(());
    }
    let of_these = match items {
        0 => String::new(),
        items => format!(", {items} of them for the items of lists"),
    };
    let detail = format!("the graph would have up to {count} steps{of_these}; at most {most} are possible");
    Err(PlanError { code: ErrorCode::PlanInvalid, step: None, detail })
}

fn check_name(author: Author, all: &[&StepSpec], place: usize) -> Result<(), PlanError> {
    let id = &all[place].id;
    if all[..place].iter().any(|other| other.id == *id) {
        return Err(PlanError::plan(
            id,
            format!("two steps are called `{id}`; every step needs a name of its own"),
        ));
    }
    if author == Author::Planner && RESERVED.contains(&id.as_str()) {
        return Err(PlanError::plan(
            id,
            format!("`{id}` is the name of one of Kamil's own steps; use another"),
        ));
    }
    Ok(())
}

fn check_kind(author: Author, spec: &StepSpec) -> Result<(), PlanError> {
    let id = &spec.id;
    let allowed = match author {
        Author::Planner => matches!(spec.kind, StepKind::Tool | StepKind::Reason),
        Author::Person => spec.kind != StepKind::Plan,
    };
    if !allowed {
        let detail = format!("step `{id}` has a kind that a given plan cannot have");
        return Err(PlanError::plan(id, detail));
    }
    match (spec.kind, &spec.tool) {
        (StepKind::Tool, None) => {
            Err(PlanError::plan(id, format!("step `{id}` is of kind `tool` but names no tool")))
        }
        (StepKind::Tool, Some(_)) | (_, None) => Ok(()),
        (_, Some(tool)) => {
            Err(PlanError::plan(id, format!("step `{id}` names the tool `{tool}` but is not of kind `tool`")))
        }
    }
}

fn dependencies(all: &[&StepSpec], spec: &StepSpec, needed: &[StepId]) -> Result<Vec<usize>, PlanError> {
    let place = |id: &StepId| {
        all.iter().position(|other| other.id == *id).ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|other| format!("`{}`", other.id)).collect();
            let detail =
                format!("step `{}` refers to `{id}`, which is none of {}", spec.id, known.join(", "));
            PlanError::plan(&spec.id, detail)
        })
    };
    needed.iter().map(place).collect()
}

fn check_tool(
    all: &[&StepSpec],
    spec: &StepSpec,
    references: &[Reference],
    tools: &[ToolDescriptor],
) -> Result<(), PlanError> {
    let name = spec.tool.as_deref().unwrap_or_default();
    let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
        let known: Vec<_> = tools.iter().take(40).map(|tool| tool.name.as_str()).collect();
        let known = if known.is_empty() { "no tool is registered".to_owned() } else { known.join(", ") };
        let detail =
            format!("step `{}` wants the tool `{name}`, which is not there; there are: {known}", spec.id);
        return Err(PlanError::of(ErrorCode::ToolUnknown, &spec.id, detail));
    };
    let fits = || {
        let inputs = checks::bound_inputs(spec);
        arguments::check(&tool.arguments, &inputs, references)?;
        for reference in references {
            let producer = all.iter().find(|other| other.id == reference.step);
            let producer = producer.map_or(Shape::Anything, |producer| checks::result(producer, tools));
            arguments::check_reference(&tool.arguments, reference, &producer)?;
        }
        Ok(())
    };
    fits().map_err(|reason: String| {
        let detail = format!("step `{}`: the inputs do not fit the tool `{name}`: {reason}", spec.id);
        PlanError::of(ErrorCode::InvalidArguments, &spec.id, detail)
    })
}

fn check_ends(all: &[&StepSpec], edges: &[Vec<usize>]) -> Result<(), PlanError> {
    let mut answers = all.iter().filter(|spec| spec.kind == StepKind::Answer);
    if let (Some(first), Some(second)) = (answers.next(), answers.next()) {
        let detail = format!("`{}` and `{}` are both answers; a task has one", first.id, second.id);
        return Err(PlanError::plan(&second.id, detail));
    }
    for (spec, needed) in all.iter().zip(edges) {
        for place in needed {
            let needed = all[*place];
            let after_the_end = match needed.kind {
                StepKind::Answer => spec.kind != StepKind::Remember,
                StepKind::Remember => true,
                _ => false,
            };
            if after_the_end {
                let detail =
                    format!("step `{}` cannot come after `{}`, which ends the task", spec.id, needed.id);
                return Err(PlanError::plan(&spec.id, detail));
            }
        }
    }
    Ok(())
}

fn check_depth(all: &[&StepSpec], edges: &[Vec<usize>]) -> Result<(), PlanError> {
    let mut depths: Vec<Option<usize>> = vec![None; all.len()];
    // Each round settles at least one step unless those left wait for each other.
    loop {
        let mut settled = false;
        for place in 0..all.len() {
            if depths[place].is_some() {
                continue;
            }
            let below: Option<Vec<usize>> = edges[place].iter().map(|needed| depths[*needed]).collect();
            if let Some(below) = below {
                // The items of a list stand between it and the step that runs over it.
                let own = 1 + usize::from(all[place].for_each.is_some());
                depths[place] = Some(below.into_iter().max().unwrap_or(0) + own);
                settled = true;
            }
        }
        if !settled {
            break;
        }
    }
    if let Some(start) = depths.iter().position(Option::is_none) {
        let cycle = cycle_from(start, edges, &depths);
        let names: Vec<_> = cycle.iter().map(|place| format!("`{}`", all[*place].id)).collect();
        let detail = format!("these steps wait for each other in a circle: {}", names.join(" → "));
        return Err(PlanError::plan(&all[cycle[0]].id, detail));
    }
    match depths.iter().position(|depth| depth.is_some_and(|depth| depth > MAX_DEPTH)) {
        None => Ok(()),
        Some(place) => {
            let id = &all[place].id;
            let detail = format!("step `{id}` comes after more than {MAX_DEPTH} others in a chain");
            Err(PlanError::plan(id, detail))
        }
    }
}

/// A cycle among the steps that could not be settled, from and back to its first step.
fn cycle_from(start: usize, edges: &[Vec<usize>], depths: &[Option<usize>]) -> Vec<usize> {
    let mut way = vec![start];
    loop {
        let here = way[way.len() - 1];
        // Every step that was not settled waits for another that was not.
        let Some(next) = edges[here].iter().copied().find(|needed| depths[*needed].is_none()) else {
            return way;
        };
        if let Some(first) = way.iter().position(|seen| *seen == next) {
            way.push(next);
            return way.split_off(first);
        }
        way.push(next);
    }
}
