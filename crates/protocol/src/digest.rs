//! Digests that more than one crate must agree on.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::task::StepSpec;

/// What an approval and an idempotency key are bound to, the tool and its exact arguments: SHA-256 over the canonical JSON of
/// `{"arguments": …, "tool": …}`, as 64 hexadecimal digits. Canonical: members sorted by the bytes of their names, no white
/// space, so that the order in which a caller wrote them does not count and everything else does.
#[must_use]
pub fn of_call(tool: &str, arguments: &Value) -> String {
    let mut text = String::from("{\"arguments\":");
    write(arguments, &mut text);
    text.push_str(",\"tool\":");
    text.push_str(&Value::from(tool).to_string());
    text.push('}');
    hexadecimal(&text)
}

/// What a plan is known by: SHA-256 over the canonical JSON of its steps, as 64 hexadecimal digits.
#[must_use]
pub fn of_steps(steps: &[StepSpec]) -> String {
    let mut text = String::new();
    // Steps are made of names, texts and JSON values: all of them can be written.
    write(&steps.serialize(serde_json::value::Serializer).unwrap_or_default(), &mut text);
    hexadecimal(&text)
}

fn hexadecimal(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(&members[name], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::{of_call, of_steps};

    #[test]
    fn the_order_of_members_does_not_count_and_everything_else_does() {
        let one = of_call("a.b", &json!({"x": 1, "y": [{"p": "q", "r": null}]}));
        assert_eq!(one, of_call("a.b", &json!({"y": [{"r": null, "p": "q"}], "x": 1})));
        assert_eq!(one.len(), 64);
        for other in
            [json!({"x": 2, "y": [{"p": "q", "r": null}]}), json!({"x": 1, "y": [{"p": "Q", "r": null}]})]
        {
            assert_ne!(one, of_call("a.b", &other));
        }
        assert_ne!(one, of_call("a.c", &json!({"x": 1, "y": [{"p": "q", "r": null}]})));
    }

    #[test]
    fn another_argument_makes_another_plan() {
        let plan = |path: &str| {
            let steps =
                json!([{"id": "s1", "kind": "tool", "tool": "file_ops.read", "inputs": {"path": path}}]);
            of_steps(&serde_json::from_value::<Vec<_>>(steps).unwrap())
        };
        assert_eq!(plan("a"), plan("a"));
        assert_ne!(plan("a"), plan("b"));
    }
}
