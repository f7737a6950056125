//! The grammar of plans, in the Lark dialect of llguidance: only calls that some registered tool would accept can be written.

use std::fmt::Write as _;

use serde_json::Value;

use super::signature::{Shape, Signature};

/// A grammar for plans of at most `most_steps` steps over these tools, and of at least one if `must_call`.
pub(super) fn plan_grammar(signatures: &[Signature<'_>], most_steps: usize, must_call: bool) -> String {
    let mut grammar = String::from("start: step1\n");
    for step in 1..=most_steps {
        let end = if step == 1 && must_call { "" } else { "\"answer\" | " };
        let next = step + 1;
        line(&mut grammar, format_args!("step{step}: {end}\"s{step} = \" call \"\\n\" step{next}"));
    }
    line(&mut grammar, format_args!("step{}: \"answer\"", most_steps + 1));
    let mut calls = vec!["reason".to_owned()];
    for (number, signature) in signatures.iter().enumerate() {
        calls.push(format!("call{number}"));
        call(&mut grammar, number, signature);
    }
    line(&mut grammar, format_args!("call: {}", calls.join(" | ")));
    grammar.push_str(FIXED);
    grammar
}

// Inside a text only escapes that JSON knows can be written, so that what is written can be read.
const FIXED: &str = concat!(
    "reason: \"reason(task=\" TEXT (\", about=\" about)? \")\"\n",
    "about: REFERENCE | \"[\" REFERENCE (\", \" REFERENCE)* \"]\"\n",
    "text: TEXT | REFERENCE\n",
    r#"TEXT: /"([^"\\\x00-\x1f]|\\["\\\/nt])*"/"#,
    "\n",
    r"REFERENCE: /s[1-9](\.[a-z][a-z0-9_]*)?/",
    "\n",
);

fn call(grammar: &mut String, number: usize, signature: &Signature<'_>) {
    let mut values = Vec::new();
    for (position, argument) in signature.arguments.iter().enumerate() {
        let value = match &argument.shape {
            Shape::Text => "text".to_owned(),
            Shape::OneOf(options) => {
                let options: Vec<String> =
                    options.iter().map(|option| literal(&Value::from(*option).to_string())).collect();
                format!("({} | REFERENCE)", options.join(" | "))
            }
            Shape::Json => {
                let rule = format!("json{number}x{position}");
                line(grammar, format_args!("{rule}: %json {}", argument.standalone_schema(signature.tool)));
                format!("({rule} | REFERENCE)")
            }
        };
        values.push(format!("{} {value}", literal(&format!("{}=", argument.name))));
    }
    let required = signature.arguments.iter().filter(|argument| argument.required).count();
    let mut body = values[..required].join(" \", \" ");
    let optional = &values[required..];
    if required > 0 {
        for value in optional {
            let _ = write!(body, " (\", \" {value})?");
        }
    } else if !optional.is_empty() {
        // Any of them may be the first, and those after it may follow.
        let starts: Vec<String> = (0..optional.len())
            .map(|first| {
                let following: String =
                    optional[first + 1..].iter().map(|value| format!(" (\", \" {value})?")).collect();
                format!("{}{following}", optional[first])
            })
            .collect();
        body = format!("({})?", starts.join(" | "));
    }
    let open = literal(&format!("{}(", signature.tool.name));
    line(grammar, format_args!("call{number}: {open} {body} \")\""));
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

fn line(grammar: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(grammar, "{text}");
}
