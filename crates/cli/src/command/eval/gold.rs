//! Sets of requests, their tools, and plans in the form in which they are judged.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use kamil_protocol::{
    reason::{ChatMessage, Speaker},
    task::{StepSpec, TaskRequest},
    tool::{SideEffect, ToolDescriptor},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// One request of a set.
pub(super) struct Item {
    pub(super) id: String,
    pub(super) messages: Vec<ChatMessage>,
    pub(super) tools: Vec<ToolDescriptor>,
    /// The tools as the set gives them.
    pub(super) written_tools: Vec<Value>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    request: String,
    #[serde(default)]
    messages: Vec<Turn>,
    tools: Vec<Value>,
}

#[derive(Deserialize)]
struct Turn {
    role: Speaker,
    content: Value,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Value,
    /// Name and meaning of each field of the result.
    #[serde(default)]
    outputs: Map<String, Value>,
}

/// Reads the first items of a set, a JSON document a line.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<Item>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let mut items = Vec::new();
    for (number, line) in BufReader::new(File::open(path).map_err(unreadable)?).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        if items.len() == limit {
            break;
        }
        let item = item(&line).map_err(|error| {
            let place = format!("{}, line {}: {error}", path.display(), number + 1);
            Failure::usage(place)
                .next("every line is an object with `id`, `request`, `tools`, and perhaps `messages`")
        })?;
        items.push(item);
    }
    if items.is_empty() {
        return Err(Failure::usage(format!("{} holds no items", path.display())));
    }
    Ok(items)
}

fn item(line: &str) -> Result<Item, serde_json::Error> {
    let Line { id, request, messages, tools } = serde_json::from_str(line)?;
    let mut turns: Vec<ChatMessage> = messages
        .into_iter()
        .map(|turn| {
            let text = turn.content.as_str().map_or_else(|| turn.content.to_string(), str::to_owned);
            ChatMessage::new(turn.role, text)
        })
        .collect();
    if turns.is_empty() {
        turns.push(ChatMessage::new(Speaker::User, request));
    }
    let described = tools.iter().map(|tool| Tool::deserialize(tool).map(Tool::described));
    Ok(Item { id, messages: turns, tools: described.collect::<Result<_, _>>()?, written_tools: tools })
}

impl Tool {
    fn described(self) -> ToolDescriptor {
        let fields = self.outputs.into_iter().map(|(name, about)| (name, json!({"description": about})));
        // What a tool changes is not told. One that promises a result is called for it, any other for its effect.
        let side_effect = if fields.len() == 0 { SideEffect::External } else { SideEffect::Read };
        ToolDescriptor {
            name: self.name,
            description: self.description,
            arguments: self.parameters,
            result: json!({"type": "object", "properties": fields.collect::<Map<_, _>>()}),
            side_effect,
            idempotent: false,
            timeout_ms: 1_000,
            examples: Vec::new(),
        }
    }
}

impl Item {
    /// The last thing that the person said, with all else as the conversation.
    pub(super) fn request(&self) -> TaskRequest {
        let last = self.messages.iter().rposition(|turn| turn.role == Speaker::User);
        let input = last.and_then(|at| self.messages.get(at)).map(|turn| turn.content.clone());
        let mut history = self.messages.clone();
        // What came after the last request answers it in part, so it needs the request before it.
        if last.is_some_and(|at| at + 1 == history.len()) {
            history.pop();
        }
        TaskRequest { input: input.unwrap_or_default(), history, ..TaskRequest::default() }
    }
}

/// The steps that the inputs refer to, each once.
pub(super) fn sources(inputs: &Map<String, Value>) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => match members.get("$from").and_then(Value::as_str) {
                Some(step) if !found.iter().any(|known| known == step) => found.push(step.to_owned()),
                Some(_) => {}
                None => members.values().for_each(|member| walk(member, found)),
            },
            Value::Array(members) => members.iter().for_each(|member| walk(member, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    inputs.values().for_each(|value| walk(value, &mut found));
    found
}

/// Nodes and edges; a reference is written `$step.field$`.
pub(super) fn graph(steps: &[&StepSpec]) -> Map<String, Value> {
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    for step in steps {
        let inputs: Map<String, Value> =
            step.inputs.iter().map(|(name, value)| (name.clone(), written(value))).collect();
        nodes.push(json!({"id": step.id, "tool": step.tool, "args": inputs}));
        let mut before = sources(&step.inputs);
        before.extend(step.depends_on.iter().map(ToString::to_string));
        before.sort_unstable();
        before.dedup();
        edges.extend(before.into_iter().map(|earlier| json!([earlier, step.id])));
    }
    [("nodes".to_owned(), Value::Array(nodes)), ("edges".to_owned(), Value::Array(edges))]
        .into_iter()
        .collect()
}

fn written(value: &Value) -> Value {
    match value {
        Value::Object(members) => match members.get("$from").and_then(Value::as_str) {
            Some(step) => {
                let path = members.get("path").and_then(Value::as_str).unwrap_or_default();
                let field = path.trim_start_matches('/').replace('/', ".");
                Value::String(if field.is_empty() {
                    format!("${step}$")
                } else {
                    format!("${step}.{field}$")
                })
            }
            None => members.iter().map(|(name, member)| (name.clone(), written(member))).collect(),
        },
        Value::Array(members) => members.iter().map(written).collect(),
        other => other.clone(),
    }
}

/// Whether every call names a tool and fits its schema, as far as its arguments are known before anything has run.
pub(super) fn all_valid(tools: &[ToolDescriptor], steps: &[&StepSpec]) -> bool {
    let owned: Vec<StepSpec> = steps.iter().map(|step| (*step).clone()).collect();
    kamil_orchestrator::planner::fits_tools(&owned, tools)
}
