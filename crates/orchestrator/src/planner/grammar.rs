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
        // The first step has nothing to refer to.
        let call = if step == 1 { "first" } else { "call" };
        let flow = if step == 1 { "" } else { " over? on?" };
        line(&mut grammar, format_args!("step{step}: {end}\"s{step} = \" {call}{flow} \"\\n\" step{next}"));
    }
    line(&mut grammar, format_args!("step{}: \"answer\"", most_steps + 1));
    let (mut firsts, mut calls) = (vec!["write".to_owned()], vec!["reason".to_owned()]);
    for (number, signature) in signatures.iter().enumerate() {
        firsts.push(format!("first{number}"));
        calls.push(format!("call{number}"));
        call(&mut grammar, number, signature);
    }
    line(&mut grammar, format_args!("first: {}", firsts.join(" | ")));
    line(&mut grammar, format_args!("call: {}", calls.join(" | ")));
    grammar.push_str(FIXED);
    grammar
}

// Inside a text only escapes that JSON knows can be written, so that what is written can be read.
const FIXED: &str = concat!(
    "write: \"reason(task=\" TEXT \")\"\n",
    "reason: \"reason(task=\" TEXT (\", about=\" about)? \")\"\n",
    "over: \" for \" STEP\n",
    "on: \" if \" STEP (\" exists\" | (\" == \" | \" != \" | \" contains \") (TEXT | NUMBER) | (\" > \" | \" < \") NUMBER)\n",
    r"NUMBER: /-?[0-9]{1,15}(\.[0-9]{1,15})?/",
    "\n",
    r"STEP: /s[1-9](\.[a-zA-Z_][a-zA-Z0-9_]*)?/",
    "\n",
    "about: REFERENCE | \"[\" REFERENCE (\", \" REFERENCE)* \"]\"\n",
    r#"TEXT: /"([^"\\\x00-\x1f]|\\["\\\/nt])*"/"#,
    "\n",
    r"REFERENCE: /(s[1-9]|item)(\.[a-zA-Z_][a-zA-Z0-9_]*)?/",
    "\n",
);

fn call(grammar: &mut String, number: usize, signature: &Signature<'_>) {
    let mut values = Vec::new();
    for (position, argument) in signature.arguments.iter().enumerate() {
        let value = match &argument.shape {
            Shape::Text => "TEXT".to_owned(),
            Shape::OneOf(options) => {
                let options: Vec<String> =
                    options.iter().map(|option| literal(&Value::from(*option).to_string())).collect();
                options.join(" | ")
            }
            Shape::Json => {
                let rule = format!("json{number}x{position}");
                line(grammar, format_args!("{rule}: %json {}", argument.standalone_schema(signature.tool)));
                rule
            }
        };
        values.push((literal(&format!("{}=", argument.name)), value));
    }
    let required = signature.arguments.iter().filter(|argument| argument.required).count();
    let open = literal(&format!("{}(", signature.tool.name));
    for (kind, or_reference) in [("first", ""), ("call", " | REFERENCE")] {
        let values: Vec<String> =
            values.iter().map(|(name, value)| format!("{name} ({value}{or_reference})")).collect();
        let body = arguments(&values, required);
        line(grammar, format_args!("{kind}{number}: {open} {body} \")\""));
    }
}

/// The first ones in their order, then any of the others.
fn arguments(values: &[String], required: usize) -> String {
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
    body
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

fn line(grammar: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(grammar, "{text}");
}
