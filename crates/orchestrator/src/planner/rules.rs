//! Matching a request to a tool without a model.

use std::collections::BTreeSet;

use kamil_protocol::task::{StepKind, StepSpec};

use super::Context;

/// The tool example that shares most words with the request, as a plan of one step.
#[must_use]
pub fn rule_based(ctx: &Context<'_>) -> Option<Vec<StepSpec>> {
    let asked = words(&ctx.request.input);
    let candidates =
        ctx.tools.iter().flat_map(|tool| tool.examples.iter().map(move |example| (tool, example)));
    let (tool, example, shared) = candidates
        .map(|(tool, example)| (tool, example, words(&example.request).intersection(&asked).count()))
        .max_by_key(|(.., shared)| *shared)?;
    let enough = shared >= 2 && shared * 2 >= words(&example.request).len();
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

fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2).map(str::to_owned).collect()
}
