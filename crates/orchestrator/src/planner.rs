//! What the models are asked, and how their replies are read. Pure: no I/O, no clock, no randomness.

mod answer;
mod calls;
mod demonstrations;
#[cfg(test)]
mod fixture;
mod gate;
mod grammar;
mod keep;
mod ladder;
mod numbering;
mod planning;
mod rules;
mod signature;
mod tidy;
mod words;

use jiff::Timestamp;
use kamil_protocol::{
    memory::RecallReply,
    reason::{ChatMessage, ReasonRequest, Sampling, Speaker},
    task::{Labels, StepError, StepSpec, StepStatus, TaskRequest},
    tool::ToolDescriptor,
};
use serde_json::Value;

pub use answer::{answer_request, reason_request};
pub use gate::{Gate, gate};
pub use keep::memories;
pub use ladder::{Rung, fits_tools, next_rung, read, without_model};
pub use numbering::going_on;
pub use planning::plan_request;
pub use rules::specialization;
pub use tidy::Plan;

/// All that a prompt is made of.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What the person asked.
    pub request: &'a TaskRequest,
    /// The tools that are registered now.
    pub tools: &'a [ToolDescriptor],
    /// What memory knows, if it was asked.
    pub recall: Option<&'a RecallReply>,
    /// What ran before a new plan is made, and how it ended; empty for a first plan and for anything else.
    pub results: &'a [StepResult<'a>],
    /// The moment of asking.
    pub now: Timestamp,
}

/// A step that has ended, as the answer may speak of it.
#[derive(Clone, Debug)]
pub struct StepResult<'a> {
    /// The step.
    pub spec: &'a StepSpec,
    /// How it ended.
    pub status: StepStatus,
    /// Its output, if it succeeded. Of a `reason` or `answer` step: the text, as a JSON string.
    pub output: Option<&'a Value>,
    /// Why it failed, if it did.
    pub error: Option<&'a StepError>,
    /// Labels on what is told of it.
    pub labels: Labels,
}

/// Longest piece of a tool's output that a prompt repeats, in bytes.
const MAX_RESULT_BYTES: usize = 6_000;

fn shorten(text: &str, most_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(most_bytes)).unwrap_or(text)
}

/// The best hits, a line each.
fn passages(recall: &RecallReply, most: usize, most_bytes: usize) -> String {
    let line = |hit: &kamil_protocol::memory::Hit| {
        let when = hit.memory.occurred_at.strftime("%Y-%m-%d");
        format!("- {when}: {}\n", shorten(&hit.memory.text, most_bytes).replace('\n', " "))
    };
    recall.hits.iter().take(most).map(line).collect()
}

fn conversation(ctx: &Context<'_>) -> Vec<ChatMessage> {
    if !ctx.request.history.is_empty() {
        return ctx.request.history.clone();
    }
    let Some(recall) = ctx.recall else { return Vec::new() };
    let turn = |memory: &kamil_protocol::memory::Memory| {
        let role = match memory.source.origin {
            kamil_protocol::memory::Origin::Assistant => Speaker::Assistant,
            _ => Speaker::User,
        };
        ChatMessage::new(role, memory.text.clone())
    };
    recall.conversation.iter().map(turn).collect()
}

fn request(messages: Vec<ChatMessage>, sampling: Sampling) -> ReasonRequest {
    ReasonRequest {
        model: None,
        messages,
        tools: Vec::new(),
        constraint: None,
        sampling,
        continue_from: None,
        stream: false,
        deadline_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn only_what_is_too_long_is_shortened_and_never_within_a_character() {
        assert_eq!(shorten("Hello", 5), "Hello");
        assert_eq!(shorten("Hello", 100), "Hello");
        assert_eq!(shorten("Hello", 4), "Hell");
        assert_eq!(shorten("süß", 2), "s");
    }
}
