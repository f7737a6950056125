//! Whether a plan is worth a model's time.
//!
//! Asking a model costs seconds on a small machine, and small models call tools for requests that need none. A request is
//! therefore answered at once unless it shares words with some registered tool: evidence that the tool could matter.

use std::collections::BTreeSet;

use kamil_protocol::{
    reason::{ChatMessage, Speaker},
    task::StepSpec,
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::Value;

use super::{
    Context, conversation,
    words::{content_words, file_name, is_english, is_generic},
};

/// Whether tools can matter for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No tool can matter: answer at once.
    Direct,
    /// A model writes a plan first.
    Plan,
}

/// Evidence from which on a plan is asked for: one telling word of a tool's name, two of its description and examples, or one of
/// these and one of its arguments'.
const ENOUGH: u32 = 3;
/// Turns of a conversation that a reply may belong to.
const TURNS: usize = 8;

/// Decides whether a model is asked for a plan.
#[must_use]
pub fn gate(ctx: &Context<'_>) -> Gate {
    if ctx.tools.is_empty() || ctx.request.direct || asks_about_the_past(&ctx.request.input) {
        return Gate::Direct;
    }
    let input = &ctx.request.input;
    // The words of tools are English; of a request in another language nothing follows.
    let names_file = file_name(input).is_some() && ctx.tools.iter().any(handles_files);
    if names_file || !is_english(input) {
        return Gate::Plan;
    }
    let asked = asked_words(ctx);
    // Two numbers are something to compute with.
    let several_numbers = numbers(input) >= 2;
    let could_matter = |tool: &ToolDescriptor| {
        let computes = tool.examples.iter().any(|example| numbers(&example.request) > 0);
        several_numbers && computes || evidence(tool, &asked) >= ENOUGH
    };
    if ctx.tools.iter().any(could_matter) { Gate::Plan } else { Gate::Direct }
}

/// Whether a tool works on files. To any other, `example.org` is no file's name.
fn handles_files(tool: &ToolDescriptor) -> bool {
    let files = content_words("file path folder");
    let named = content_words(&format!("{} {}", tool.name.replace('_', " "), tool.description));
    !named.is_disjoint(&files) || !argument_words(tool).is_disjoint(&files)
}

/// The tools that a request shares anything with, the nearest first; none if its words say nothing about them.
pub(super) fn near(ctx: &Context<'_>) -> Vec<usize> {
    let input = &ctx.request.input;
    if !is_english(input) {
        return Vec::new();
    }
    let asked = asked_words(ctx);
    let (names_file, computes) = (file_name(input).is_some(), numbers(input) >= 2);
    let shares = |tool: &ToolDescriptor| {
        let by_example = tool.examples.iter().any(|example| {
            names_file && file_name(&example.request).is_some() || computes && numbers(&example.request) > 0
        });
        evidence(tool, &asked) + u32::from(by_example)
    };
    let mut near: Vec<(usize, u32)> =
        ctx.tools.iter().map(shares).enumerate().filter(|(_, shared)| *shared > 0).collect();
    near.sort_by_key(|(_, shared)| std::cmp::Reverse(*shared));
    near.into_iter().map(|(at, _)| at).collect()
}

/// The words of the request; of the conversation too where the assistant has asked back or is not done, since what the person says
/// then is part of an earlier request.
fn asked_words(ctx: &Context<'_>) -> BTreeSet<String> {
    let mut asked = content_words(&ctx.request.input);
    let turns = conversation(ctx);
    let asks_back = |turn: &ChatMessage| turn.role == Speaker::Assistant && turn.content.contains('?');
    let goes_on = turns.last().is_some_and(|last| last.role == Speaker::Tool || asks_back(last))
        || turns.iter().any(|turn| turn.role == Speaker::User && turn.content == ctx.request.input);
    if goes_on {
        for turn in turns.iter().rev().take(TURNS).filter(|turn| turn.role != Speaker::Tool) {
            asked.extend(content_words(&turn.content));
        }
    }
    asked
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
    let holds = |value: &Value| {
        value.as_str().is_some_and(|text| text.len() >= 3 && ctx.request.input.contains(text))
    };
    evidence(tool, &content_words(&ctx.request.input)) > 0 || step.inputs.values().any(holds)
}

/// Words that a request shares with a tool: four points for one of its name, two for one of its description or examples, one for one
/// of its arguments. Of a word that many tools share, two in the name, and none elsewhere.
fn evidence(tool: &ToolDescriptor, asked: &BTreeSet<String>) -> u32 {
    let name = content_words(&tool.name.replace('_', " "));
    let mut about = content_words(&tool.description);
    for example in &tool.examples {
        about.extend(content_words(&example.request));
    }
    let arguments = argument_words(tool);
    let points = |word: &String| match (name.contains(word), is_generic(word)) {
        (true, false) => 4,
        (true, true) => 2,
        (false, true) => 0,
        (false, false) if about.contains(word) => 2,
        (false, false) => u32::from(arguments.contains(word)),
    };
    asked.iter().map(points).sum()
}

fn argument_words(tool: &ToolDescriptor) -> BTreeSet<String> {
    let properties = tool.arguments.get("properties").and_then(Value::as_object);
    let mut words = BTreeSet::new();
    for (name, schema) in properties.into_iter().flatten() {
        words.extend(content_words(&name.replace('_', " ")));
        words.extend(content_words(schema.get("description").and_then(Value::as_str).unwrap_or_default()));
        for value in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
            words.extend(content_words(value.as_str().unwrap_or_default()));
        }
    }
    words
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
            ("Show me some details of the current system", Gate::Direct),
            ("Wie viel Speicher hat dieser Rechner noch?", Gate::Plan),
        ] {
            assert_eq!(gate(&context(&asking(input), &tools)), expected, "{input}");
        }
        assert_eq!(gate(&context(&asking("Train a model"), &[])), Gate::Direct);
        let calculator = &tools[3..];
        assert_eq!(gate(&context(&asking("Who owns example.org?"), calculator)), Gate::Direct);
    }

    #[test]
    fn a_reply_to_a_question_belongs_to_what_was_asked_before() {
        let tools = tools();
        let said = |role, text: &str| ChatMessage::new(role, text);
        let mut request = asking("The iris one, please");
        request.history = vec![
            said(Speaker::User, "Train a classifier"),
            said(Speaker::Assistant, "On which of the flowers' tables?"),
        ];
        assert_eq!(gate(&context(&request, &tools)), Gate::Plan);
        request.history[1].content = "It is trained.".to_owned();
        request.input = "Thank you, that was quick".to_owned();
        assert_eq!(gate(&context(&request, &tools)), Gate::Direct);
    }
}
