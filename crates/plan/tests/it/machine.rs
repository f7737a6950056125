use jiff::Timestamp;
use kamil_plan::{Effect, Growth, Input, Rejection, RetryClass, StepOutput, Task, labels};
use kamil_protocol::{
    ErrorCode, NodeId, TaskId,
    event::TaskEvent,
    placement::Placement,
    task::{
        ApprovalRequest, Decision, Labels, StepError, StepKind, StepSpec, StepStatus, TaskRequest, TaskStatus,
    },
    tool::SideEffect,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{id, spec};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

pub(crate) fn task(steps: Vec<StepSpec>) -> Task {
    let request = TaskRequest { input: "hello".to_owned(), ..TaskRequest::default() };
    let events = Task::begin(request, None, None, steps);
    Task::fold(TaskId::from_uuid(Uuid::nil()), events.iter().map(|event| (AT, event))).unwrap()
}

pub(crate) fn start(task: &mut Task, step: &str) -> u32 {
    start_as(task, step, None)
}

pub(crate) fn start_as(task: &mut Task, step: &str, effect: Option<SideEffect>) -> u32 {
    start_events(task, step, effect);
    task.step(&id(step)).unwrap().attempt
}

pub(crate) fn start_events(task: &mut Task, step: &str, effect: Option<SideEffect>) -> Vec<TaskEvent> {
    let node = NodeId::from_uuid(Uuid::from_u128(1));
    let placed = Input::Placed {
        step: id(step),
        node,
        model: None,
        effect,
        max_tokens: None,
        lease_ms: 1,
        placement: Placement::default(),
        request_digest: None,
        degraded: Vec::new(),
    };
    task.advance(AT, placed).unwrap()
}

pub(crate) fn succeed_events(task: &mut Task, step: &str, output: Value) -> Vec<TaskEvent> {
    let attempt = task.step(&id(step)).unwrap().attempt;
    let result = StepOutput {
        output,
        labels: labels::person(),
        enforced: Vec::new(),
        tokens_in: None,
        tokens_out: None,
    };
    task.advance(AT, Input::Succeeded { step: id(step), attempt, result, then: Growth::default() }).unwrap()
}

pub(crate) fn succeed(task: &mut Task, step: &str, output: Value, steps: Vec<StepSpec>) {
    let attempt = start(task, step);
    let result = StepOutput {
        output,
        labels: labels::person(),
        enforced: Vec::new(),
        tokens_in: None,
        tokens_out: None,
    };
    let then = Growth { degraded: Vec::new(), steps };
    task.advance(AT, Input::Succeeded { step: id(step), attempt, result, then }).unwrap();
}

pub(crate) fn succeed_with(task: &mut Task, step: &str, attempt: u32, output: Value, labels: Labels) {
    let result = StepOutput { output, labels, enforced: Vec::new(), tokens_in: None, tokens_out: None };
    task.advance(AT, Input::Succeeded { step: id(step), attempt, result, then: Growth::default() }).unwrap();
}

pub(crate) fn fail(
    task: &mut Task,
    step: &str,
    code: ErrorCode,
    class: RetryClass,
    lost: bool,
) -> Vec<TaskEvent> {
    let attempt = start(task, step);
    let error = StepError { code, detail: "it broke".to_owned(), next_step: None };
    let (step, otherwise) = (id(step), Growth::default());
    let input = Input::Failed { step, attempt, error, class, lost, refused: None, again: None, otherwise };
    task.advance(AT, input).unwrap()
}

pub(crate) fn status(task: &Task, step: &str) -> StepStatus {
    task.step(&id(step)).unwrap().status
}

#[test]
fn a_request_grows_its_graph_and_ends_with_the_answer() {
    let mut task = task(vec![spec("recall", StepKind::Recall, &[])]);
    assert_eq!(task.status(), TaskStatus::Queued);
    succeed(
        &mut task,
        "recall",
        json!({}),
        vec![
            spec("answer", StepKind::Answer, &["recall"]),
            spec("remember", StepKind::Remember, &["answer"]),
        ],
    );
    assert_eq!(task.effects(), [Effect::Start(id("answer"))]);
    succeed(&mut task, "answer", json!("Hi."), Vec::new());
    assert_eq!(task.document().answer.as_deref(), Some("Hi."));
    assert_eq!(task.status(), TaskStatus::Running);
    succeed(&mut task, "remember", json!({}), Vec::new());
    assert_eq!(task.status(), TaskStatus::Succeeded);
    assert_eq!(task.advance(AT, Input::Deadline), Err(Rejection::Ended));
}

#[test]
fn a_failed_step_fails_what_needs_it_and_the_answer_is_written_all_the_same() {
    let mut task = task(vec![
        spec("s1", StepKind::Tool, &[]),
        spec("s2", StepKind::Reason, &["s1"]),
        spec("s3", StepKind::Reason, &["s2"]),
        spec("answer", StepKind::Answer, &["s1", "s3"]),
    ]);
    fail(&mut task, "s1", ErrorCode::ToolFailed, RetryClass::Repeatable, false);
    assert_eq!(status(&task, "s3"), StepStatus::Failed);
    assert!(task.step(&id("s3")).unwrap().error.as_ref().unwrap().detail.contains("it broke"));
    assert_eq!(task.effects(), [Effect::Start(id("answer"))]);
    succeed(&mut task, "answer", json!("It broke."), Vec::new());
    assert_eq!(task.status(), TaskStatus::Succeeded);
}

#[test]
fn without_an_answer_step_the_last_output_is_the_answer() {
    let mut good = task(vec![spec("s1", StepKind::Tool, &[])]);
    succeed(&mut good, "s1", json!({"value": 2}), Vec::new());
    assert_eq!(good.ended().unwrap().answer.as_deref(), Some("{\"value\":2}"));
    let mut bad = task(vec![spec("s1", StepKind::Tool, &[])]);
    fail(&mut bad, "s1", ErrorCode::ToolFailed, RetryClass::Once, false);
    assert_eq!(bad.status(), TaskStatus::Failed);
    assert_eq!(bad.ended().unwrap().error.as_ref().unwrap().code, ErrorCode::ToolFailed);
}

#[test]
fn what_may_run_twice_is_tried_three_times() {
    let mut task = task(vec![spec("s1", StepKind::Reason, &[])]);
    for attempt in 1..=3 {
        fail(&mut task, "s1", ErrorCode::NodeUnreachable, RetryClass::Repeatable, true);
        assert_eq!(status(&task, "s1"), if attempt < 3 { StepStatus::Ready } else { StepStatus::Failed });
    }
    assert_eq!(task.step(&id("s1")).unwrap().failed_on.len(), 3);
}

#[test]
fn a_full_node_or_a_restart_does_not_use_up_attempts() {
    let mut task = task(vec![spec("s1", StepKind::Reason, &[])]);
    for _ in 0..10 {
        fail(&mut task, "s1", ErrorCode::Busy, RetryClass::Repeatable, false);
        start(&mut task, "s1");
        task.advance(AT, Input::Restarted).unwrap();
        assert_eq!(status(&task, "s1"), StepStatus::Ready);
    }
}

#[test]
fn what_must_run_once_is_left_to_the_person_when_nobody_can_tell() {
    let mut task = task(vec![spec("s1", StepKind::Tool, &[])]);
    fail(&mut task, "s1", ErrorCode::NodeUnreachable, RetryClass::Once, true);
    assert!(task.step(&id("s1")).unwrap().doubtful, "only the same node may be asked, under the same key");
    task.advance(AT, Input::Doubted { step: id("s1"), reason: "the node is gone".to_owned() }).unwrap();
    assert_eq!(task.status(), TaskStatus::AwaitingApproval);
    let mut denied = task.clone();
    let decide = |decision| Input::Decided { step: id("s1"), decision, digest: None };
    denied.advance(AT, decide(Decision::Deny)).unwrap();
    assert_eq!(denied.ended().unwrap().error.as_ref().unwrap().code, ErrorCode::OutcomeUnknown);
    task.advance(AT, decide(Decision::Approve)).unwrap();
    let step = task.step(&id("s1")).unwrap();
    assert_eq!((step.status, step.reruns, step.doubtful), (StepStatus::Ready, 1, false));
}

#[test]
fn a_refusal_does_not_settle_an_earlier_attempt_in_doubt() {
    let doubted = || {
        let mut task = task(vec![spec("s1", StepKind::Tool, &[])]);
        fail(&mut task, "s1", ErrorCode::NodeUnreachable, RetryClass::Once, true);
        task
    };
    let mut refused = doubted();
    fail(&mut refused, "s1", ErrorCode::InvalidArguments, RetryClass::Once, false);
    assert_eq!(status(&refused, "s1"), StepStatus::OutcomeUnknown);
    let mut told = doubted();
    fail(&mut told, "s1", ErrorCode::ToolFailed, RetryClass::Once, false);
    assert_eq!(status(&told, "s1"), StepStatus::Failed);
    let mut stopped = doubted();
    stopped.advance(AT, Input::Cancel { reason: "enough".to_owned() }).unwrap();
    assert!(stopped.step(&id("s1")).unwrap().error.as_ref().unwrap().detail.contains("is not known"));
}

#[test]
fn the_person_agrees_to_one_digest() {
    let mut task = task(vec![spec("s1", StepKind::Tool, &[])]);
    let attempt = start(&mut task, "s1");
    let request = ApprovalRequest {
        tool: "web.fetch".to_owned(),
        arguments: json!({}),
        command: None,
        reason: "external".to_owned(),
        digest: "aa".to_owned(),
        spans: Vec::new(),
    };
    task.advance(AT, Input::ApprovalNeeded { step: id("s1"), attempt, request }).unwrap();
    assert_eq!(task.status(), TaskStatus::AwaitingApproval);
    let decide = |digest: &str| Input::Decided {
        step: id("s1"),
        decision: Decision::Approve,
        digest: Some(digest.to_owned()),
    };
    assert!(matches!(task.advance(AT, decide("bb")), Err(Rejection::OtherDigest { .. })));
    task.advance(AT, decide("aa")).unwrap();
    assert_eq!(task.step(&id("s1")).unwrap().approved.as_deref(), Some("aa"));
    assert!(matches!(task.advance(AT, decide("aa")), Err(Rejection::NotAsked(_))));
}

#[test]
fn a_stopped_task_ends_at_once_and_says_what_may_have_happened() {
    let mut task = task(vec![spec("s1", StepKind::Tool, &[]), spec("s2", StepKind::Tool, &["s1"])]);
    start(&mut task, "s1");
    task.advance(AT, Input::Cancel { reason: "the person stopped it".to_owned() }).unwrap();
    assert_eq!(task.status(), TaskStatus::Cancelled);
    assert_eq!(task.effects(), [Effect::Stop { step: id("s1"), attempt: 1 }]);
    assert!(task.step(&id("s1")).unwrap().error.as_ref().unwrap().detail.contains("may have happened"));
}

#[test]
fn events_that_cannot_have_happened_are_refused() {
    let fresh = || task(vec![spec("s1", StepKind::Tool, &[]), spec("s2", StepKind::Tool, &["s1"])]);
    let started = |step: &str, attempt| TaskEvent::StepStarted {
        step: id(step),
        attempt,
        node: NodeId::from_uuid(Uuid::nil()),
        model: None,
        effect: None,
        max_tokens: None,
        lease_ms: 1,
        placement: Placement::default(),
        request_digest: None,
    };
    for event in [
        started("s2", 1),
        started("s1", 2),
        started("s9", 1),
        TaskEvent::StepsAdded { cause: None, digest: None, steps: vec![spec("s1", StepKind::Tool, &[])] },
        TaskEvent::StepsAdded { cause: None, digest: None, steps: vec![spec("s3", StepKind::Tool, &["s7"])] },
        TaskEvent::TaskCompleted { status: TaskStatus::Succeeded, answer: None, error: None },
        TaskEvent::ApprovalDecided { step: id("s1"), decision: Decision::Approve, digest: String::new() },
    ] {
        let mut task = fresh();
        assert!(task.apply(AT, &event).is_err(), "{event:?}");
        assert_eq!(task, fresh());
    }
}
