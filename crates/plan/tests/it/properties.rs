//! Whatever happens, in whatever order: no step before what it needs, no success twice, attempts bounded, every task ends,
//! and the journal tells the same state.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kamil_plan::{Effect, Growth, Input, MAX_ATTEMPTS, RetryClass, StepOutput, Task, labels};
use kamil_protocol::{
    ErrorCode, NodeId, StepId, TaskId,
    event::TaskEvent,
    placement::Placement,
    task::{ApprovalRequest, Decision, StepError, StepKind, StepSpec, StepStatus, TaskRequest},
};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use crate::{id, spec};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

#[derive(Clone, Debug)]
enum Happening {
    Start(usize),
    Succeed(usize, u32),
    Fail(usize, u32, ErrorCode, RetryClass, bool),
    Ask(usize),
    Decide(usize, bool),
    Doubt(usize),
    Restart,
    Cancel,
}

fn graph() -> impl Strategy<Value = Vec<StepSpec>> {
    let step = (
        prop::bool::ANY,
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        prop::bool::weighted(0.2),
    );
    prop::collection::vec(step, 1..12).prop_map(|steps| {
        let build = |(place, (tool, needs, tolerant)): (usize, (bool, Vec<prop::sample::Index>, bool))| {
            let kind = if tool { StepKind::Tool } else { StepKind::Reason };
            let needs: BTreeSet<String> = match place {
                0 => BTreeSet::new(),
                _ => needs.iter().map(|need| format!("s{}", need.index(place))).collect(),
            };
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            StepSpec { tolerates_failure: tolerant, ..spec(&format!("s{place}"), kind, &needs) }
        };
        steps.into_iter().enumerate().map(build).collect()
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let code = prop::sample::select(vec![
        ErrorCode::NodeUnreachable,
        ErrorCode::Busy,
        ErrorCode::ToolFailed,
        ErrorCode::Internal,
        ErrorCode::OutcomeUnknown,
        ErrorCode::DeadlineExceeded,
    ]);
    let class = prop::sample::select(vec![RetryClass::Repeatable, RetryClass::Once, RetryClass::Never]);
    let place = 0..12usize;
    prop_oneof![
        6 => place.clone().prop_map(Happening::Start),
        6 => (place.clone(), 0..4u32).prop_map(|(place, back)| Happening::Succeed(place, back)),
        4 => (place.clone(), 0..3u32, code, class, any::<bool>())
            .prop_map(|(place, back, code, class, lost)| Happening::Fail(place, back, code, class, lost)),
        1 => place.clone().prop_map(Happening::Ask),
        1 => (place.clone(), any::<bool>()).prop_map(|(place, yes)| Happening::Decide(place, yes)),
        1 => place.prop_map(Happening::Doubt),
        1 => Just(Happening::Restart),
        1 => prop::bool::weighted(0.05).prop_map(|now| if now { Happening::Cancel } else { Happening::Restart }),
    ]
}

fn input(task: &Task, happening: &Happening) -> Option<Input> {
    let step = |place: usize| task.steps().get(place % task.steps().len());
    Some(match happening {
        Happening::Start(place) => Input::Placed {
            step: step(*place)?.id().clone(),
            node: NodeId::from_uuid(Uuid::from_u128(*place as u128)),
            model: None,
            effect: None,
            lease_ms: 1,
            placement: Placement::default(),
            request_digest: None,
            degraded: Vec::new(),
        },
        Happening::Succeed(place, back) => {
            let step = step(*place)?;
            let result = StepOutput {
                output: json!({"n": place}),
                labels: labels::person(),
                enforced: Vec::new(),
                tokens_in: None,
                tokens_out: None,
            };
            let attempt = step.attempt.saturating_sub(*back / 3);
            Input::Succeeded { step: step.id().clone(), attempt, result, then: Growth::default() }
        }
        Happening::Fail(place, back, code, class, lost) => {
            let step = step(*place)?;
            let attempt = step.attempt.saturating_sub(*back / 2);
            let error = StepError { code: *code, detail: String::new(), next_step: None };
            let (step, otherwise) = (step.id().clone(), Growth::default());
            let (class, lost) = (*class, *lost);
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
    })
}

/// Checks the journal, event by event, without the fold that is under test.
#[derive(Default)]
struct Referee {
    needs: BTreeMap<StepId, (Vec<StepId>, bool)>,
    ended: BTreeMap<StepId, bool>,
    counted_failures: BTreeMap<StepId, u32>,
    completed: bool,
}

impl Referee {
    fn see(&mut self, event: &TaskEvent) {
        assert!(!self.completed, "{event:?} after the end");
        match event {
            TaskEvent::StepsAdded { steps, .. } => {
                for step in steps {
                    self.needs.insert(step.id.clone(), (step.depends_on.clone(), step.tolerates_failure));
                }
            }
            TaskEvent::StepStarted { step, .. } => {
                let (needs, tolerant) = &self.needs[step];
                for need in needs {
                    assert!(
                        self.ended.get(need).is_some_and(|good| *good || *tolerant),
                        "{step} before {need}"
                    );
                }
                assert!(!self.ended.contains_key(step), "{step} runs again");
            }
            TaskEvent::StepSucceeded { step, .. } => {
                assert_eq!(self.ended.insert(step.clone(), true), None, "{step} ends twice");
            }
            TaskEvent::StepFailed { step, error, retry, .. } => {
                if !retry {
                    assert_eq!(self.ended.insert(step.clone(), false), None, "{step} ends twice");
                }
                if !matches!(error.code, ErrorCode::Busy | ErrorCode::Cancelled) && *retry {
                    let count = self.counted_failures.entry(step.clone()).or_default();
                    *count += 1;
                    assert!(*count < MAX_ATTEMPTS, "{step} has too many attempts");
                }
            }
            TaskEvent::ApprovalDecided { step, .. } => {
                self.counted_failures.remove(step);
            }
            TaskEvent::StepCancelled { step, .. } => {
                assert_eq!(self.ended.insert(step.clone(), false), None, "{step} ends twice");
            }
            TaskEvent::TaskCompleted { .. } => {
                assert!(self.needs.keys().all(|step| self.ended.contains_key(step)));
                self.completed = true;
            }
            _ => {}
        }
    }
}

/// Brings a task to its end with a patient person and healthy nodes.
fn finish(task: &mut Task, journal: &mut Vec<TaskEvent>) {
    for _ in 0..200 {
        if task.ended().is_some() {
            return;
        }
        let next = task.steps().iter().position(|step| match step.status {
            StepStatus::Ready
            | StepStatus::Running
            | StepStatus::AwaitingApproval
            | StepStatus::OutcomeUnknown => true,
            StepStatus::Pending | StepStatus::Succeeded | StepStatus::Failed | StepStatus::Cancelled => false,
        });
        let place = next.expect("a task that has not ended can go on");
        let happening = match task.steps()[place].status {
            StepStatus::Ready => {
                assert!(task.effects().contains(&Effect::Start(id(&format!("s{place}")))));
                Happening::Start(place)
            }
            StepStatus::Running => Happening::Succeed(place, 0),
            _ => Happening::Decide(place, true),
        };
        journal.extend(task.advance(AT, input(task, &happening).unwrap()).unwrap());
    }
    panic!("the task does not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_rules_hold(
        steps in graph(),
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let request = TaskRequest { input: "x".to_owned(), ..TaskRequest::default() };
        let task_id = TaskId::from_uuid(Uuid::nil());
        let mut journal = Task::begin(request, None, None, steps);
        let mut task = Task::fold(task_id, journal.iter().map(|event| (AT, event))).unwrap();
        for happening in &happenings {
            let Some(input) = input(&task, happening) else { continue };
            let before = task.clone();
            match task.advance(AT, input) {
                Ok(events) => journal.extend(events),
                Err(_) => prop_assert_eq!(&task, &before),
            }
            prop_assert!(task.settle().is_empty());
            if let Happening::Restart = happening {
                let replayed = Task::fold(task_id, journal.iter().map(|event| (AT, event))).unwrap();
                prop_assert_eq!(&replayed, &task);
            }
        }
        finish(&mut task, &mut journal);
        let mut referee = Referee::default();
        journal.iter().for_each(|event| referee.see(event));
        prop_assert!(referee.completed);
        let replayed = Task::fold(task_id, journal.iter().map(|event| (AT, event))).unwrap();
        prop_assert_eq!(replayed, task);
    }
}
