//! Whether a plan is worth a model's time.
//!
//! Asking a model costs seconds on a small machine, and small models call tools for requests that need none. A request is
//! therefore answered at once unless it shares words with some registered tool: evidence that the tool could matter.

use super::{
    Context,
    words::{content_words, is_english},
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
    if names_a_file(input) || !is_english(input) {
        return Gate::Plan;
    }
    let asked = content_words(input);
    let evidence = |tool: &kamil_protocol::tool::ToolDescriptor| -> u32 {
        let name = content_words(&tool.name);
        let mut about = content_words(&tool.description);
        for example in &tool.examples {
            about.extend(content_words(&example.request));
        }
        asked.iter().map(|word| if name.contains(word) { 2 } else { u32::from(about.contains(word)) }).sum()
    };
    if ctx.tools.iter().any(|tool| evidence(tool) >= ENOUGH) { Gate::Plan } else { Gate::Direct }
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

fn names_a_file(input: &str) -> bool {
    input.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '(' | ')' | '?')).any(
        |word| {
            let word = word.trim_end_matches(['.', ':', ';', '!']);
            word.rsplit_once('.').is_some_and(|(stem, ending)| {
                stem.chars().any(char::is_alphanumeric)
                    && (1..=5).contains(&ending.len())
                    && ending.chars().all(|c| c.is_ascii_alphanumeric())
                    && ending.chars().any(|c| c.is_ascii_alphabetic())
                    && !matches!(word.to_lowercase().as_str(), "e.g" | "i.e" | "a.m" | "p.m")
            }) || (word.len() > 1
                && word.contains('/')
                && !word.contains("//")
                && word.chars().any(char::is_alphabetic)
                && word.split('/').count() > 2)
        },
    )
}
