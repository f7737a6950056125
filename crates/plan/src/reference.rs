//! References between steps: `{"$from": "step", "path": "/json/pointer"}` (RFC 6901), anywhere inside the inputs.

use kamil_protocol::{StepId, task::StepSpec};
use serde_json::{Map, Value};

use crate::map;

/// Deepest nesting of inputs.
pub const MAX_INPUT_DEPTH: usize = 32;

/// Why a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// An object with `$from` that has another form than a reference.
    #[error(
        "at `{at}`: a reference is {{\"$from\": \"step\", \"path\": \"/pointer\"}} and nothing else; {reason}"
    )]
    Form {
        /// JSON pointer to the object in the inputs.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object with `$item` that has another form than an item, or stands in a step that does not run over a list.
    #[error(
        "at `{at}`: an item is {{\"$item\": \"/pointer\"}} and nothing else, in a step with `for_each`; {reason}"
    )]
    Item {
        /// JSON pointer to the object in the inputs.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The inputs are nested too deeply.
    #[error("the inputs are nested more than {MAX_INPUT_DEPTH} levels deep")]
    TooDeep,
    /// The step has no output.
    #[error("at `{at}`: step `{step}` has no output to refer to")]
    NoOutput {
        /// JSON pointer to the reference in the inputs.
        at: String,
        /// The step referred to.
        step: StepId,
    },
    /// The output has nothing at the pointer.
    #[error("at `{at}`: the output of step `{step}` has nothing at `{path}`; {there}")]
    Missing {
        /// JSON pointer to the reference in the inputs.
        at: String,
        /// The step referred to.
        step: StepId,
        /// The pointer into its output.
        path: String,
        /// What there is instead.
        there: String,
    },
}

/// A reference found in inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// JSON pointer to where it stands in the inputs.
    pub at: String,
    /// The step referred to.
    pub step: StepId,
    /// JSON pointer into its output; empty: all of it.
    pub path: String,
}

/// What a step refers to.
pub(crate) struct Needs {
    /// The references in its inputs; for a step that runs over a list: in those of its first item.
    pub(crate) references: Vec<Reference>,
    /// The steps it depends on: those named, those of its inputs, of its list and of its condition. Without repeats.
    pub(crate) steps: Vec<StepId>,
}

/// What the step refers to.
///
/// # Errors
/// [`ReferenceError::Form`], [`ReferenceError::Item`] or [`ReferenceError::TooDeep`].
pub(crate) fn needs(spec: &StepSpec) -> Result<Needs, ReferenceError> {
    let references = match &spec.for_each {
        None => collect(&spec.inputs)?,
        Some(for_each) => collect(&map::bind(&spec.inputs, &for_each.over, 0)?.0)?,
    };
    let of_inputs = references.iter().map(|reference| &reference.step);
    let of_list = spec.for_each.iter().map(|for_each| &for_each.over.from);
    let of_condition = spec.when.iter().map(|condition| &condition.value.from);
    let mut steps: Vec<StepId> = Vec::new();
    for id in spec.depends_on.iter().chain(of_inputs).chain(of_list).chain(of_condition) {
        if !steps.contains(id) {
            steps.push(id.clone());
        }
    }
    Ok(Needs { references, steps })
}

/// All references in the inputs, in their order.
///
/// # Errors
/// [`ReferenceError::Form`], [`ReferenceError::TooDeep`], or [`ReferenceError::Item`] at an item that belongs to no list.
pub fn collect(inputs: &Map<String, Value>) -> Result<Vec<Reference>, ReferenceError> {
    let mut found = Vec::new();
    let mut at = String::new();
    for (name, value) in inputs {
        nested(&mut at, name, |at| walk(value, at, 1, &mut found))?;
    }
    Ok(found)
}

fn walk(
    value: &Value,
    at: &mut String,
    depth: usize,
    found: &mut Vec<Reference>,
) -> Result<(), ReferenceError> {
    if depth > MAX_INPUT_DEPTH {
        return Err(ReferenceError::TooDeep);
    }
    match value {
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                nested(at, &position.to_string(), |at| walk(item, at, depth + 1, found))?;
            }
            Ok(())
        }
        Value::Object(members) => {
            if let Some((step, path)) = parse(members, at)? {
                found.push(Reference { at: at.clone(), step, path: path.to_owned() });
                return Ok(());
            }
            if members.contains_key("$item") {
                let reason = "this step has none".to_owned();
                return Err(ReferenceError::Item { at: at.clone(), reason });
            }
            for (name, member) in members {
                nested(at, name, |at| walk(member, at, depth + 1, found))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The inputs with every reference replaced by what it refers to.
///
/// `output` tells what a step returned: `None` for a step that has no output, `Some(None)` for one that failed but may be
/// referred to all the same, which reads as null.
///
/// # Errors
/// Any [`ReferenceError`].
pub fn resolve<'a>(
    inputs: &Map<String, Value>,
    output: impl Fn(&StepId) -> Option<Option<&'a Value>>,
) -> Result<Map<String, Value>, ReferenceError> {
    let mut at = String::new();
    let mut resolved = Map::new();
    for (name, value) in inputs {
        let value = nested(&mut at, name, |at| replace(value, at, 1, &output))?;
        resolved.insert(name.clone(), value);
    }
    Ok(resolved)
}

fn replace<'a>(
    value: &Value,
    at: &mut String,
    depth: usize,
    output: &impl Fn(&StepId) -> Option<Option<&'a Value>>,
) -> Result<Value, ReferenceError> {
    if depth > MAX_INPUT_DEPTH {
        return Err(ReferenceError::TooDeep);
    }
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(position, item)| {
                nested(at, &position.to_string(), |at| replace(item, at, depth + 1, output))
            });
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        Value::Object(members) => {
            if let Some((step, path)) = parse(members, at)? {
                return look_up(step, path, at, output);
            }
            let mut replaced = Map::new();
            for (name, member) in members {
                let member = nested(at, name, |at| replace(member, at, depth + 1, output))?;
                replaced.insert(name.clone(), member);
            }
            Ok(Value::Object(replaced))
        }
        other => Ok(other.clone()),
    }
}

