//! Whether arguments match a tool's schema, where some of them are references and so not known yet.

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use crate::{
    reference::Reference,
    schema::{Shape, Types, misfit},
};

/// Most violations that are told at once.
const MAX_TOLD: usize = 4;

/// Checks `inputs` against `schema`; what stands at or under a reference matches anything.
///
/// # Errors
/// What does not match, for people and models.
pub(crate) fn check(
    schema: &Value,
    inputs: &Map<String, Value>,
    references: &[Reference],
) -> Result<(), String> {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => return Err(format!("the tool's own schema is not valid: {error}")),
    };
    let instance = Value::Object(inputs.clone());
    let told: Vec<String> = validator
        .iter_errors(&instance)
        .filter(|error| !excused(error.instance_path().as_str(), error.kind(), references))
        .take(MAX_TOLD)
        .map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path => format!("at `{path}`: {error}"),
        })
        .collect();
    if told.is_empty() { Ok(()) } else { Err(told.join("; ")) }
}

/// Checks that what a reference refers to may be what `schema` wants where it stands.
///
/// # Errors
/// What does not fit, as a sentence without its end.
pub(crate) fn check_reference(
    schema: &Value,
    reference: &Reference,
    producer: &Shape<'_>,
) -> Result<(), String> {
    let given = producer.at(&reference.path).map_err(|reason| impossible(reference, &reason))?;
    // What the schema knows nothing of is judged as a whole, with the rest of the arguments.
    let Ok(wanted) = Shape::of(schema).at(&reference.at) else { return Ok(()) };
    let Some((has, wants)) = misfit(&given, &wanted) else { return Ok(()) };
    let of = match reference.path.as_str() {
        "" => format!("the output of step `{}`", reference.step),
        path => format!("`{path}` of step `{}`", reference.step),
    };
    let items = if given.types() == Types::LIST && wanted.types() != Types::LIST {
        "; to run the step once for each item, use `for_each`"
    } else if has != given.types() {
        " (of each item)"
    } else {
        ""
    };
    Err(format!("at `{}`: {of} is {has}, but {wants} is wanted{items}", reference.at))
}

/// Why a pointer into an output cannot be right.
pub(crate) fn impossible(reference: &Reference, reason: &str) -> String {
    let Reference { at, step, path } = reference;
    format!("at `{at}`: step `{step}` never returns anything at `{path}`: {reason}")
}

fn excused(path: &str, kind: &ValidationErrorKind, references: &[Reference]) -> bool {
    references.iter().any(|reference| {
        let at_or_under = is_under(path, &reference.at);
        at_or_under || (looks_inside(kind) && is_under(&reference.at, path))
    })
}

/// Whether the keyword judges what stands deeper than the place it reports.
const fn looks_inside(kind: &ValidationErrorKind) -> bool {
    use ValidationErrorKind as Kind;
    matches!(
        kind,
        Kind::AnyOf { .. }
            | Kind::OneOfMultipleValid { .. }
            | Kind::OneOfNotValid { .. }
            | Kind::Not { .. }
            | Kind::Contains
            | Kind::Constant { .. }
            | Kind::Enum { .. }
            | Kind::UniqueItems
            | Kind::UnevaluatedItems { .. }
            | Kind::UnevaluatedProperties { .. }
            | Kind::FalseSchema
    )
}

fn is_under(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reference::collect;

    fn verdict(inputs: &Value) -> Result<(), String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "rows": {"type": "integer", "minimum": 1},
                "how": {"oneOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                                  {"type": "null"}]}
            },
            "required": ["path"],
            "additionalProperties": false
        });
        let inputs = inputs.as_object().unwrap().clone();
        check(&schema, &inputs, &collect(&inputs).unwrap())
    }

    #[test]
    fn a_reference_matches_anything_and_the_rest_is_checked() {
        let from = json!({"$from": "s1", "path": "/x"});
        assert_eq!(verdict(&json!({"path": "a", "rows": 3})), Ok(()));
        assert_eq!(verdict(&json!({"path": from, "rows": from, "how": {"a": from}})), Ok(()));
        assert!(verdict(&json!({"rows": from})).unwrap_err().contains("path"));
        assert!(verdict(&json!({"path": from, "extra": from})).unwrap_err().contains("extra"));
        assert!(verdict(&json!({"path": from, "rows": 0})).unwrap_err().contains("/rows"));
        assert!(verdict(&json!({"path": "a", "how": {"a": "x"}})).is_err());
    }
}
