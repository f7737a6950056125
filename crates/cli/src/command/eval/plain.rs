//! The same model without help: one prompt with all tools as JSON, an answer in JSON, no constraint, no check, no second try.

use kamil_node::Client;
use kamil_protocol::{
    Problem,
    reason::Speaker,
    task::{StepKind, StepSpec},
    tool::ToolDescriptor,
};
use serde_json::{Map, Value, json};

use super::gold::Item;
use crate::arguments::EvalSubject;

const MAX_TOKENS: u32 = 600;

const CALLS: &str = "Decide which of these functions to call for the user's request. Reply with a JSON array of calls and nothing else: \
[{\"name\": \"function\", \"arguments\": {\"name\": value}}]. Reply with [] if no function fits.";

const PLAN: &str = "Plan which of these functions to call for the user's request, and in which order. Reply with a JSON array of calls and \
nothing else: [{\"id\": \"s1\", \"name\": \"function\", \"arguments\": {\"name\": value}}]. A value that an earlier call returns is written \
as \"$s1.field$\".";

pub(super) async fn predict(
    client: &Client,
    model: &str,
    subject: &EvalSubject,
    item: &Item,
) -> Result<Map<String, Value>, Problem> {
    let body = json!({"model": model, "messages": messages(subject, item), "max_tokens": MAX_TOKENS, "temperature": 0});
    let reply: Value = client.post("/v1/chat/completions", &body).await?;
    let text = reply.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default();
    let calls = read(text);
    let mut prediction = Map::new();
    match subject {
        EvalSubject::Tools(_) => {
            let calls = calls.iter().map(|call| json!({"name": call.name, "args": call.arguments}));
            prediction.insert("calls".to_owned(), calls.collect());
        }
        EvalSubject::Plans(_) => {
            let node = |(number, call): (usize, &Call)| {
                let id = call.id.clone().unwrap_or_else(|| format!("s{}", number + 1));
                json!({"id": id, "tool": call.name, "args": call.arguments})
            };
            prediction.insert("nodes".to_owned(), calls.iter().enumerate().map(node).collect());
        }
    }
    let valid = calls.iter().all(|call| fits(call, &item.tools));
    prediction.insert("valid".to_owned(), json!(valid));
    prediction.insert("text".to_owned(), json!(text));
    let usage = reply.get("usage");
    for (name, field) in [("tokens_in", "prompt_tokens"), ("tokens_out", "completion_tokens")] {
        prediction
            .insert(name.to_owned(), usage.and_then(|usage| usage.get(field)).cloned().unwrap_or_default());
    }
    Ok(prediction)
}

/// Whether a call fits its tool's schema. What an earlier call returns is not known yet, so it may be anything.
fn fits(call: &Call, tools: &[ToolDescriptor]) -> bool {
    let Some(mut tool) = tools.iter().find(|tool| tool.name == call.name).cloned() else { return false };
    let refers = |value: &Value| {
        value.as_str().is_some_and(|text| text.len() > 2 && text.starts_with('$') && text.ends_with('$'))
    };
    let (later, inputs): (Map<_, _>, Map<_, _>) =
        call.arguments.clone().into_iter().partition(|(_, value)| refers(value));
    if let Some(required) = tool.arguments.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|name| !later.contains_key(name)));
    }
    let Ok(id) = "s1".parse() else { return false };
    let step = StepSpec { tool: Some(call.name.clone()), inputs, ..StepSpec::new(id, StepKind::Tool) };
    kamil_orchestrator::planner::fits_tools(&[step], &[tool])
}

fn messages(subject: &EvalSubject, item: &Item) -> Vec<Value> {
    let task = match subject {
        EvalSubject::Tools(_) => CALLS,
        EvalSubject::Plans(_) => PLAN,
    };
    let functions = Value::from(item.written_tools.clone());
    let mut messages =
        vec![json!({"role": "system", "content": format!("Functions:\n{functions}\n\n{task}")})];
    let role = |speaker: Speaker| match speaker {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
        Speaker::Tool => "tool",
    };
    messages
        .extend(item.messages.iter().map(|turn| json!({"role": role(turn.role), "content": turn.content})));
    if item.messages.last().is_none_or(|turn| turn.role != Speaker::User) {
        messages.push(json!({"role": "user", "content": "Reply with the JSON array of the next call."}));
    }
    messages
}

struct Call {
    id: Option<String>,
    name: String,
    arguments: Map<String, Value>,
}

/// The calls in a reply: the first JSON array or object that it holds, whatever stands around it.
fn read(text: &str) -> Vec<Call> {
    let starts = text.char_indices().filter(|(_, c)| matches!(c, '[' | '{'));
    for (at, _) in starts {
        let rest = text.get(at..).unwrap_or_default();
        let Some(Ok(value)) = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next() else {
            continue;
        };
        let written = match value {
            Value::Array(calls) => calls,
            call @ Value::Object(_) => vec![call],
            _ => continue,
        };
        return written.iter().filter_map(call).collect();
    }
    Vec::new()
}

fn call(value: &Value) -> Option<Call> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let arguments = ["arguments", "args", "parameters"].iter().find_map(|name| value.get(name)?.as_object());
    Some(Call { id: text("id"), name: text("name")?, arguments: arguments.cloned().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_whatever_stands_around_them() {
        let names = |text: &str| read(text).into_iter().map(|call| call.name).collect::<Vec<_>>();
        assert_eq!(
            names("```json\n[{\"name\": \"a\", \"arguments\": {\"x\": 1}}, {\"name\": \"b\"}]\n```"),
            ["a", "b"]
        );
        assert_eq!(names("Sure: {\"name\": \"a\", \"arguments\": {}}"), ["a"]);
        assert_eq!(names("[]"), [""; 0]);
        assert_eq!(names("I cannot [do that]."), [""; 0]);
    }
}
