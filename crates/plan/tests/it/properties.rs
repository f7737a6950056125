//! Whatever happens, in whatever order: no step before what it needs or against its condition, none lost, no success twice, no
//! budget exceeded, every task ends, and the journal tells the same state at every point.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kamil_plan::{Effect, Growth, Input, Rejection, RetryClass, StepOutput, Task, labels};
use kamil_protocol::{
    ErrorCode, NodeId, StepId, TaskId,
    event::TaskEvent,
    placement::Placement,
    task::{ApprovalRequest, Decision, Source, StepError, StepKind, StepSpec, StepStatus, TaskRequest},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{id, inputs, referee::Referee, spec};

const AT: Timestamp = Timestamp::UNIX_EPOCH;
/// Tokens that every model is wanted to write.
const WANTED: u32 = 100;

#[derive(Clone, Debug)]
enum Happening {
    Start(usize),
    Succeed(usize, u32, Value, bool),
    Fail(usize, u32, ErrorCode, RetryClass, bool),
    Ask(usize),
    Decide(usize, bool),
    Doubt(usize),
    Restart,
    Cancel,
    Deadline,
}

/// A task to come: a graph that is given, or up to three plans, each of which may end in the next.
#[derive(Clone, Debug)]
struct World {
    given: bool,
    plans: Vec<(Vec<StepSpec>, bool)>,
    tokens: Option<u32>,
}

type Link = (prop::sample::Index, u8);

fn graph(prefix: &'static str, most: usize) -> impl Strategy<Value = Vec<StepSpec>> {
    let link = || (any::<prop::sample::Index>(), 0..6u8);
    let step = (any::<bool>(), prop::collection::vec(link(), 0..3), prop::bool::weighted(0.25));
    prop::collection::vec(step, 1..most).prop_map(move |steps| {
        let build = |(place, (tool, links, tolerant)): (usize, (bool, Vec<Link>, bool))| {
            let kind = if tool { StepKind::Tool } else { StepKind::Reason };
            let name = |place: usize| format!("{prefix}{place}");
            let mut step = StepSpec { tolerates_failure: tolerant, ..spec(&name(place), kind, &[]) };
            for (index, how) in links.into_iter().filter(|_| place > 0) {
                let from = name(index.index(place));
                link_to(&mut step, &from, how);
            }
            step
        };
        steps.into_iter().enumerate().map(build).collect()
    })
}

fn link_to(step: &mut StepSpec, from: &str, how: u8) {
    match how {
        0 | 1 => step.depends_on.push(id(from)),
        2 => {
            step.inputs.insert("n".to_owned(), json!({"$from": from, "path": "/n"}));
        }
        3 => {
            let condition = json!({"value": {"$from": from, "path": "/n"}, "is": {"greater_than": 1}});
            step.when = Some(serde_json::from_value(condition).unwrap());
        }
        _ => {
            let list = json!({"over": {"$from": from, "path": "/list"}, "limit": 2});
            step.for_each = Some(serde_json::from_value(list).unwrap());
            step.inputs.extend(inputs(&json!({"x": {"$item": ""}})));
        }
    }
}

fn world() -> impl Strategy<Value = World> {
    let plans = (graph("a", 5), graph("b", 5), graph("c", 5));
    let go_on = prop::collection::vec(prop::bool::weighted(0.3), 3);
    let tokens = prop::option::weighted(0.4, 1..800u32);
    (any::<bool>(), plans, go_on, tokens).prop_map(|(given, (a, b, c), go_on, tokens)| World {
        given,
        plans: [a, b, c].into_iter().zip(go_on).collect(),
        tokens,
    })
}

impl World {
    fn begin(&self) -> Vec<TaskEvent> {
        let request =
            TaskRequest { input: "x".to_owned(), max_tokens_out: self.tokens, ..TaskRequest::default() };
        let first = match self.given {
            true => self.plans[0].0.clone(),
            false => vec![spec("plan", StepKind::Plan, &[])],
        };
        Task::begin(request, None, None, first)
    }

    /// How the graph goes on after this `plan` step.
    fn growth(&self, task: &Task, plan: &StepId, written: bool) -> Growth {
        let number = match plan.as_str() {
            "plan" => 0,
            "plan2" => 1,
            _ => 2,
        };
        let (planned, goes_on) = &self.plans[number];
        let mut steps = if written { planned.clone() } else { Vec::new() };
        let mut after: Vec<StepId> = task.planned_so_far();
        after.extend(steps.iter().map(|step| step.id.clone()));
        let answered = task.steps().iter().any(|step| step.spec.kind == StepKind::Answer);
        match task.next_plan().filter(|_| written && *goes_on) {
            Some(next) => steps.push(StepSpec {
                depends_on: after,
                tolerates_failure: true,
                ..StepSpec::new(next, StepKind::Plan)
            }),
            None if !answered => {
                after.push(plan.clone());
                let answer = StepSpec::new(id("answer"), StepKind::Answer);
                steps.push(StepSpec { depends_on: after, ..answer });
            }
            None => {}
        }
        Growth { degraded: Vec::new(), steps }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let code = prop::sample::select(vec![
        ErrorCode::NodeUnreachable,
        ErrorCode::Busy,
        ErrorCode::ToolFailed,
        ErrorCode::InvalidArguments,
        ErrorCode::Internal,
        ErrorCode::OutcomeUnknown,
        ErrorCode::DeadlineExceeded,
        ErrorCode::PlanInvalid,
    ]);
    let class = prop::sample::select(vec![RetryClass::Repeatable, RetryClass::Once, RetryClass::Never]);
    let output = prop::sample::select(vec![
        json!({"n": 1, "list": [1, 2, 3]}),
        json!({"n": 2, "list": []}),
        json!({"n": 3, "list": [{"x": 1}]}),
        json!({"n": "two", "list": "none"}),
        json!("text"),
    ]);
    let place = 0..48usize;
    prop_oneof![
        10 => place.clone().prop_map(Happening::Start),
        10 => (place.clone(), 0..4u32, output, prop::bool::weighted(0.2))
            .prop_map(|(place, back, output, foreign)| Happening::Succeed(place, back, output, foreign)),
        5 => (place.clone(), 0..3u32, code, class, any::<bool>())
            .prop_map(|(place, back, code, class, lost)| Happening::Fail(place, back, code, class, lost)),
        1 => place.clone().prop_map(Happening::Ask),
        2 => (place.clone(), any::<bool>()).prop_map(|(place, yes)| Happening::Decide(place, yes)),
        1 => place.prop_map(Happening::Doubt),
        1 => Just(Happening::Restart),
        1 => prop::sample::select(vec![true, false, false, false, false, false, false, false, false, false])
            .prop_map(|late| if late { Happening::Deadline } else { Happening::Restart }),
        1 => prop::bool::weighted(0.05).prop_map(|now| if now { Happening::Cancel } else { Happening::Restart }),
    ]
}

fn input(world: &World, task: &Task, happening: &Happening) -> Option<Input> {
    // Steps that can go on are more interesting than those that have ended.
    let open: Vec<usize> =
        (0..task.steps().len()).filter(|place| !task.steps()[*place].status.is_final()).collect();
    let step = |place: usize| match place % 3 {
        0 | 1 if !open.is_empty() => task.steps().get(open[place % open.len()]),
        _ => task.steps().get(place % task.steps().len()),
    };
    input_about(world, task, happening, step)
}

/// The input about the step that `step` picks.
fn input_about<'a>(
    world: &World,
    task: &Task,
    happening: &Happening,
    step: impl Fn(usize) -> Option<&'a kamil_plan::Step>,
) -> Option<Input> {
    Some(match happening {
        Happening::Start(place) => {
            let step = step(*place)?;
            if let (StepStatus::Ready, Err(error)) = (step.status, task.resolve(step)) {
                let detail = error.to_string();
                let error = StepError { code: ErrorCode::PlanInvalid, detail, next_step: None };
                let (class, otherwise) = (RetryClass::Never, Growth::default());
                let step = step.id().clone();
                let (lost, refused, again) = (false, None, None);
                return Some(Input::Failed {
                    step,
                    attempt: 0,
                    error,
                    class,
                    lost,
                    refused,
                    again,
                    otherwise,
                });
            }
            Input::Placed {
                step: step.id().clone(),
                node: NodeId::from_uuid(Uuid::from_u128(*place as u128)),
                model: None,
                effect: None,
                max_tokens: (step.spec.kind != StepKind::Tool).then_some(WANTED),
                lease_ms: 1,
                placement: Placement::default(),
                request_digest: None,
                degraded: Vec::new(),
            }
        }
        Happening::Succeed(place, back, output, foreign) => {
            let step = step(*place)?;
            let labels = if *foreign { labels::untrusted(Source::Web) } else { labels::person() };
            let result = StepOutput {
                output: output.clone(),
                labels,
                enforced: Vec::new(),
                tokens_in: None,
                tokens_out: step.granted().map(|granted| granted.min(1 + *place as u32 * 3)),
            };
            let attempt = step.attempt.saturating_sub(*back / 3);
            let then = grown(world, task, step, true);
            Input::Succeeded { step: step.id().clone(), attempt, result, then }
        }
        Happening::Fail(place, back, code, class, lost) => {
            let step = step(*place)?;
            let attempt = step.attempt.saturating_sub(*back / 2);
            let error = StepError { code: *code, detail: String::new(), next_step: None };
            let otherwise = grown(world, task, step, false);
            let (step, class, lost) = (step.id().clone(), *class, *lost);
            Input::Failed { step, attempt, error, class, lost, refused: None, again: None, otherwise }
        }
        Happening::Ask(place) => {
            let step = step(*place)?;
            let request = ApprovalRequest {
                tool: String::new(),
                arguments: json!({}),
                command: None,
                reason: String::new(),
                digest: "d".to_owned(),
                spans: Vec::new(),
            };
            Input::ApprovalNeeded { step: step.id().clone(), attempt: step.attempt, request }
        }
        Happening::Decide(place, yes) => {
            let decision = if *yes { Decision::Approve } else { Decision::Deny };
            Input::Decided { step: step(*place)?.id().clone(), decision, digest: None }
        }
        Happening::Doubt(place) => Input::Doubted { step: step(*place)?.id().clone(), reason: String::new() },
        Happening::Restart => Input::Restarted,
        Happening::Cancel => Input::Cancel { reason: String::new() },
        Happening::Deadline => Input::Deadline,
    })
}

fn grown(world: &World, task: &Task, step: &kamil_plan::Step, written: bool) -> Growth {
    match step.spec.kind {
        StepKind::Plan => world.growth(task, step.id(), written),
        _ => Growth::default(),
    }
}

fn replayed(journal: &[TaskEvent]) -> Task {
    Task::fold(TaskId::from_uuid(Uuid::nil()), journal.iter().map(|event| (AT, event))).unwrap()
}

/// Takes an input; whatever it is, the decision fits, is the same when it is made again, and the journal tells the same state.
fn take(task: &mut Task, journal: &mut Vec<TaskEvent>, input: Input) -> Result<(), TestCaseError> {
    let mut twin = replayed(journal);
    prop_assert_eq!(&twin, &*task);
    let again = twin.advance(AT, input.clone());
    let decided = task.advance(AT, input);
    prop_assert_eq!(&again, &decided);
    match decided {
        Ok(events) => {
            for event in events {
                journal.push(event);
                prop_assert!(Referee::judge(&*journal).is_ok(), "{:?}", Referee::judge(&*journal).err());
            }
        }
        Err(Rejection::Fold(error)) => prop_assert!(false, "a decision that does not fit: {}", error),
        Err(_) => prop_assert_eq!(&twin, &*task),
    }
    prop_assert!(task.settle().is_empty());
    Ok(())
}

/// Brings a task to its end with a patient person and healthy nodes.
fn finish(world: &World, task: &mut Task, journal: &mut Vec<TaskEvent>) -> Result<(), TestCaseError> {
    for _ in 0..400 {
        if task.ended().is_some() {
            return Ok(());
        }
        let going = [StepStatus::Running, StepStatus::AwaitingApproval, StepStatus::OutcomeUnknown];
        // What runs comes first: it holds tokens that others may wait for.
        let next = task.steps().iter().position(|step| going.contains(&step.status));
        let next = next.or_else(|| task.steps().iter().position(|step| step.status == StepStatus::Ready));
        prop_assert!(next.is_some(), "a task that has not ended can go on: {:?}", task);
        let place = next.unwrap_or_default();
        let step = &task.steps()[place];
        let exact = |happening: Happening| input_about(world, task, &happening, |_| Some(step)).unwrap();
        let input = match step.status {
            StepStatus::Ready => {
                prop_assert!(task.effects().contains(&Effect::Start(step.id().clone())));
                exact(Happening::Start(0))
            }
            StepStatus::Running => exact(Happening::Succeed(0, 0, json!({"n": 5, "list": [1]}), false)),
            _ => exact(Happening::Decide(0, true)),
        };
        take(task, journal, input)?;
    }
    prop_assert!(false, "the task does not end");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_the_rules_hold(
        world in world(),
        happenings in prop::collection::vec(happening(), 0..100),
    ) {
        let mut journal = world.begin();
        let mut task = replayed(&journal);
        for happening in &happenings {
            let Some(input) = input(&world, &task, happening) else { continue };
            if let Happening::Restart = happening {
                task = replayed(&journal);
            }
            take(&mut task, &mut journal, input)?;
        }
        finish(&world, &mut task, &mut journal)?;
        let referee = Referee::judge(&journal);
        prop_assert!(referee.is_ok_and(|referee| referee.completed));
        prop_assert_eq!(replayed(&journal), task);
    }
}

/// The generator reaches what the properties are about.
#[test]
fn the_worlds_hold_lists_conditions_and_new_plans() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = (world(), prop::collection::vec(happening(), 60..100));
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let (world, happenings) = strategy.new_tree(&mut runner).unwrap().current();
        let mut journal = world.begin();
        let mut task = replayed(&journal);
        for happening in &happenings {
            let Some(input) = input(&world, &task, happening) else { continue };
            journal.extend(task.advance(AT, input).unwrap_or_default());
        }
        finish(&world, &mut task, &mut journal).unwrap();
        for event in &journal {
            seen.insert(match event {
                TaskEvent::StepsAdded { cause: Some(cause), steps, .. } => {
                    let by_failure = steps[0].kind == StepKind::Plan && !cause.as_str().starts_with("plan");
                    if by_failure {
                        "a new plan after a failure"
                    } else if steps[0].id.as_str().contains('.') {
                        "items"
                    } else {
                        "growth"
                    }
                }
                TaskEvent::StepCancelled { reason, .. } if reason.contains("condition") => "condition",
                TaskEvent::StepFailed { error, .. } if error.code == ErrorCode::BudgetExceeded => {
                    "out of tokens"
                }
                TaskEvent::StepSucceeded { attempt: 0, .. } => "results of items",
                TaskEvent::StepOutcomeUnknown { .. } => "doubt",
                TaskEvent::ApprovalRequested { .. } => "approval",
                _ => "other",
            });
        }
        seen.extend(task.steps().iter().any(|step| step.id().as_str() == "plan3").then_some("three plans"));
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
}
