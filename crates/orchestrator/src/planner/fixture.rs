//! A few tools for the planner's tests.

use jiff::Timestamp;
use kamil_protocol::{
    task::TaskRequest,
    tool::{SideEffect, ToolDescriptor, ToolExample},
};
use serde_json::{Value, json};

use super::Context;

pub(super) fn tools() -> Vec<ToolDescriptor> {
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
    let text = || json!({"type": "string"});
    let tool = |name: &str,
                description: &str,
                arguments: Value,
                result: Value,
                side_effect,
                request: &str,
                example: Value| ToolDescriptor {
        name: name.to_owned(),
        description: description.to_owned(),
        arguments,
        result,
        side_effect,
        idempotent: false,
        timeout_ms: 1_000,
        examples: vec![ToolExample { request: request.to_owned(), arguments: example }],
    };
    vec![
        tool(
            "file_ops.read",
            "Read a text file of the workspace.",
            object(
                json!({"path": text(), "offset": {"type": "integer", "default": 0, "description": "First byte to read."}}),
                json!(["path"]),
            ),
            object(json!({"path": text(), "text": text()}), json!([])),
            SideEffect::Read,
            "What does notes.txt say?",
            json!({"path": "notes.txt"}),
        ),
        tool(
            "file_ops.write",
            "Write a text file in the workspace, whole.",
            object(json!({"path": text(), "text": text()}), json!(["path", "text"])),
            object(json!({"path": text(), "bytes": {"type": "integer"}}), json!([])),
            SideEffect::Write,
            "Save \"buy milk\" to todo.txt",
            json!({"path": "todo.txt", "text": "buy milk\n"}),
        ),
        tool(
            "ml_tools.train",
            "Train a small classifier, test it, save it.",
            object(
                json!({"dataset": {"type": "string", "default": "iris"}, "model": {"enum": ["decision_tree", "logistic_regression"]},
                    "seed": {"type": "integer"}}),
                json!([]),
            ),
            object(json!({"accuracy": {"type": "number"}}), json!([])),
            SideEffect::Write,
            "Train a model on the iris flowers",
            json!({"dataset": "iris", "model": "decision_tree"}),
        ),
        tool(
            "calc.evaluate",
            "Calculate exactly: arithmetic, percentages, units.",
            object(json!({"expression": text()}), json!(["expression"])),
            object(json!({"result": text()}), json!([])),
            SideEffect::Pure,
            "What is 17.5% of 240?",
            json!({"expression": "17.5% of 240"}),
        ),
    ]
}

pub(super) fn asking(input: &str) -> TaskRequest {
    TaskRequest { input: input.to_owned(), ..TaskRequest::default() }
}

pub(super) fn context<'a>(request: &'a TaskRequest, tools: &'a [ToolDescriptor]) -> Context<'a> {
    Context { request, tools, recall: None, results: &[], now: Timestamp::UNIX_EPOCH }
}
