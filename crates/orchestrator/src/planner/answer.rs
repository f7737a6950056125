//! Prompts of `answer` and `reason` steps.

use kamil_protocol::{
    reason::{ChatMessage, Constraint, ReasonRequest, Sampling, Speaker},
    task::{StepKind, StepSpec, StepStatus},
};
use serde_json::Value;

use super::{Context, MAX_RESULT_BYTES, StepResult, conversation, passages, request, shorten};

/// The request for the reply to the person.
#[must_use]
pub fn answer_request(ctx: &Context<'_>, results: &[StepResult<'_>]) -> ReasonRequest {
    let mut messages = Vec::new();
    if !ctx.request.direct {
        messages.push(ChatMessage::new(Speaker::System, system(ctx, results)));
    }
    messages.extend(conversation(ctx));
    messages.push(ChatMessage::new(Speaker::User, ctx.request.input.clone()));
    let mut reason = request(messages, ctx.request.sampling.clone().unwrap_or_default());
    reason.constraint = ctx.request.answer_schema.clone().map(|schema| Constraint::JsonSchema { schema });
    reason
}

fn system(ctx: &Context<'_>, results: &[StepResult<'_>]) -> String {
    let mut system =
        format!("You are Kamil, a private assistant. Now: {}. Answer briefly and truthfully.", ctx.now);
    if let Some(recall) = ctx.recall.filter(|recall| !recall.hits.is_empty()) {
        system.push_str("\nWhat memory knows:\n");
        system.push_str(&passages(recall));
    }
    let done: Vec<_> = results
        .iter()
        .filter(|result| matches!(result.spec.kind, StepKind::Tool | StepKind::Reason))
        .collect();
    if !done.is_empty() {
        system.push_str("\nSteps that were run for this request; say nothing was done that is not here:\n");
    }
    for result in done {
        let what = result.spec.tool.as_deref().unwrap_or("reasoning");
        let outcome = match (result.status, result.output, result.error) {
            (StepStatus::Succeeded, Some(output), _) => format!("result {output}"),
            (_, _, Some(error)) => format!("FAILED: {}", error.detail),
            _ => "did not run".to_owned(),
        };
        system.push_str(&format!("- {} ({what}): {}\n", result.spec.id, shorten(&outcome, MAX_RESULT_BYTES)));
    }
    system
}

/// The request of a `reason` step; `inputs` has its references resolved.
#[must_use]
pub fn reason_request(ctx: &Context<'_>, spec: &StepSpec, inputs: &Value) -> ReasonRequest {
    let instruction = inputs.get("instruction").and_then(Value::as_str).unwrap_or(&ctx.request.input);
    let mut material = String::new();
    for (name, value) in inputs.as_object().into_iter().flatten().filter(|(name, _)| *name != "instruction") {
        material.push_str(&format!("{name}: {}\n", shorten(&value.to_string(), MAX_RESULT_BYTES)));
    }
    let system = format!("You work out one step, `{}`, of a larger task. Give the result only.", spec.id);
    let messages = vec![
        ChatMessage::new(Speaker::System, system),
        ChatMessage::new(Speaker::User, format!("{instruction}\n\n{material}")),
    ];
    request(messages, Sampling::default())
}