fn look_up<'a>(
    step: StepId,
    path: &str,
    at: &str,
    output: &impl Fn(&StepId) -> Option<Option<&'a Value>>,
) -> Result<Value, ReferenceError> {
    match output(&step) {
        None => Err(ReferenceError::NoOutput { at: at.to_owned(), step }),
        Some(None) => Ok(Value::Null),
        Some(Some(value)) => match value.pointer(path) {
            Some(found) => Ok(found.clone()),
            None => {
                let there = shape(value);
                Err(ReferenceError::Missing { at: at.to_owned(), step, path: path.to_owned(), there })
            }
        },
    }
}

pub(crate) fn shape(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let names: Vec<_> = members.keys().take(20).map(|name| format!("`{name}`")).collect();
            format!(
                "it is an object with {}",
                if names.is_empty() { "no members".to_owned() } else { names.join(", ") }
            )
        }
        Value::Array(items) => format!("it is a list of {}", items.len()),
        Value::String(_) => "it is a text".to_owned(),
        Value::Number(_) => "it is a number".to_owned(),
        Value::Bool(_) => "it is true or false".to_owned(),
        Value::Null => "it is null".to_owned(),
    }
}

fn parse<'a>(members: &'a Map<String, Value>, at: &str) -> Result<Option<(StepId, &'a str)>, ReferenceError> {
    let Some(from) = members.get("$from") else { return Ok(None) };
    let form = |reason: String| ReferenceError::Form { at: at.to_owned(), reason };
    let from = from.as_str().ok_or_else(|| form("`$from` is not a text".to_owned()))?;
    let step = from.parse::<StepId>().map_err(|error| form(error.to_string()))?;
    if let Some(other) = members.keys().find(|name| *name != "$from" && *name != "path") {
        return Err(form(format!("`{other}` does not belong there")));
    }
    let path = match members.get("path") {
        None => "",
        Some(path) => path.as_str().ok_or_else(|| form("`path` is not a text".to_owned()))?,
    };
    if !path.is_empty() && !path.starts_with('/') {
        return Err(form(format!("`path` is empty or begins with `/`, but it is `{path}`")));
    }
    Ok(Some((step, path)))
}

/// The pointer to a member of what stands at a pointer.
pub(crate) fn below(at: &str, segment: &str) -> String {
    format!("{at}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

pub(crate) fn nested<T>(at: &mut String, segment: &str, then: impl FnOnce(&mut String) -> T) -> T {
    let length = at.len();
    *at = below(at, segment);
    let result = then(at);
    at.truncate(length);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn references_are_found_and_replaced_at_any_depth() {
        let inputs =
            inputs(&json!({"a": {"b/c": [1, {"$from": "s1", "path": "/x/0"}]}, "d": {"$from": "s2"}}));
        let found = collect(&inputs).unwrap();
        assert_eq!(found[0].at, "/a/b~1c/1");
        assert_eq!(found[1].step.as_str(), "s2");
        let (first, second) = (json!({"x": [7]}), json!("text"));
        let resolved =
            resolve(&inputs, |step| Some(Some(if step.as_str() == "s1" { &first } else { &second })));
        assert_eq!(Value::Object(resolved.unwrap()), json!({"a": {"b/c": [1, 7]}, "d": "text"}));
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let inputs = inputs(&json!({"a": {"$from": "s1", "path": "/accuracy"}}));
        let output = json!({"metrics": {"accuracy": 1}});
        let error = resolve(&inputs, |_| Some(Some(&output))).unwrap_err().to_string();
        assert!(error.contains("/accuracy") && error.contains("`metrics`"), "{error}");
        assert!(matches!(resolve(&inputs, |_| None), Err(ReferenceError::NoOutput { .. })));
        assert_eq!(resolve(&inputs, |_| Some(None)).unwrap()["a"], Value::Null);
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            json!({"$from": 1}),
            json!({"$from": "../x"}),
            json!({"$from": "s1", "path": 3}),
            json!({"$from": "s1", "path": "x"}),
            json!({"$from": "s1", "pointer": "/x"}),
        ] {
            let inputs = inputs(&json!({"a": bad}));
            assert!(matches!(collect(&inputs), Err(ReferenceError::Form { .. })), "{inputs:?}");
        }
        let item = inputs(&json!({"a": {"$item": ""}}));
        assert!(matches!(collect(&item), Err(ReferenceError::Item { .. })));
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(collect(&inputs(&json!({"a": deep}))), Err(ReferenceError::TooDeep));
    }
}
