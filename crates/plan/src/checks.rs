//! What is checked of steps that run over a list, have a condition, or refer to results, before any of them runs.

use std::borrow::Cow;

use kamil_protocol::{
    StepId,
    flow::{Condition, MAX_MAP_ITEMS, Test},
    task::{StepKind, StepSpec},
    tool::ToolDescriptor,
};
use serde_json::{Map, Value};

use crate::{
    arguments::impossible,
    graph::PlanError,
    map,
    reference::Reference,
    schema::{Shape, Types},
};

/// Longest name of a step that runs over a list, so that its items can be named after it.
const MAX_LIST_NAME: usize = 61;
/// Shortest and longest time limit of a step, in milliseconds.
const STEP_DEADLINE_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// Most items that a step runs over; 0 for one that runs over no list.
pub(crate) fn most_items(spec: &StepSpec) -> usize {
    spec.for_each.as_ref().map_or(0, |for_each| usize::try_from(for_each.most_items()).unwrap_or(usize::MAX))
}

/// The inputs, of a step that runs over a list: those of its first item.
pub(crate) fn bound_inputs(spec: &StepSpec) -> Cow<'_, Map<String, Value>> {
    let bound = spec.for_each.as_ref().and_then(|for_each| map::bind(&spec.inputs, &for_each.over, 0).ok());
    bound.map_or(Cow::Borrowed(&spec.inputs), |(inputs, _)| Cow::Owned(inputs))
}

/// What a step returns, as far as that can be known.
pub(crate) fn result<'a>(spec: &StepSpec, tools: &'a [ToolDescriptor]) -> Shape<'a> {
    let one = match spec.kind {
        StepKind::Tool => {
            let tool = tools.iter().find(|tool| Some(tool.name.as_str()) == spec.tool.as_deref());
            tool.map_or(Shape::Anything, |tool| Shape::of(&tool.result))
        }
        StepKind::Reason | StepKind::Answer => Shape::Exactly(Types::TEXT),
        StepKind::Recall | StepKind::Plan | StepKind::Remember => Shape::Anything,
    };
    match (most_items(spec), spec.tolerates_failure) {
        (0, _) => one,
        (most, false) => Shape::List(Box::new(one), most),
        (most, true) => Shape::List(Box::new(Shape::OneOf(vec![one, Shape::Exactly(Types::NULL)])), most),
    }
}

/// Whether a list, a condition and a time limit stand where they may, within their bounds.
///
/// # Errors
/// What does not.
pub(crate) fn bounds(spec: &StepSpec) -> Result<(), PlanError> {
    let id = &spec.id;
    let refuse = |detail: String| Err(PlanError::plan(id, detail));
    let field = match (&spec.for_each, &spec.when, spec.deadline_ms) {
        (Some(_), ..) => Some("for_each"),
        (_, Some(_), _) => Some("when"),
        (.., Some(_)) => Some("deadline_ms"),
        _ => None,
    };
    if let Some(field) = field
        && !matches!(spec.kind, StepKind::Tool | StepKind::Reason)
    {
        return refuse(format!("step `{id}`: only `tool` and `reason` steps have `{field}`"));
    }
    if let Some(deadline) = spec.deadline_ms.filter(|deadline| !STEP_DEADLINE_MS.contains(deadline)) {
        let (least, most) = (STEP_DEADLINE_MS.start(), STEP_DEADLINE_MS.end());
        return refuse(format!("step `{id}`: `deadline_ms` is {deadline}; {least} to {most} are allowed"));
    }
    let Some(for_each) = &spec.for_each else { return Ok(()) };
    if let Some(limit) = for_each.limit.filter(|limit| !(1..=MAX_MAP_ITEMS).contains(limit)) {
        return refuse(format!("step `{id}`: `limit` is {limit}; 1 to {MAX_MAP_ITEMS} are allowed"));
    }
    if id.as_str().len() > MAX_LIST_NAME {
        return refuse(format!(
            "step `{id}`: a step that runs over a list has a name of at most {MAX_LIST_NAME} bytes"
        ));
    }
    match map::bind(&spec.inputs, &for_each.over, 0) {
        Ok((_, 0)) => refuse(format!(
            "step `{id}` runs once for each item, but its inputs use none: {{\"$item\": \"/pointer\"}} is the item or a part of it"
        )),
        Ok(_) => Ok(()),
        Err(error) => refuse(format!("step `{id}`: {error}")),
    }
}

