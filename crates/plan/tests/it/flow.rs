//! Steps that run over a list, and steps that have a condition.

use kamil_plan::{
    Effect, RetryClass, Task,
    graph::{Author, validate},
};
use kamil_protocol::{
    ErrorCode,
    event::TaskEvent,
    task::{Labels, Source, StepKind, StepSpec, StepStatus, TaskStatus, Trust},
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::{Value, json};

use crate::{
    id, inputs,
    machine::{fail, status, succeed, task},
    spec,
};

fn listing() -> StepSpec {
    spec("s1", StepKind::Tool, &[])
}

fn over_files(name: &str, limit: Option<u32>) -> StepSpec {
    let for_each = json!({"over": {"$from": "s1", "path": "/files"}, "limit": limit});
    StepSpec {
        inputs: inputs(&json!({"path": {"$item": "/name"}})),
        for_each: Some(serde_json::from_value(for_each).unwrap()),
        ..spec(name, StepKind::Tool, &[])
    }
}

fn over_results(name: &str) -> StepSpec {
    let for_each = json!({"over": {"$from": "s2"}});
    StepSpec { for_each: Some(serde_json::from_value(for_each).unwrap()), ..over_files(name, None) }
}

fn when(value: &Value) -> Option<kamil_protocol::flow::Condition> {
    Some(serde_json::from_value(value.clone()).unwrap())
}

fn files(names: &[&str]) -> Value {
    json!({"files": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()})
}

fn error(task: &Task, step: &str) -> String {
    task.step(&id(step)).unwrap().error.clone().unwrap().detail
}

#[test]
fn a_list_becomes_one_step_for_each_item_and_their_results_a_list() {
    let mut task = task(vec![listing(), over_files("s2", None), spec("answer", StepKind::Answer, &["s2"])]);
    succeed(&mut task, "s1", files(&["a", "b"]), Vec::new());
    assert_eq!(task.effects(), [Effect::Start(id("s2.1")), Effect::Start(id("s2.2"))]);
    let second = task.step(&id("s2.2")).unwrap();
    assert_eq!(second.cause, Some(id("s2")));
    assert_eq!(Value::Object(task.resolve(second).unwrap()), json!({"path": "b"}));
    succeed(&mut task, "s2.2", json!("B"), Vec::new());
    assert_eq!(status(&task, "s2"), StepStatus::Pending);
    assert!(task.document().steps[1].waiting.as_ref().unwrap().contains("1 of its 2 items"));
    succeed(&mut task, "s2.1", json!({"x": 1}), Vec::new());
    assert_eq!(task.step(&id("s2")).unwrap().output.as_deref(), Some(&json!([{"x": 1}, "B"])));
    assert_eq!(task.effects(), [Effect::Start(id("answer"))]);
    assert!(task.degraded().is_empty());
    succeed(&mut task, "answer", json!("Both."), Vec::new());
    assert_eq!(task.status(), TaskStatus::Succeeded);
}

#[test]
fn without_an_answer_the_list_of_results_is_it() {
    let mut task = task(vec![listing(), over_files("s2", None)]);
    succeed(&mut task, "s1", files(&["a"]), Vec::new());
    succeed(&mut task, "s2.1", json!(7), Vec::new());
    assert_eq!(task.ended().unwrap().answer.as_deref(), Some("[7]"));
}

#[test]
fn labels_of_the_list_reach_its_items_and_their_result() {
    let mut task = task(vec![listing(), over_files("s2", None)]);
    let attempt = crate::machine::start(&mut task, "s1");
    let web = Labels { sources: vec![Source::Web], trust: Trust::Untrusted };
    crate::machine::succeed_with(&mut task, "s1", attempt, files(&["a"]), web);
    let item = task.step(&id("s2.1")).unwrap();
    assert_eq!(task.input_labels(item).trust, Trust::Untrusted);
    let attempt = crate::machine::start_as(&mut task, "s2.1", Some(SideEffect::Read));
    let file = Labels { sources: vec![Source::File], trust: Trust::Trusted };
    crate::machine::succeed_with(&mut task, "s2.1", attempt, json!(1), file);
    let labels = task.step(&id("s2")).unwrap().labels.clone().unwrap();
    assert_eq!(labels.sources, [Source::Person, Source::File, Source::Web]);
    assert_eq!(labels.trust, Trust::Untrusted);
}

#[test]
fn an_item_that_would_change_something_asks_the_person_and_shows_where_its_argument_is_from() {
    let mut write = over_files("s2", None);
    write.tool = Some("files.write".to_owned());
    let mut task = task(vec![listing(), write, over_results("s3")]);
    let attempt = crate::machine::start(&mut task, "s1");
    let web = Labels { sources: vec![Source::Web], trust: Trust::Untrusted };
    crate::machine::succeed_with(&mut task, "s1", attempt, files(&["a"]), web.clone());
    let item = task.step(&id("s2.1")).unwrap();
    let asked = task.unapproved(item, SideEffect::Write).unwrap().unwrap();
    assert_eq!((asked.spans[0].at.as_str(), asked.spans[0].excerpt.as_str()), ("/path", "a"));
    assert_eq!(asked.spans[0].from[0].step, Some(id("s1")));
    let attempt = crate::machine::start_as(&mut task, "s2.1", Some(SideEffect::Read));
    crate::machine::succeed_with(&mut task, "s2.1", attempt, json!({"name": "b"}), web);
    let item = task.step(&id("s3.1")).unwrap();
    let asked = task.unapproved(item, SideEffect::External).unwrap().unwrap();
    let from: Vec<_> = asked.spans[0].from.iter().map(|origin| origin.step.clone().unwrap()).collect();
    assert_eq!(from, [id("s1")], "through both lists, back to where it came into the task");
}

#[test]
fn items_beyond_the_limit_are_announced_and_an_empty_list_is_an_empty_result() {
    let mut many = task(vec![listing(), over_files("s2", Some(2))]);
    succeed(&mut many, "s1", files(&["a", "b", "c"]), Vec::new());
    assert_eq!(many.steps().len(), 4);
    assert_eq!(many.degraded(), ["Step `s2` runs over the first 2 of 3 items only."]);
    let mut none = task(vec![listing(), over_files("s2", None)]);
    succeed(&mut none, "s1", files(&[]), Vec::new());
    assert_eq!(none.ended().unwrap().answer.as_deref(), Some("[]"));
}

#[test]
fn what_is_no_list_fails_the_step_and_says_what_it_is() {
    for (output, told) in [
        (json!({"files": "a.txt"}), "`/files` of step `s1` is no list; it is a text"),
        (json!({"names": []}), "nothing at `/files`; it is an object with `names`"),
    ] {
        let mut task = task(vec![listing(), over_files("s2", None), spec("s3", StepKind::Reason, &["s2"])]);
        succeed(&mut task, "s1", output, Vec::new());
        let found = task.ended().unwrap().error.clone().unwrap();
        assert_eq!(found.code, ErrorCode::PlanInvalid);
        assert!(found.detail.contains(told), "{}", found.detail);
        assert_eq!(status(&task, "s3"), StepStatus::Failed);
    }
}

#[test]
fn a_failed_item_fails_the_list_unless_it_is_tolerated() {
    let tolerant = StepSpec { tolerates_failure: true, ..over_files("s2", None) };
    for (list, tolerated) in [(over_files("s2", None), false), (tolerant, true)] {
        let mut task = task(vec![listing(), list, spec("answer", StepKind::Answer, &["s2"])]);
        succeed(&mut task, "s1", files(&["a", "b"]), Vec::new());
        fail(&mut task, "s2.1", ErrorCode::ToolFailed, RetryClass::Never, false);
        succeed(&mut task, "s2.2", json!("B"), Vec::new());
        if tolerated {
            assert_eq!(task.step(&id("s2")).unwrap().output.as_deref(), Some(&json!([null, "B"])));
            assert!(
                task.degraded()[0].contains("no result for 1 of 2 items")
                    && task.degraded()[0].contains("`s2.1`: it broke")
            );
        } else {
            assert_eq!(error(&task, "s2"), "Step `s2.1`, one of its items, failed: it broke");
        }
        assert_eq!(task.effects(), [Effect::Start(id("answer"))]);
    }
}

#[test]
fn results_that_are_too_long_together_are_cut_and_that_is_announced() {
    let mut task = task(vec![listing(), over_files("s2", None), spec("answer", StepKind::Answer, &["s2"])]);
    succeed(&mut task, "s1", files(&["a", "b", "c"]), Vec::new());
    let long = json!("\u{1}é".repeat(20_000));
    succeed(&mut task, "s2.1", long.clone(), Vec::new());
    succeed(&mut task, "s2.2", json!("short"), Vec::new());
    succeed(&mut task, "s2.3", json!({"text": "x".repeat(60_000)}), Vec::new());
    let output = task.step(&id("s2")).unwrap().output.clone().unwrap();
    assert!(output.to_string().len() <= kamil_protocol::MAX_OUTPUT_BYTES);
    assert_eq!(
        (&output[0]["truncated"], &output[0]["step"], &output[1]),
        (&json!(true), &json!("s2.1"), &json!("short"))
    );
    assert!(output[2]["excerpt"].as_str().unwrap().len() > 15_000);
    assert!(task.degraded()[0].contains("2 of 3 items"), "{:?}", task.degraded());
    assert_eq!(task.step(&id("s2.1")).unwrap().output.as_deref(), Some(&long), "the item keeps its own");
}

#[test]
fn a_step_whose_condition_does_not_hold_is_not_run_and_the_task_goes_on() {
    let condition = json!({"value": {"$from": "s1", "path": "/rows"}, "is": {"greater_than": 5}});
    let conditional = || StepSpec { when: when(&condition), ..spec("s2", StepKind::Tool, &[]) };
    let steps = || {
        vec![
            listing(),
            conditional(),
            spec("s3", StepKind::Reason, &["s2"]),
            spec("answer", StepKind::Answer, &["s3"]),
        ]
    };
    let mut holds = task(steps());
    succeed(&mut holds, "s1", json!({"rows": 6}), Vec::new());
    assert_eq!(holds.effects(), [Effect::Start(id("s2"))]);
    let mut not = task(steps());
    succeed(&mut not, "s1", json!({"rows": 5}), Vec::new());
    assert_eq!((status(&not, "s2"), status(&not, "s3")), (StepStatus::Cancelled, StepStatus::Cancelled));
    assert!(error(&not, "s2").contains("`/rows` of step `s1` is 5"), "{}", error(&not, "s2"));
    assert_eq!(not.effects(), [Effect::Start(id("answer"))]);
    let mut without_answer = task(vec![listing(), conditional()]);
    succeed(&mut without_answer, "s1", json!({"rows": 1}), Vec::new());
    assert_eq!(without_answer.status(), TaskStatus::Succeeded);
    assert_eq!(without_answer.ended().unwrap().answer.as_deref(), Some("{\"rows\":1}"));
}

#[test]
fn a_list_with_a_condition_that_does_not_hold_gets_no_items() {
    let condition = json!({"value": {"$from": "s1", "path": "/files/1"}, "is": {"exists": true}});
    let list = StepSpec { when: when(&condition), ..over_files("s2", None) };
    let mut task = task(vec![listing(), list, spec("answer", StepKind::Answer, &["s2"])]);
    succeed(&mut task, "s1", files(&["a"]), Vec::new());
    assert_eq!(status(&task, "s2"), StepStatus::Cancelled);
    assert_eq!(task.steps().len(), 3);
}

#[test]
fn items_come_once_and_only_when_the_list_is_there() {
    let added = |name: &str| TaskEvent::StepsAdded {
        cause: Some(id("s2")),
        steps: vec![spec(name, StepKind::Tool, &["s1"])],
        digest: None,
    };
    let mut early = task(vec![listing(), over_files("s2", None)]);
    assert!(early.apply(jiff::Timestamp::UNIX_EPOCH, &added("s2.1")).is_err());
    succeed(&mut early, "s1", files(&["a"]), Vec::new());
    assert!(early.apply(jiff::Timestamp::UNIX_EPOCH, &added("s2.2")).is_err());
    let stranger = TaskEvent::StepsAdded {
        cause: Some(id("s9")),
        steps: vec![spec("s3", StepKind::Tool, &[])],
        digest: None,
    };
    assert!(early.apply(jiff::Timestamp::UNIX_EPOCH, &stranger).is_err());
}

fn tools() -> Vec<ToolDescriptor> {
    let tool = |name: &str, arguments: Value, result: Value| ToolDescriptor {
        name: name.to_owned(),
        description: String::new(),
        arguments,
        result,
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: 1_000,
        examples: Vec::new(),
    };
    let files = json!({"type": "object", "properties": {
        "count": {"type": "integer"},
        "files": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "bytes": {"type": "integer"}}}}
    }});
    let read = json!({"type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}, "required": ["path"], "additionalProperties": false});
    vec![
        tool("files.list", json!({"type": "object"}), files),
        tool("files.read", read, json!({"type": "object", "properties": {"text": {"type": "string"}}})),
    ]
}

fn plan(steps: &Value) -> Result<(), (ErrorCode, String)> {
    let steps: Vec<StepSpec> = serde_json::from_value(steps.clone()).unwrap();
    validate(Author::Planner, &[], &steps, &tools()).map_err(|error| (error.code, error.detail))
}

const LIST: &str = "files.list";

#[test]
fn a_typed_plan_passes() {
    let good = json!([
        {"id": "s1", "kind": "tool", "tool": LIST},
        {"id": "s2", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$item": "/name"}, "lines": {"$from": "s1", "path": "/count"}},
         "for_each": {"over": {"$from": "s1", "path": "/files"}, "limit": 8},
         "when": {"value": {"$from": "s1", "path": "/count"}, "is": {"greater_than": 0}}, "deadline_ms": 5000},
        {"id": "s3", "kind": "reason", "inputs": {"instruction": "Sum up", "about": {"$item": "/text"}},
         "for_each": {"over": {"$from": "s2"}}},
        {"id": "s4", "kind": "tool", "tool": "files.read", "inputs": {"path": {"$from": "s3", "path": "/0"}}}
    ]);
    assert_eq!(plan(&good), Ok(()));
}

#[test]
fn what_can_never_work_is_refused_before_it_runs() {
    let item = json!({"$item": ""});
    let files = json!({"over": {"$from": "s1", "path": "/files"}});
    let read = |step: Value| {
        let mut read = json!({"id": "s2", "kind": "tool", "tool": "files.read"});
        read.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
        json!([{"id": "s1", "kind": "tool", "tool": LIST}, read])
    };
    for (step, told) in [
        (
            json!({"inputs": {"path": {"$from": "s1", "path": "/files"}}}),
            "`/files` of step `s1` is a list, but a text is wanted; to run the step once for each item, use `for_each`",
        ),
        (
            json!({"inputs": {"path": {"$from": "s1", "path": "/count"}}}),
            "at `/path`: `/count` of step `s1` is a whole number, but a text is wanted",
        ),
        (
            json!({"inputs": {"path": {"$from": "s1", "path": "/size"}}}),
            "step `s1` never returns anything at `/size`: there is no `size`; there is `",
        ),
        (
            json!({"inputs": {"path": {"$item": "/bytes"}}, "for_each": files}),
            "`/files/0/bytes` of step `s1` is a whole number",
        ),
        (
            json!({"inputs": {"path": {"$item": "/title"}}, "for_each": files}),
            "there is no `title`; there is `",
        ),
        (
            json!({"inputs": {"path": item}, "for_each": {"over": {"$from": "s1", "path": "/count"}}}),
            "`for_each` runs over a list, but `/count` of step `s1` is a whole number",
        ),
        (json!({"inputs": {"path": "x"}, "for_each": files}), "its inputs use none"),
        (json!({"inputs": {"path": item}}), "in a step with `for_each`; this step has none"),
        (
            json!({"inputs": {"path": {"$item": "/name"}}, "for_each": {"over": {"$from": "s1", "path": "/files"}, "limit": 33}}),
            "`limit` is 33; 1 to 32",
        ),
        (
            json!({"inputs": {"path": "x"}, "when": {"value": {"$from": "s1", "path": "/rows"}, "is": {"exists": true}}}),
            "at `/when`: step `s1` never returns anything at `/rows`",
        ),
        (
            json!({"inputs": {"path": "x"}, "when": {"value": {"$from": "s1", "path": "/files"}, "is": {"less_than": 3}}}),
            "`less_than` compares `/files` of step `s1` with a number, but it is a list",
        ),
        (
            json!({"inputs": {"path": "x"}, "when": {"value": {"$from": "s1", "path": "/count"}, "is": {"equals": "3"}}}),
            "compares `/count` of step `s1` with a text",
        ),
        (json!({"inputs": {"path": "x"}, "deadline_ms": 5}), "`deadline_ms` is 5"),
        (
            json!({"id": "s2", "inputs": {"path": "x"}, "when": {"value": {"$from": "s8"}, "is": {"exists": true}}}),
            "refers to `s8`",
        ),
    ] {
        let (_, detail) = plan(&read(step.clone())).unwrap_err();
        assert!(detail.contains(told), "{step}\n{detail}");
    }
}

#[test]
fn lists_count_with_all_their_items() {
    let step = |name: String, limit: u32| StepSpec {
        kind: StepKind::Reason,
        tool: None,
        ..over_files(&name, Some(limit))
    };
    let listing = || StepSpec { kind: StepKind::Reason, tool: None, ..listing() };
    let refused = |steps: &[StepSpec]| validate(Author::Person, &[], steps, &[]).unwrap_err().detail;
    let unknown = StepSpec { tool: Some("files.list".to_owned()), ..spec("s1", StepKind::Tool, &[]) };
    let open =
        tools().into_iter().map(|tool| ToolDescriptor { result: json!({}), ..tool }).collect::<Vec<_>>();
    let fits = [unknown.clone(), step("a".to_owned(), 30), step("b".to_owned(), 31)];
    assert_eq!(validate(Author::Person, &[], &fits, &open), Ok(()));
    let detail = validate(Author::Planner, &[], &fits, &open).unwrap_err().detail;
    assert!(detail.contains("up to 64 steps, 61 of them for the items of lists; at most 60"), "{detail}");
    let clash = [unknown, step("a".to_owned(), 3), spec("a.2", StepKind::Reason, &[])];
    let detail = validate(Author::Person, &[], &clash, &open).unwrap_err().detail;
    assert!(detail.contains("`a.2` is the name of an item of step `a`"), "{detail}");
    assert!(refused(&[listing(), step("a".repeat(62), 3)]).contains("at most 61 bytes"));
    let late =
        StepSpec { for_each: step("x".to_owned(), 1).for_each, ..spec("answer", StepKind::Answer, &[]) };
    assert!(refused(&[listing(), late]).contains("only `tool` and `reason` steps have `for_each`"));
}
