//! The plan: its prompt, its grammar, and how it is read.

use kamil_protocol::{
    StepId,
    reason::{ChatMessage, Constraint, ReasonRequest, Sampling, Speaker},
    task::{StepKind, StepSpec},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Context, conversation, passages, request};

const INSTRUCTIONS: &str = "You plan how an assistant answers. Reply with JSON only: {\"steps\":[...]}. \
Each step is {\"id\":\"s1\",\"tool\":NAME,\"inputs\":{...}} for a tool, or \
{\"id\":\"s2\",\"reason\":\"what to work out\",\"inputs\":{...}} for reasoning. A value in inputs may be \
{\"$from\":\"s1\",\"path\":\"/pointer\"} to use an earlier result. Use as few steps as possible; an empty list \
if no tool is needed. The final answer is written afterwards from all results: do not plan it.";

/// The request for a plan; `previous` is a reply that was not valid, and why.
#[must_use]
pub fn plan_request(ctx: &Context<'_>, previous: Option<&(String, String)>) -> ReasonRequest {
    let mut system = String::from(INSTRUCTIONS);
    system.push_str("\n\nTools:\n");
    for tool in ctx.tools {
        system.push_str(&format!("- {}: {} Arguments: {}\n", tool.name, tool.description, tool.arguments));
    }
    if let Some(recall) = ctx.recall.filter(|recall| !recall.hits.is_empty()) {
        system.push_str("\nWhat is known:\n");
        system.push_str(&passages(recall));
    }
    let mut messages = vec![ChatMessage::new(Speaker::System, system)];
    messages.extend(conversation(ctx));
    messages.push(ChatMessage::new(Speaker::User, ctx.request.input.clone()));
    if let Some((reply, error)) = previous {
        messages.push(ChatMessage::new(Speaker::Assistant, reply.clone()));
        messages.push(ChatMessage::new(
            Speaker::User,
            format!("That plan is not valid: {error} Write it again."),
        ));
    }
    let mut reason = request(messages, Sampling { max_tokens: Some(700), ..Sampling::default() });
    reason.constraint = Some(Constraint::JsonSchema { schema: schema(ctx) });
    reason
}

fn schema(ctx: &Context<'_>) -> Value {
    let names: Vec<&str> = ctx.tools.iter().map(|tool| tool.name.as_str()).collect();
    let id = json!({"type": "string", "pattern": "^s[1-9][0-9]?$"});
    json!({
        "type": "object",
        "properties": {"steps": {"type": "array", "maxItems": 8, "items": {"anyOf": [
            {
                "type": "object",
                "properties": {"id": id, "tool": {"enum": names}, "inputs": {"type": "object"}},
                "required": ["id", "tool", "inputs"],
                "additionalProperties": false
            },
            {
                "type": "object",
                "properties": {"id": id, "reason": {"type": "string"}, "inputs": {"type": "object"}},
                "required": ["id", "reason", "inputs"],
                "additionalProperties": false
            }
        ]}}},
        "required": ["steps"],
        "additionalProperties": false
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    steps: Vec<Planned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    id: StepId,
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    specialization: Option<String>,
}

/// Reads a model's reply as steps; an empty list means that no tool is needed.
///
/// # Errors
/// What is wrong with the reply, in words for the model.
pub fn parse_plan(_ctx: &Context<'_>, text: &str) -> Result<Vec<StepSpec>, String> {
    let start = text.find('{').ok_or("the reply has no JSON object.")?;
    let end = text.rfind('}').ok_or("the reply has no complete JSON object.")?;
    let body = text.get(start..=end).ok_or("the reply has no complete JSON object.")?;
    let plan: Plan =
        serde_json::from_str(body).map_err(|error| format!("the JSON cannot be read: {error}."))?;
    plan.steps.into_iter().map(step).collect()
}

fn step(planned: Planned) -> Result<StepSpec, String> {
    let mut inputs = planned.inputs;
    let kind = match (&planned.tool, planned.reason) {
        (Some(_), None) => StepKind::Tool,
        (None, Some(instruction)) => {
            inputs.insert("instruction".to_owned(), Value::String(instruction));
            StepKind::Reason
        }
        _ => return Err(format!("step `{}` needs either `tool` or `reason`.", planned.id)),
    };
    Ok(StepSpec {
        id: planned.id,
        kind,
        tool: planned.tool,
        inputs,
        depends_on: Vec::new(),
        specialization: planned.specialization,
        tolerates_failure: false,
    })
}
