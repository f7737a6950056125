//! Decisions that need no model: matching a request to a tool, and the kind of model that a text wants.

use kamil_protocol::task::{StepKind, StepSpec};
use serde_json::{Map, Value};

use super::{
    Context,
    signature::{Shape, Signature},
    words::{content_words, file_name},
};

/// The tool whose example shares most words with the request, as a plan of one step. Its arguments come from the request: of the
/// example's own, only those stay that the request speaks of or that are one of a few choices.
pub(super) fn rule_based(ctx: &Context<'_>) -> Option<Vec<StepSpec>> {
    let asked = content_words(&ctx.request.input);
    let candidates =
        ctx.tools.iter().flat_map(|tool| tool.examples.iter().map(move |example| (tool, example)));
    let (tool, example, shared, all) = candidates
        .map(|(tool, example)| {
            let words = content_words(&example.request);
            (tool, example, words.intersection(&asked).count(), words.len())
        })
        .max_by_key(|(_, _, shared, all)| (*shared, std::cmp::Reverse(*all)))?;
    if shared < 2 || shared * 2 < all {
        return None;
    }
    let inputs = arguments(&Signature::of(tool), &example.arguments, &ctx.request.input)?;
    let step = StepSpec::new("s1".parse().ok()?, StepKind::Tool);
    Some(vec![StepSpec { tool: Some(tool.name.clone()), inputs, ..step }])
}

/// The example's arguments as far as the request bears them out; none if a required one is missing then.
fn arguments(signature: &Signature<'_>, example: &Value, request: &str) -> Option<Map<String, Value>> {
    let lower = request.to_lowercase();
    let mut inputs = Map::new();
    for argument in &signature.arguments {
        let usual = example.get(argument.name);
        let kept = match (&argument.shape, usual) {
            (Shape::OneOf(_), Some(value)) => Some(value.clone()),
            (_, Some(Value::String(text))) if lower.contains(&text.to_lowercase()) => usual.cloned(),
            (_, Some(Value::String(text))) if file_name(text).is_some() => {
                file_name(request).map(Value::from)
            }
            _ => None,
        };
        match kept {
            Some(value) => drop(inputs.insert(argument.name.to_owned(), value)),
            None if argument.required => return None,
            None => {}
        }
    }
    Some(inputs)
}

const CODING: &[&str] = &[
    "code",
    "program",
    "function",
    "script",
    "python",
    "rust",
    "javascript",
    "bug",
    "regex",
    "sql",
    "compile",
    "class",
];
const MATH: &[&str] = &[
    "calculate",
    "equation",
    "proof",
    "prove",
    "integral",
    "derivative",
    "solve",
    "theorem",
    "algebra",
    "probability",
];

/// The specialization that a text wants: `coding`, `math` or `general`.
#[must_use]
pub fn specialization(text: &str) -> &'static str {
    let words = content_words(text);
    let names = |list: &[&str]| list.iter().any(|word| !words.is_disjoint(&content_words(word)));
    match (names(CODING), names(MATH)) {
        (true, _) => "coding",
        (false, true) => "math",
        _ => "general",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::planner::fixture::{asking, context, tools};

    #[test]
    fn arguments_come_from_the_request_never_from_an_example() {
        let tools = tools();
        let inputs = |input: &str| {
            rule_based(&context(&asking(input), &tools)).map(|steps| Value::Object(steps[0].inputs.clone()))
        };
        assert_eq!(
            inputs("Please train a model on the iris flowers"),
            Some(json!({"dataset": "iris", "model": "decision_tree"}))
        );
        assert_eq!(inputs("What does the file plans.txt say in notes?"), Some(json!({"path": "plans.txt"})));
        assert_eq!(inputs("Say what the notes and the txt files are"), None);
        assert_eq!(inputs("Tell me a story"), None);
    }
}
