//! Steps that run over a list: what their items become, and what they return when all of these have ended.

use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, StepId, digest,
    event::TaskEvent,
    flow::{ForEach, OutputRef},
    task::{MAX_STEPS, StepError, StepSpec, StepStatus},
};
use serde_json::{Map, Value, json};

use crate::{
    decide::failed,
    labels,
    reference::{self, MAX_INPUT_DEPTH, ReferenceError, nested},
    step::Step,
    task::Task,
};

/// What the brackets and commas around the results may take of the space for an output, in bytes.
const LIST_MARGIN: usize = 256;

/// The inputs of the item at this position: every `{"$item": "/pointer"}` becomes a reference into the list's step, so that
/// labels and lineage follow by themselves. With how many there were.
///
/// # Errors
/// [`ReferenceError::Item`] or [`ReferenceError::TooDeep`].
pub(crate) fn bind(
    inputs: &Map<String, Value>,
    over: &OutputRef,
    position: usize,
) -> Result<(Map<String, Value>, usize), ReferenceError> {
    let mut binder = Binder { over, position, used: 0 };
    let mut bound = Map::new();
    let mut at = String::new();
    for (name, value) in inputs {
        let value = nested(&mut at, name, |at| binder.value(value, at, 1))?;
        bound.insert(name.clone(), value);
    }
    Ok((bound, binder.used))
}

struct Binder<'a> {
    over: &'a OutputRef,
    position: usize,
    used: usize,
}

impl Binder<'_> {
    fn value(&mut self, value: &Value, at: &mut String, depth: usize) -> Result<Value, ReferenceError> {
        if depth > MAX_INPUT_DEPTH {
            return Err(ReferenceError::TooDeep);
        }
        match value {
            Value::Array(items) => {
                let mut bound = Vec::with_capacity(items.len());
                for (place, item) in items.iter().enumerate() {
                    bound.push(nested(at, &place.to_string(), |at| self.value(item, at, depth + 1))?);
                }
                Ok(Value::Array(bound))
            }
            Value::Object(members) if members.contains_key("$item") => self.item(members, at),
            Value::Object(members) => {
                let mut bound = Map::new();
                for (name, member) in members {
                    let member = nested(at, name, |at| self.value(member, at, depth + 1))?;
                    bound.insert(name.clone(), member);
                }
                Ok(Value::Object(bound))
            }
            other => Ok(other.clone()),
        }
    }

    fn item(&mut self, members: &Map<String, Value>, at: &str) -> Result<Value, ReferenceError> {
        let form = |reason: String| ReferenceError::Item { at: at.to_owned(), reason };
        if let Some(other) = members.keys().find(|name| *name != "$item") {
            return Err(form(format!("`{other}` does not belong there")));
        }
        let Some(pointer) = members.get("$item").and_then(Value::as_str) else {
            return Err(form("`$item` is not a text".to_owned()));
        };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(form(format!("it is empty or begins with `/`, but it is `{pointer}`")));
        }
        self.used += 1;
        let OutputRef { from, path } = self.over;
        Ok(json!({"$from": from, "path": format!("{path}/{}{pointer}", self.position)}))
    }
}

/// The name of the step for an item; positions count from 0, names from 1.
pub(crate) fn item_name(map: &StepId, position: usize) -> String {
    format!("{map}.{}", position + 1)
}

impl Task {
    /// What follows for a step that runs over a list and whose turn has come: one step for each item, or its own result.
    pub(crate) fn map_turn(&self, step: &Step) -> Option<Vec<TaskEvent>> {
        let for_each = step.spec.for_each.as_ref()?;
        if step.status != StepStatus::Pending || !self.satisfied(step) || !self.permitted(step) {
            return None;
        }
        if !step.items.is_empty() {
            return Some(self.gather(step));
        }
        let expanded = self.list(for_each).and_then(|list| self.expand(step, for_each, list.len()));
        Some(expanded.unwrap_or_else(|detail| {
            let detail = format!("Step `{}` cannot run over its list: {detail}.", step.id());
            let error = StepError { code: ErrorCode::PlanInvalid, detail, next_step: None };
            vec![failed(step.id().clone(), 0, error, false)]
        }))
    }

    /// The steps of the items of a step that runs over a list, in their order.
    pub(crate) fn items(&self, step: &Step) -> impl Iterator<Item = &Step> {
        step.items.iter().filter_map(|place| self.steps.get(*place))
    }

    fn list(&self, for_each: &ForEach) -> Result<&Vec<Value>, String> {
        let OutputRef { from, path } = &for_each.over;
        let output = self.step(from).and_then(|step| step.output.as_deref());
        let Some(output) = output else { return Err(format!("step `{from}` has no output")) };
        let Some(found) = output.pointer(path) else {
            let there = reference::shape(output);
            return Err(format!("the output of step `{from}` has nothing at `{path}`; {there}"));
        };
        found.as_array().ok_or_else(|| {
            format!("what is at `{path}` of step `{from}` is no list; {}", reference::shape(found))
        })
    }

