//! What a constraint promises holds for every output.

use kamil_inference::{Constraint, Finish, InferenceError, Message};
use serde_json::{Value, json};

use crate::models::{question, small};

/// Schemas whose every output is bounded, so that a small model cannot run on forever inside a string.
fn schemas() -> Vec<Value> {
    let word = json!({"type": "string", "maxLength": 12});
    vec![
        json!({"type": "object", "properties": {"name": word, "ok": {"type": "boolean"}},
            "required": ["name", "ok"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 4}),
        json!({"enum": ["red", "green", "blue"]}),
        json!({"type": "object", "properties": {"step": {"const": "calculate"}, "arguments": {"type": "object",
            "properties": {"expression": word, "precision": {"enum": [1, 2, 3]}},
            "required": ["expression", "precision"], "additionalProperties": false}},
            "required": ["step", "arguments"], "additionalProperties": false}),
        json!({"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "boolean"}},
            "required": ["x"], "additionalProperties": false}]}),
    ]
}

#[test]
fn outputs_parse_and_validate() {
    let generator = small();
    for (index, schema) in schemas().into_iter().enumerate() {
        for temperature in [0.0, 1.5] {
            let mut request = question("Answer in JSON about a cat.", 200);
            request.constraint = Some(Constraint::JsonSchema(schema.clone()));
            request.temperature = temperature;
            request.seed = 11;
            let answer = generator.generate(&request).unwrap().blocking_collect().unwrap();
            assert_eq!(answer.usage.finish, Finish::Stop, "schema {index}: {}", answer.text);
            let value: Value = serde_json::from_str(&answer.text).unwrap();
            assert!(jsonschema::is_valid(&schema, &value), "schema {index}: {}", answer.text);
        }
    }
}

#[test]
fn what_leaves_no_choice_is_forced_not_sampled() {
    let generator = small();
    let mut request = question("Plan the next step.", 200);
    request.constraint = Some(Constraint::JsonSchema(schemas().remove(3)));
    let usage = generator.generate(&request).unwrap().blocking_collect().unwrap().usage;
    // `{"step":"calculate","arguments":{"expression":"`, the keys after the first value, the closing braces.
    assert!(usage.tokens_forced >= 12, "{usage:?}");
    assert!(usage.tokens_forced < usage.tokens_out, "{usage:?}");

    request.constraint = Some(Constraint::JsonSchema(json!({"const": "there is only one thing to say"})));
    let only = generator.generate(&request).unwrap().blocking_collect().unwrap();
    assert_eq!(only.text, "\"there is only one thing to say\"");
    assert!(only.usage.tokens_out - only.usage.tokens_forced <= 2, "{:?}", only.usage);
}

#[test]
fn regular_expressions_and_grammars_hold() {
    let generator = small();
    let mut request = question("When was the bridge built?", 60);
    request.constraint = Some(Constraint::Regex(r"[12][0-9]{3}-[01][0-9]".to_owned()));
    let date = generator.generate(&request).unwrap().blocking_collect().unwrap().text;
    assert!(date.len() == 7 && date.as_bytes()[4] == b'-', "{date}");
    request.constraint = Some(Constraint::Grammar("start: (\"yes\" | \"no\") \"!\"".to_owned()));
    let word = generator.generate(&request).unwrap().blocking_collect().unwrap().text;
    assert!(word == "yes!" || word == "no!", "{word}");
}

#[test]
fn a_broken_output_is_continued_within_its_constraint() {
    let generator = small();
    let schema = schemas().remove(0);
    let mut request = question("Answer in JSON about a cat.", 100);
    request.constraint = Some(Constraint::JsonSchema(schema.clone()));
    request.continue_from = Some("{\"name\":\"Tom".to_owned());
    let rest = generator.generate(&request).unwrap().blocking_collect().unwrap().text;
    let value: Value = serde_json::from_str(&format!("{{\"name\":\"Tom{rest}")).unwrap();
    assert!(jsonschema::is_valid(&schema, &value), "{value}");
    request.continue_from = Some("[1".to_owned());
    assert!(matches!(generator.generate(&request), Err(InferenceError::Constraint { .. })));
}

#[test]
fn impossible_constraints_are_refused_before_anything_runs() {
    let generator = small();
    let mut request = question("x", 10);
    for constraint in [
        Constraint::JsonSchema(json!({"type": "nonsense"})),
        Constraint::Grammar("start: (".to_owned()),
        Constraint::Regex("(".to_owned()),
    ] {
        request.constraint = Some(constraint);
        assert!(matches!(generator.generate(&request), Err(InferenceError::Constraint { .. })));
    }
    request.constraint = None;
    request.messages = vec![Message::user("hi")];
    assert!(generator.generate(&request).unwrap().blocking_collect().is_ok());
}
