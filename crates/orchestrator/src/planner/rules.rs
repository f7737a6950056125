//! Decisions that need no model: matching a request to a tool, and the kind of model that a text wants.

use kamil_protocol::task::{StepKind, StepSpec};

use super::{Context, words::content_words};

/// The tool example that shares most words with the request, as a plan of one step.
#[must_use]
pub fn rule_based(ctx: &Context<'_>) -> Option<Vec<StepSpec>> {
    let asked = content_words(&ctx.request.input);
    let candidates =
        ctx.tools.iter().flat_map(|tool| tool.examples.iter().map(move |example| (tool, example)));
    let (tool, example, shared, all) = candidates
        .map(|(tool, example)| {
            let words = content_words(&example.request);
            (tool, example, words.intersection(&asked).count(), words.len())
        })
        .max_by_key(|(_, _, shared, all)| (*shared, std::cmp::Reverse(*all)))?;
    let enough = shared >= 2 && shared * 2 >= all;
    let inputs = example.arguments.as_object().filter(|_| enough)?.clone();
    Some(vec![StepSpec {
        id: "s1".parse().ok()?,
        kind: StepKind::Tool,
        tool: Some(tool.name.clone()),
        inputs,
        depends_on: Vec::new(),
        specialization: None,
        tolerates_failure: false,
    }])
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