    fn expand(&self, step: &Step, for_each: &ForEach, length: usize) -> Result<Vec<TaskEvent>, String> {
        if length == 0 {
            return Ok(vec![self.gathered(step, Vec::new())]);
        }
        let limit = usize::try_from(for_each.most_items()).unwrap_or(usize::MAX);
        let count = length.min(limit).min(MAX_STEPS - self.steps.len());
        if count == 0 {
            return Err(format!("the graph has {MAX_STEPS} steps already"));
        }
        let steps: Result<Vec<_>, _> =
            (0..count).map(|position| self.item(step, for_each, position)).collect();
        let mut events = Vec::new();
        if count < length {
            let reason = format!("Step `{}` runs over the first {count} of {length} items only.", step.id());
            events.push(TaskEvent::Degraded { reason });
        }
        let steps = steps?;
        let digest = Some(digest::of_steps(&steps));
        events.push(TaskEvent::StepsAdded { cause: Some(step.id().clone()), steps, digest });
        Ok(events)
    }

    fn item(&self, step: &Step, for_each: &ForEach, position: usize) -> Result<StepSpec, String> {
        let spec = step.spec.as_ref();
        let (inputs, _) = bind(&spec.inputs, &for_each.over, position).map_err(|error| error.to_string())?;
        let id = item_name(&spec.id, position).parse().map_err(|_| "its name is too long".to_owned())?;
        // Whatever decided that the step runs has gone into its items too.
        let depends_on = self.dependencies(step).map(|needed| needed.id().clone()).collect();
        Ok(StepSpec { id, inputs, depends_on, for_each: None, when: None, ..spec.clone() })
    }

    fn gather(&self, step: &Step) -> Vec<TaskEvent> {
        let items: Vec<&Step> = self.items(step).collect();
        let mut events = Vec::new();
        let lost: Vec<&&Step> = items.iter().filter(|item| item.output.is_none()).collect();
        if let Some(first) = lost.first() {
            let why = first.error.as_ref().map_or("it was not run", |error| error.detail.as_str());
            let reason = format!(
                "Step `{}` has no result for {} of {} items; the first of them is `{}`: {why}",
                step.id(),
                lost.len(),
                items.len(),
                first.id()
            );
            events.push(TaskEvent::Degraded { reason });
        }
        let share = (MAX_OUTPUT_BYTES - LIST_MARGIN) / items.len().max(1);
        let results: Vec<(Value, bool)> = items.iter().map(|item| result(item, share)).collect();
        let cut = results.iter().filter(|(_, cut)| *cut).count();
        if cut > 0 {
            let reason = format!(
                "The results of {cut} of {} items of step `{}` were too long to be passed on whole; each keeps its own in full.",
                items.len(),
                step.id()
            );
            events.push(TaskEvent::Degraded { reason });
        }
        events.push(self.gathered(step, results.into_iter().map(|(result, _)| result).collect()));
        events
    }

    fn gathered(&self, step: &Step, results: Vec<Value>) -> TaskEvent {
        let list = step.spec.for_each.as_ref().and_then(|for_each| self.step(&for_each.over.from));
        let inputs = list.into_iter().chain(self.items(step)).filter_map(|step| step.labels.as_ref());
        let labels = labels::join(inputs.chain([&step.plan_labels]));
        TaskEvent::StepSucceeded {
            step: step.id().clone(),
            attempt: 0,
            output: Value::Array(results),
            labels,
            enforced: Vec::new(),
            tokens_in: None,
            tokens_out: None,
        }
    }
}

/// An item's output, cut to an excerpt if it takes more than its share; null if it has none.
fn result(item: &Step, share: usize) -> (Value, bool) {
    let Some(output) = item.output.as_deref() else { return (Value::Null, false) };
    let written = output.to_string();
    if written.len() <= share {
        return (output.clone(), false);
    }
    let text = output.as_str().unwrap_or(&written);
    let mut end = text.len().min(share);
    loop {
        end = text.floor_char_boundary(end);
        let excerpt = json!({
            "truncated": true,
            "bytes": text.len(),
            "step": item.id(),
            "excerpt": text.get(..end).unwrap_or_default(),
        });
        if end == 0 || excerpt.to_string().len() <= share {
            return (excerpt, true);
        }
        end = end * 3 / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(inputs: &Value) -> Result<(Value, usize), ReferenceError> {
        let over = OutputRef { from: "s1".parse().unwrap(), path: "/files".to_owned() };
        bind(inputs.as_object().unwrap(), &over, 3).map(|(inputs, used)| (Value::Object(inputs), used))
    }

    #[test]
    fn items_become_references_into_the_list() {
        let inputs =
            json!({"path": {"$item": "/name"}, "all": [{"x": {"$item": ""}}, 7], "other": {"$from": "s0"}});
        let expected = json!({
            "path": {"$from": "s1", "path": "/files/3/name"},
            "all": [{"x": {"$from": "s1", "path": "/files/3"}}, 7],
            "other": {"$from": "s0"}
        });
        assert_eq!(bound(&inputs).unwrap(), (expected, 2));
    }

    #[test]
    fn other_forms_of_items_are_refused_with_their_place() {
        for bad in [json!({"$item": 1}), json!({"$item": "name"}), json!({"$item": "", "path": "/x"})] {
            let error = bound(&json!({"a": {"b": [bad]}})).unwrap_err();
            assert!(error.to_string().starts_with("at `/a/b/0`: an item is"), "{error}");
        }
        let deep = (0..40).fold(json!({"$item": ""}), |inner, _| json!([inner]));
        assert_eq!(bound(&json!({"a": deep})), Err(ReferenceError::TooDeep));
    }
}
