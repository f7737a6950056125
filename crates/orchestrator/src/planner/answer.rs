//! Prompts of `answer` and `reason` steps.

use kamil_protocol::{
    reason::{ChatMessage, Constraint, ReasonRequest, Sampling, Speaker},
    task::{StepKind, StepStatus},
};
use serde_json::Value;

use super::{Context, MAX_RESULT_BYTES, StepResult, conversation, passages, request, shorten};

const ANSWER: &str = "\
You are Kamil, a private assistant that runs on the person's own machines. Reply to the request, briefly and truthfully. \
Where results of steps are given, take every figure from them and cite the step like this: [s1]. \
Never say that something was done unless a result shows it; if a step failed, say so.";

/// The request for the reply to the person.
#[must_use]
pub fn answer_request(ctx: &Context<'_>, results: &[StepResult<'_>]) -> ReasonRequest {
    let mut messages = Vec::new();
    if !ctx.request.direct {
        let today = ctx.now.strftime("%A, %-d %B %Y");
        messages.push(ChatMessage::new(Speaker::System, format!("{ANSWER} Today is {today}.")));
    }
    messages.extend(conversation(ctx));
    messages.push(ChatMessage::new(Speaker::User, question(ctx, results)));
    let mut reason = request(messages, ctx.request.sampling.clone().unwrap_or_default());
    reason.constraint = ctx.request.answer_schema.clone().map(|schema| Constraint::JsonSchema { schema });
    reason
}

fn question(ctx: &Context<'_>, results: &[StepResult<'_>]) -> String {
    let mut text = String::new();
    if let Some(recall) = ctx.recall.filter(|recall| !recall.hits.is_empty()) {
        text.push_str("From your memory:\n");
        text.push_str(&passages(recall, 6, 700));
        text.push('\n');
    }
    let named = |result: &StepResult<'_>| {
        let line = outcome(result, MAX_RESULT_BYTES)?;
        Some(format!("[{}] {line}", result.spec.id))
    };
    let done: Vec<String> = results.iter().filter_map(named).collect();
    if !done.is_empty() {
        text.push_str("Results of the steps that were run for this request:\n");
        text.push_str(&done.concat());
        text.push('\n');
    }
    if text.is_empty() {
        return ctx.request.input.clone();
    }
    format!("{text}Request: {}", ctx.request.input)
}

/// What ran and what came of it, a line; of its output at most so many bytes.
pub(super) fn outcome(result: &StepResult<'_>, most_bytes: usize) -> Option<String> {
    let what = match result.spec.kind {
        StepKind::Tool => format!(
            "{} {}",
            result.spec.tool.as_deref().unwrap_or("tool"),
            Value::Object(result.spec.inputs.clone())
        ),
        StepKind::Reason => "worked out".to_owned(),
        _ => return None,
    };
    let outcome = match (result.status, result.output, result.error) {
        (StepStatus::Succeeded, Some(Value::String(text)), _) => shorten(text, most_bytes).to_owned(),
        (StepStatus::Succeeded, Some(output), _) => shorten(&output.to_string(), most_bytes).to_owned(),
        (_, _, Some(error)) => format!("FAILED: {}", error.detail),
        _ => "was not run".to_owned(),
    };
    Some(format!("{}: {outcome}\n", shorten(&what, 400)))
}

/// The request of a `reason` step; `inputs` has its references resolved.
#[must_use]
pub fn reason_request(ctx: &Context<'_>, inputs: &Value) -> ReasonRequest {
    let instruction = inputs.get("instruction").and_then(Value::as_str).unwrap_or(&ctx.request.input);
    let mut material = String::new();
    for (name, value) in inputs.as_object().into_iter().flatten().filter(|(name, _)| *name != "instruction") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        material.push_str(&format!("{name}: {}\n", shorten(&value, MAX_RESULT_BYTES)));
    }
    let system = "You work out one step of a larger task. Write the result only, without any introduction. Take every figure from what is given.";
    let question =
        if material.is_empty() { instruction.to_owned() } else { format!("{material}\n{instruction}") };
    let messages = vec![ChatMessage::new(Speaker::System, system), ChatMessage::new(Speaker::User, question)];
    request(messages, Sampling::default())
}