/// Whether the list, the condition and, except for tools, the inputs refer to what their steps may return.
///
/// # Errors
/// What they never return.
pub(crate) fn pointers(
    all: &[&StepSpec],
    spec: &StepSpec,
    references: &[Reference],
    tools: &[ToolDescriptor],
) -> Result<(), PlanError> {
    let shape = |step: &StepId| {
        let producer = all.iter().find(|other| other.id == *step);
        producer.map_or(Shape::Anything, |producer| result(producer, tools))
    };
    let refuse = |reason: String| PlanError::plan(&spec.id, format!("step `{}`: {reason}", spec.id));
    for reference in references.iter().filter(|_| spec.kind != StepKind::Tool) {
        let found = shape(&reference.step).at(&reference.path);
        found.map_err(|reason| refuse(impossible(reference, &reason)))?;
    }
    if let Some(for_each) = &spec.for_each {
        let over = at("for_each", &for_each.over.from, &for_each.over.path);
        let found = shape(&over.step).at(&over.path).map_err(|reason| refuse(impossible(&over, &reason)))?;
        let types = found.types();
        if !types.meets(Types::LIST) {
            let what = place(&over);
            return Err(refuse(format!("`for_each` runs over a list, but {what} is {types}")));
        }
    }
    if let Some(when) = &spec.when {
        let value = at("when", &when.value.from, &when.value.path);
        let found =
            shape(&value.step).at(&value.path).map_err(|reason| refuse(impossible(&value, &reason)))?;
        compared(when, &value, found.types()).map_err(refuse)?;
    }
    Ok(())
}

fn at(field: &str, step: &StepId, path: &str) -> Reference {
    Reference { at: format!("/{field}"), step: step.clone(), path: path.to_owned() }
}

fn place(reference: &Reference) -> String {
    match reference.path.as_str() {
        "" => format!("the output of step `{}`", reference.step),
        path => format!("`{path}` of step `{}`", reference.step),
    }
}

/// A comparison that can only ever go one way is a mistake.
fn compared(when: &Condition, value: &Reference, types: Types) -> Result<(), String> {
    let (test, wanted) = match &when.is {
        Test::Equals(other) => ("equals", Types::of(other)),
        Test::NotEquals(other) => ("not_equals", Types::of(other)),
        Test::GreaterThan(_) => ("greater_than", Types::NUMBER),
        Test::LessThan(_) => ("less_than", Types::NUMBER),
        Test::Contains(Value::String(_)) => ("contains", Types::TEXT.or(Types::LIST)),
        Test::Contains(_) => ("contains", Types::LIST),
        Test::Exists(_) => return Ok(()),
    };
    if types.meets(wanted) {
        return Ok(());
    }
    Err(format!("`{test}` compares {} with {wanted}, but it is {types}", place(value)))
}

/// Whether `id` is the name of an item of the step `list`.
pub(crate) fn is_item_of(id: &StepId, list: &StepId) -> bool {
    let number = id.as_str().strip_prefix(list.as_str()).and_then(|rest| rest.strip_prefix('.'));
    let position = number.and_then(|number| number.parse::<usize>().ok());
    position.is_some_and(|position| {
        (1..=MAX_MAP_ITEMS as usize).contains(&position) && map::item_name(list, position - 1) == id.as_str()
    })
}

/// Whether the names that items of lists will get are free. The steps from `added` on are new.
///
/// # Errors
/// The step that has such a name.
pub(crate) fn item_names(all: &[&StepSpec], added: usize) -> Result<(), PlanError> {
    for (place, list) in all.iter().enumerate().filter(|(_, spec)| spec.for_each.is_some()) {
        let mut others = all.iter().enumerate().filter(|(other, _)| place >= added || *other >= added);
        if let Some((_, other)) = others.find(|(_, other)| is_item_of(&other.id, &list.id)) {
            let detail = format!(
                "`{}` is the name of an item of step `{}`, which runs over a list; use another",
                other.id, list.id
            );
            return Err(PlanError::plan(&other.id, detail));
        }
    }
    Ok(())
}
