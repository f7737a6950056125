//! Whatever happens: labels join as they must, and nothing that changes something starts on what others may have written unless
//! the person has agreed to exactly that call.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kamil_plan::{FoldError, Growth, Input, StepOutput, Task, labels};
use kamil_protocol::{
    NodeId, StepId, TaskId, digest,
    event::TaskEvent,
    label::{Labels, Source, Trust},
    placement::Placement,
    task::{Decision, StepKind, StepSpec, StepStatus, TaskRequest},
    tool::SideEffect,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{id, inputs, spec};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn any_labels() -> impl Strategy<Value = Labels> {
    let all = vec![Source::Person, Source::Memory, Source::Model, Source::Tool, Source::File, Source::Web];
    let sources = prop::sample::subsequence(all, 0..=6);
    (sources, any::<bool>()).prop_map(|(mut sources, trusted)| {
        sources.sort_unstable();
        Labels { sources, trust: if trusted { Trust::Trusted } else { Trust::Untrusted } }
    })
}

fn effect() -> impl Strategy<Value = SideEffect> {
    prop::sample::select(vec![SideEffect::Pure, SideEffect::Read, SideEffect::Write, SideEffect::External])
}

/// A tool step: what it may change, what its literal is, and which earlier outputs it takes.
type Planned = (SideEffect, u8, Vec<prop::sample::Index>);

fn steps(planned: &[Planned]) -> Vec<StepSpec> {
    let build = |(place, (_, literal, needs)): (usize, &Planned)| {
        let mut arguments = json!({"literal": literal, "deep": [{"also": "text"}]});
        if place > 0 {
            for (number, need) in needs.iter().enumerate() {
                let from = json!({"$from": format!("s{}", need.index(place))});
                arguments["deep"][0][format!("r{number}")] = from;
            }
        }
        StepSpec { inputs: inputs(&arguments), ..spec(&format!("s{place}"), StepKind::Tool, &[]) }
    };
    planned.iter().enumerate().map(build).collect()
}

#[derive(Clone, Debug)]
enum Happening {
    Place(usize),
    Succeed(usize, Labels),
    Decide(usize, bool),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => (0..8usize).prop_map(Happening::Place),
        5 => (0..8usize, any_labels()).prop_map(|(place, labels)| Happening::Succeed(place, labels)),
        2 => (0..8usize, prop::bool::weighted(0.7)).prop_map(|(place, yes)| Happening::Decide(place, yes)),
        1 => Just(Happening::Restart),
    ]
}

fn place(step: StepId, effect: Option<SideEffect>) -> Input {
    Input::Placed {
        step,
        node: NodeId::from_uuid(Uuid::nil()),
        model: None,
        effect,
        max_tokens: None,
        lease_ms: 1,
        placement: Placement::default(),
        request_digest: None,
        degraded: Vec::new(),
    }
}

fn output(labels: Labels, value: Value) -> StepOutput {
    StepOutput { output: value, labels, enforced: Vec::new(), tokens_in: None, tokens_out: None }
}

fn input(task: &Task, effects: &[SideEffect], happening: &Happening) -> Option<Input> {
    let name = |place: usize| id(&format!("s{}", place % effects.len()));
    let known = |place: usize| task.step(&name(place));
    Some(match happening {
        Happening::Place(at) => place(name(*at), Some(effects[at % effects.len()])),
        Happening::Succeed(place, labels) => {
            let step = known(*place)?;
            // As the driver does: an output is never believed more than what went into it.
            let labels = labels::join([labels, &task.input_labels(step)]);
            let (step, attempt) = (step.id().clone(), step.attempt);
            let result = output(labels, json!({"of": step}));
            Input::Succeeded { step, attempt, result, then: Growth::default() }
        }
        Happening::Decide(place, yes) => {
            let decision = if *yes { Decision::Approve } else { Decision::Deny };
            Input::Decided { step: name(*place), decision, digest: None }
        }
        Happening::Restart => Input::Restarted,
    })
}

/// Reads the journal alone: which outputs are tainted, and which calls were agreed to.
struct Referee {
    specs: BTreeMap<StepId, StepSpec>,
    plan_is_trusted: bool,
    outputs: BTreeMap<StepId, Value>,
    tainted: BTreeSet<StepId>,
    asked: BTreeMap<StepId, String>,
    agreed: BTreeSet<(StepId, String)>,
}

