use kamil_plan::graph::{Author, MAX_DEPTH, validate};
use kamil_protocol::{
    ErrorCode,
    task::{StepKind, StepSpec},
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::json;

use crate::{inputs, spec};

fn tools() -> Vec<ToolDescriptor> {
    vec![ToolDescriptor {
        name: "calc.evaluate".to_owned(),
        description: String::new(),
        arguments: json!({"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}),
        result: json!({}),
        side_effect: SideEffect::Pure,
        idempotent: true,
        timeout_ms: 1_000,
        examples: Vec::new(),
    }]
}

fn calc(name: &str, expression: &serde_json::Value) -> StepSpec {
    StepSpec { inputs: inputs(&json!({"expression": expression})), ..spec(name, StepKind::Tool, &[]) }
}

fn refused(added: &[StepSpec]) -> (ErrorCode, String) {
    let error = validate(Author::Planner, &[], added, &tools()).unwrap_err();
    (error.code, error.detail)
}

#[test]
fn a_good_plan_passes() {
    let plan = [calc("s1", &json!("1+1")), calc("s2", &json!({"$from": "s1", "path": "/value"}))];
    assert_eq!(validate(Author::Planner, &[], &plan, &tools()), Ok(()));
    let answer = spec("answer", StepKind::Answer, &["s2"]);
    let existing: Vec<_> = plan.iter().collect();
    assert_eq!(validate(Author::Person, &existing, &[answer], &tools()), Ok(()));
}

#[test]
fn each_fault_is_named_with_its_step() {
    let (code, detail) = refused(&[calc("s1", &json!("1")), calc("s1", &json!("2"))]);
    assert!(code == ErrorCode::PlanInvalid && detail.contains("`s1`"), "{detail}");
    let (_, detail) = refused(&[calc("s1", &json!({"$from": "s9"}))]);
    assert!(detail.contains("`s1`") && detail.contains("`s9`"), "{detail}");
    let (code, detail) = refused(&[calc("s1", &json!(4))]);
    assert!(code == ErrorCode::InvalidArguments && detail.contains("expression"), "{detail}");
    let mut unknown = calc("s1", &json!("1"));
    unknown.tool = Some("calc.integrate".to_owned());
    let (code, detail) = refused(&[unknown]);
    assert!(code == ErrorCode::ToolUnknown && detail.contains("there are: calc.evaluate"), "{detail}");
    let (_, detail) = refused(&[spec("recall", StepKind::Reason, &[])]);
    assert!(detail.contains("Kamil's own"), "{detail}");
    let (_, detail) = refused(&[spec("s1", StepKind::Answer, &[])]);
    assert!(detail.contains("kind"), "{detail}");
    let (_, detail) = refused(&[calc("s1", &json!({"$from": "s1", "pointer": "/x"}))]);
    assert!(detail.contains("`pointer`"), "{detail}");
}

#[test]
fn a_circle_is_shown() {
    let plan = [
        spec("free", StepKind::Reason, &[]),
        spec("a", StepKind::Reason, &["c", "free"]),
        spec("b", StepKind::Reason, &["a"]),
        spec("c", StepKind::Reason, &["b"]),
        spec("d", StepKind::Reason, &["c"]),
    ];
    let (code, detail) = refused(&plan);
    assert_eq!(code, ErrorCode::PlanInvalid);
    assert!(detail.contains("`a` → `c` → `b` → `a`"), "{detail}");
    let (_, detail) = refused(&[spec("a", StepKind::Reason, &["a"])]);
    assert!(detail.contains("`a` → `a`"), "{detail}");
}

#[test]
fn bounds_hold() {
    let many: Vec<_> = (0..65).map(|n| spec(&format!("s{n}"), StepKind::Reason, &[])).collect();
    assert!(refused(&many).1.contains("65"));
    let chain: Vec<_> = (0..=MAX_DEPTH)
        .map(|n| match n {
            0 => spec("s0", StepKind::Reason, &[]),
            _ => spec(&format!("s{n}"), StepKind::Reason, &[&format!("s{}", n - 1)]),
        })
        .collect();
    assert!(refused(&chain).1.contains("chain"));
    assert_eq!(validate(Author::Planner, &[], &chain[..MAX_DEPTH], &[]), Ok(()));
}

#[test]
fn nothing_but_remember_follows_the_answer() {
    let answer = spec("answer", StepKind::Answer, &[]);
    let late = [answer.clone(), spec("s1", StepKind::Reason, &["answer"])];
    assert!(validate(Author::Person, &[], &late, &[]).unwrap_err().detail.contains("after `answer`"));
    let kept = [answer.clone(), spec("remember", StepKind::Remember, &["answer"])];
    assert_eq!(validate(Author::Person, &[], &kept, &[]), Ok(()));
    let two = [answer, spec("second", StepKind::Answer, &[])];
    assert!(validate(Author::Person, &[], &two, &[]).unwrap_err().detail.contains("both answers"));
}
