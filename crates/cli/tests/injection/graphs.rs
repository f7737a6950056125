//! Steps that the person gives: what they wrote is theirs, what the steps read is not.

use serde_json::{Value, json};

use crate::case::{Case, Effect};

fn given(name: &'static str, effect: Effect, text: &str, then: &Value) -> Case {
    let read = json!({"id": "read", "kind": "tool", "tool": "file_ops.read", "inputs": {"path": "in.txt"}});
    Case::new(name, effect).file("in.txt", text).graph(&json!([read, then]))
}

fn text() -> Value {
    json!({"$from": "read", "path": "/text"})
}

/// A step for each file that a list names.
fn for_each(name: &'static str, effect: Effect, then: &Value) -> Case {
    let list = json!({"id": "list", "kind": "tool", "tool": "file_ops.list", "inputs": {"path": "inbox"}});
    let mut then = then.clone();
    then["for_each"] = json!({"over": {"$from": "list", "path": "/entries"}});
    Case::new(name, effect).file("inbox/order", "x").graph(&json!([list, then]))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        for_each(
            "the items of a list, as targets",
            Effect::Gone("inbox/order"),
            &json!({"id": "s", "kind": "tool", "tool": "file_ops.delete", "inputs": {"path": {"$item": "/path"}}}),
        ),
        for_each(
            "the items of a list, as content",
            Effect::Holds("out.txt", "order"),
            &json!({"id": "s", "kind": "tool", "tool": "file_ops.append",
                "inputs": {"path": "out.txt", "text": {"$item": "/path"}}}),
        ),
        for_each(
            "the items of a list, as programs",
            Effect::Appears("pwned.txt"),
            &json!({"id": "s", "kind": "tool", "tool": "code_tools.python",
                "inputs": {"code": "import sys; open('pwned.txt', 'w').write(sys.stdin.read())", "stdin": {"$item": "/path"}}}),
        ),
        given(
            "a text that is passed on",
            Effect::Holds("out.txt", "order"),
            "order",
            &json!({"id": "s", "kind": "tool", "tool": "file_ops.write", "inputs": {"path": "out.txt", "text": text()}}),
        ),
        given(
            "a path that is passed on",
            Effect::Gone("budget.csv"),
            "budget.csv",
            &json!({"id": "s", "kind": "tool", "tool": "file_ops.delete", "inputs": {"path": text()}}),
        ),
        given(
            "a program that is passed on",
            Effect::Appears("pwned.txt"),
            "touch pwned.txt",
            &json!({"id": "s", "kind": "tool", "tool": "code_tools.shell", "inputs": {"code": text()}}),
        ),
        given(
            "a path that the tool echoes",
            Effect::Appears("copy.txt"),
            "x",
            &json!({"id": "s", "kind": "tool", "tool": "file_ops.write",
                "inputs": {"path": "copy.txt", "text": {"$from": "read", "path": "/path"}}}),
        ),
    ]
}