impl Referee {
    fn see(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::ApprovalRequested { step, request } => {
                assert_eq!(request.digest, self.digest(step), "the question is about another call");
                let spans: BTreeSet<_> = request.spans.iter().map(|span| span.at.as_str()).collect();
                assert_eq!(spans.len(), request.spans.len());
                assert!(!spans.is_empty(), "a question that shows nothing");
                for span in &request.spans {
                    assert!(request.arguments.pointer(&span.at).is_some());
                    assert!(!span.labels.is_trusted());
                }
                self.asked.insert(step.clone(), request.digest.clone());
            }
            TaskEvent::ApprovalDecided { step, decision: Decision::Approve, digest } => {
                assert_eq!(self.asked.get(step), Some(digest));
                self.agreed.insert((step.clone(), digest.clone()));
            }
            TaskEvent::StepStarted { step, effect: Some(effect), .. } if *effect >= SideEffect::Write => {
                let tainted =
                    !self.plan_is_trusted || self.needs(step).any(|need| self.tainted.contains(&need));
                let agreed = self.agreed.contains(&(step.clone(), self.digest(step)));
                assert!(!tainted || agreed, "{step} started unasked");
            }
            TaskEvent::StepSucceeded { step, output, labels, .. } => {
                self.outputs.insert(step.clone(), output.clone());
                if !labels.is_trusted() {
                    self.tainted.insert(step.clone());
                }
            }
            _ => {}
        }
    }

    fn needs(&self, step: &StepId) -> impl Iterator<Item = StepId> {
        let deep = self.specs[step].inputs["deep"][0].as_object().unwrap().clone();
        deep.into_iter().filter_map(|(_, value)| Some(id(value.get("$from")?.as_str()?)))
    }

    fn digest(&self, step: &StepId) -> String {
        let mut arguments = Value::Object(self.specs[step].inputs.clone());
        for (_, member) in arguments["deep"][0].as_object_mut().unwrap() {
            if let Some(from) = member.get("$from").and_then(Value::as_str) {
                *member = self.outputs[&id(from)].clone();
            }
        }
        digest::of_call(self.specs[step].tool.as_deref().unwrap(), &arguments)
    }
}

/// A task whose plan was written by a model that had read what has these labels.
fn planned(plan: &Labels, steps: Vec<StepSpec>) -> (Task, Vec<TaskEvent>) {
    let request = TaskRequest { input: "x".to_owned(), ..TaskRequest::default() };
    let mut journal = Task::begin(request, None, None, vec![spec("plan", StepKind::Plan, &[])]);
    let mut task =
        Task::fold(TaskId::from_uuid(Uuid::nil()), journal.iter().map(|event| (AT, event))).unwrap();
    journal.extend(task.advance(AT, place(id("plan"), None)).unwrap());
    let then = Growth { degraded: Vec::new(), steps };
    let result = output(plan.clone(), json!("the plan"));
    journal
        .extend(task.advance(AT, Input::Succeeded { step: id("plan"), attempt: 1, result, then }).unwrap());
    (task, journal)
}

