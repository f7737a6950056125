//! What an approval and an idempotency key are bound to: the tool and its exact arguments.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 over the canonical JSON of `{"arguments": …, "tool": …}`, as 64 hexadecimal digits. Canonical: members
/// sorted by the bytes of their names, no white space, so that the order in which a caller wrote them does not count
/// and everything else does.
pub(crate) fn of_call(tool: &str, arguments: &Value) -> String {
    let mut text = String::from("{\"arguments\":");
    write(arguments, &mut text);
    text.push_str(",\"tool\":");
    text.push_str(&Value::from(tool).to_string());
    text.push('}');
    hex::encode(Sha256::digest(text.as_bytes()))
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
    use serde_json::json;

    use super::of_call;

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
}
