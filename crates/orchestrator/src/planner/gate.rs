//! Whether a plan is worth a model's time.
//!
//! Asking a model costs seconds on a small machine, and small models call tools for requests that need none. A request is
//! therefore answered at once unless it shares words with some registered tool: evidence that the tool could matter.

use std::collections::BTreeSet;

use kamil_protocol::{
    task::StepSpec,
    tool::{SideEffect, ToolDescriptor},
};

use super::{
    Context,
    words::{content_words, file_name, is_english},
};

/// Whether tools can matter for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No tool can matter: answer at once.
    Direct,
    /// A model writes a plan first.
    Plan,
}

/// Evidence from which on a plan is asked for: one word of a tool's name, or two of its description and examples.
const ENOUGH: u32 = 2;

/// Decides whether a model is asked for a plan.
#[must_use]
pub fn gate(ctx: &Context<'_>) -> Gate {
    if ctx.tools.is_empty() || ctx.request.direct || asks_about_the_past(&ctx.request.input) {
        return Gate::Direct;
    }
    let input = &ctx.request.input;
    // The words of tools are English; of a request in another language nothing follows.
    if file_name(input).is_some() || !is_english(input) {
        return Gate::Plan;
    }
    let asked = content_words(input);
    // Two numbers are something to compute with.
    let several_numbers = numbers(input) >= 2;
    let could_matter = |tool: &ToolDescriptor| {
        let computes = tool.examples.iter().any(|example| numbers(&example.request) > 0);
        evidence(tool, &asked) + u32::from(several_numbers && computes) >= ENOUGH
    };
    if ctx.tools.iter().any(could_matter) { Gate::Plan } else { Gate::Direct }
}

/// Whether a request can only be fulfilled by a call: it names a file, and shares a word with a tool.
pub(super) fn must_call(ctx: &Context<'_>) -> bool {
    let asked = content_words(&ctx.request.input);
    file_name(&ctx.request.input).is_some() && ctx.tools.iter().any(|tool| evidence(tool, &asked) > 0)
}

/// Whether a request asks for what a step would change: it shares a word with the tool, or holds one of the step's texts.
/// Small models like to add a last step that saves something; what the person did not ask for is not done.
pub(super) fn is_asked_for(ctx: &Context<'_>, step: &StepSpec) -> bool {
    let Some(tool) = ctx.tools.iter().find(|tool| step.tool.as_deref() == Some(tool.name.as_str())) else {
        return true;
    };
    if tool.side_effect < SideEffect::Write {
        return true;
    }
    let holds = |value: &serde_json::Value| {
        value.as_str().is_some_and(|text| text.len() >= 3 && ctx.request.input.contains(text))
    };
    evidence(tool, &content_words(&ctx.request.input)) > 0 || step.inputs.values().any(holds)
}

/// Words that a request shares with a tool: two points for one of its name, one for one of its description or examples.
fn evidence(tool: &ToolDescriptor, asked: &BTreeSet<String>) -> u32 {
    let name = content_words(&tool.name.replace('_', " "));
    let mut about = content_words(&tool.description);
    for example in &tool.examples {
        about.extend(content_words(&example.request));
    }
    asked.iter().map(|word| if name.contains(word) { 2 } else { u32::from(about.contains(word)) }).sum()
}

fn numbers(input: &str) -> usize {
    input
        .split(|c: char| !c.is_alphanumeric() && c != '.')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .count()
}

/// Questions such as "what did I train last time" are memory's.
fn asks_about_the_past(input: &str) -> bool {
    let lower = format!(" {} ", input.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " "));
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(&format!(" {word} ")));
    let question = has(&["what", "which", "when", "who", "how", "where", "did", "do you remember"]);
    let people = has(&["i", "we", "you", "my", "our"]);
    let past = has(&[
        "did",
        "last time",
        "yesterday",
        "ago",
        "earlier",
        "previously",
        "last week",
        "last month",
        "told",
        "remember",
        "was",
    ]);
    question && people && past
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::{asking, context, tools};

    #[test]
    fn requests_that_share_nothing_with_a_tool_are_answered_at_once() {
        let tools = tools();
        for (input, expected) in [
            ("Hello!", Gate::Direct),
            ("Explain what a hash chain is in two sentences", Gate::Direct),
            ("What is the capital of Australia?", Gate::Direct),
            ("What did I train last time, and how good was it?", Gate::Direct),
            ("Train a small ML model on the iris data and summarize the results", Gate::Plan),
            ("What is 23 * 47?", Gate::Plan),
            ("Show me notes/today.md", Gate::Plan),
            ("Wie viel Speicher hat dieser Rechner noch?", Gate::Plan),
        ] {
            assert_eq!(gate(&context(&asking(input), &tools)), expected, "{input}");
        }
        assert_eq!(gate(&context(&asking("Train a model"), &[])), Gate::Direct);
    }
}