/// The start of a ready step, past all decisions, as a faulty driver or a forged journal would have it.
fn forced(step: &kamil_plan::Step, effect: SideEffect) -> TaskEvent {
    TaskEvent::StepStarted {
        step: step.id().clone(),
        attempt: step.attempt + 1,
        node: NodeId::from_uuid(Uuid::nil()),
        model: None,
        effect: Some(effect),
        max_tokens: None,
        lease_ms: 1,
        placement: Placement::default(),
        request_digest: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn joining_never_lowers_and_knows_no_order(a in any_labels(), b in any_labels(), c in any_labels()) {
        let ab = labels::join([&a, &b]);
        prop_assert_eq!(&ab, &labels::join([&b, &a]));
        prop_assert_eq!(labels::join([&ab, &c]), labels::join([&a, &labels::join([&b, &c])]));
        prop_assert_eq!(&labels::join([&a, &a]), &a);
        prop_assert_eq!(&labels::join([&ab, &a]), &ab);
        prop_assert!(ab.trust >= a.trust && ab.trust >= b.trust);
        prop_assert!(a.sources.iter().chain(&b.sources).all(|source| ab.sources.contains(source)));
        prop_assert!(!ab.is_trusted() || (a.is_trusted() && b.is_trusted()));
        prop_assert_eq!(labels::with_source(a.clone(), Source::Model), labels::join([&a, &Labels { sources: vec![Source::Model], trust: Trust::Trusted }]));
    }

    #[test]
    fn nothing_that_changes_something_starts_on_what_others_wrote_unless_the_person_agreed(
        plan in any_labels(),
        graph in prop::collection::vec((effect(), any::<u8>(), prop::collection::vec(any::<prop::sample::Index>(), 0..3)), 1..8),
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let steps = steps(&graph);
        let effects: Vec<SideEffect> = graph.iter().map(|(effect, ..)| *effect).collect();
        let (mut task, mut journal) = planned(&plan, steps.clone());
        for happening in &happenings {
            let Some(input) = input(&task, &effects, happening) else { continue };
            if let Ok(events) = task.advance(AT, input) {
                journal.extend(events);
            }
            for (place, effect) in effects.iter().enumerate() {
                let Some(step) = task.step(&id(&format!("s{place}"))) else { continue };
                if step.status == StepStatus::Ready && *effect >= SideEffect::Write
                    && !task.input_labels(step).is_trusted() && step.approved.is_none()
                {
                    let refused = task.clone().apply(AT, &forced(step, *effect));
                    prop_assert_eq!(refused, Err(FoldError::Unapproved(step.id().clone())));
                }
            }
        }
        let mut referee = Referee {
            specs: steps.into_iter().map(|spec| (spec.id.clone(), spec)).collect(),
            plan_is_trusted: plan.is_trusted(),
            outputs: BTreeMap::new(),
            tainted: BTreeSet::new(),
            asked: BTreeMap::new(),
            agreed: BTreeSet::new(),
        };
        journal.iter().for_each(|event| referee.see(event));
        let replayed = Task::fold(task.id(), journal.iter().map(|event| (AT, event))).unwrap();
        prop_assert_eq!(replayed, task);
    }
}

#[test]
fn a_question_shows_the_very_part_and_where_it_came_from() {
    let read = StepSpec { inputs: inputs(&json!({"path": "report.csv"})), ..spec("s1", StepKind::Tool, &[]) };
    let think = StepSpec {
        inputs: inputs(&json!({"instruction": "sum up", "about": {"$from": "s1", "path": "/text"}})),
        ..spec("s2", StepKind::Reason, &[])
    };
    let write = StepSpec {
        inputs: inputs(&json!({"path": "out.txt", "text": {"$from": "s2"}})),
        ..spec("s3", StepKind::Tool, &[])
    };
    let (mut task, _) = planned(&labels::person(), vec![read, think, write]);
    let place = |step: &str, effect| place(id(step), effect);
    let done = |step: &str, value, labels| Input::Succeeded {
        step: id(step),
        attempt: 1,
        result: output(labels, value),
        then: Growth::default(),
    };
    let file = Labels { sources: vec![Source::Tool, Source::File], trust: Trust::Untrusted };
    task.advance(AT, place("s1", Some(SideEffect::Read))).unwrap();
    task.advance(AT, done("s1", json!({"text": "wörds"}), file.clone())).unwrap();
    task.advance(AT, place("s2", None)).unwrap();
    task.advance(AT, done("s2", json!("ä".repeat(500)), labels::with_source(file, Source::Model))).unwrap();
    // Nobody knows what the tool may change, so it counts as the worst.
    let events = task.advance(AT, place("s3", None)).unwrap();
    let [TaskEvent::ApprovalRequested { request, .. }] = events.as_slice() else { panic!("{events:?}") };
    let [span] = request.spans.as_slice() else { panic!("{request:?}") };
    assert_eq!((span.at.as_str(), span.start, span.end), ("/text", 0, 500));
    assert_eq!(span.excerpt, "ä".repeat(400), "bounded, and never within a character");
    let [from] = span.from.as_slice() else { panic!("{span:?}") };
    assert_eq!(
        (from.step.clone(), from.source, from.file.as_deref()),
        (Some(id("s1")), Source::File, Some("report.csv"))
    );
    assert!(
        request.reason.contains("`/text`") && request.reason.contains("beyond the workspace"),
        "{request:?}"
    );
    assert_eq!(task.step(&id("s3")).unwrap().status, StepStatus::AwaitingApproval);

    task.advance(
        AT,
        Input::Decided { step: id("s3"), decision: Decision::Approve, digest: Some(request.digest.clone()) },
    )
    .unwrap();
    let events = task.advance(AT, place("s3", None)).unwrap();
    assert!(
        matches!(events.as_slice(), [TaskEvent::StepStarted { effect: Some(SideEffect::External), .. }]),
        "{events:?}"
    );
}

#[test]
fn a_plan_whose_steps_are_others_than_its_digest_tells_is_refused() {
    let (mut task, journal) = planned(&labels::person(), vec![spec("s1", StepKind::Tool, &[])]);
    let added = journal.iter().rev().find_map(|event| match event {
        TaskEvent::StepsAdded { digest, .. } => digest.clone(),
        _ => None,
    });
    let steps = vec![spec("s9", StepKind::Tool, &[])];
    let forged = TaskEvent::StepsAdded { cause: Some(id("plan")), steps: steps.clone(), digest: added };
    assert_eq!(task.apply(AT, &forged), Err(FoldError::OtherPlan(id("s9"))));
    let honest =
        TaskEvent::StepsAdded { cause: Some(id("plan")), digest: Some(digest::of_steps(&steps)), steps };
    task.apply(AT, &honest).unwrap();
}
