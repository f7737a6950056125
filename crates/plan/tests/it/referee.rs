//! A judge of journals that knows nothing of the fold under test, and proof that it sees every fault it is there for.

use std::collections::{BTreeMap, BTreeSet};

use kamil_plan::{MAX_ATTEMPTS, MAX_PLANS, MAX_RETRIES};
use kamil_protocol::{
    ErrorCode, StepId,
    event::TaskEvent,
    flow::Test,
    task::{MAX_STEPS, StepKind, StepSpec},
};
use serde_json::Value;

/// What has been seen of a journal.
#[derive(Default)]
pub(crate) struct Referee {
    budget: Option<u64>,
    specs: BTreeMap<StepId, StepSpec>,
    items: BTreeMap<StepId, Vec<StepId>>,
    ended: BTreeMap<StepId, bool>,
    outputs: BTreeMap<StepId, Value>,
    granted: BTreeMap<StepId, u64>,
    spent: u64,
    failures: BTreeMap<StepId, u32>,
    retries: u32,
    pub(crate) completed: bool,
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            found.extend(members.get("$from").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        _ => {}
    }
}

fn needs(spec: &StepSpec) -> BTreeSet<String> {
    let mut found: Vec<String> = spec.depends_on.iter().map(StepId::to_string).collect();
    spec.inputs.values().for_each(|value| references(value, &mut found));
    found.extend(spec.for_each.iter().map(|list| list.over.from.to_string()));
    found.extend(spec.when.iter().map(|condition| condition.value.from.to_string()));
    found.into_iter().collect()
}

impl Referee {
    pub(crate) fn judge<'a>(events: impl IntoIterator<Item = &'a TaskEvent>) -> Result<Self, String> {
        let mut referee = Self::default();
        events.into_iter().try_for_each(|event| referee.see(event))?;
        Ok(referee)
    }

    pub(crate) fn see(&mut self, event: &TaskEvent) -> Result<(), String> {
        if self.completed {
            return Err(format!("{event:?} after the end"));
        }
        match event {
            TaskEvent::TaskCreated { request, .. } => self.budget = request.max_tokens_out.map(u64::from),
            TaskEvent::StepsAdded { cause, steps, .. } => self.added(cause.as_ref(), steps)?,
            TaskEvent::StepStarted { step, max_tokens, .. } => {
                self.may_run(step)?;
                if let Some(granted) = max_tokens {
                    self.granted.insert(step.clone(), u64::from(*granted));
                }
                let promised = self.spent + self.granted.values().sum::<u64>();
                if self.budget.is_some_and(|budget| promised > budget) {
                    return Err(format!("{step} may exceed the task's tokens"));
                }
            }
            TaskEvent::StepSucceeded { step, attempt, output, tokens_out, .. } => {
                if *attempt == 0 {
                    self.may_gather(step)?;
                }
                let granted = self.granted.remove(step);
                self.spent += tokens_out.map(u64::from).or(granted).unwrap_or(0);
                self.outputs.insert(step.clone(), output.clone());
                self.end(step, true)?;
            }
            TaskEvent::StepFailed { step, error, retry, .. } => self.failed(step, error.code, *retry)?,
            TaskEvent::ApprovalDecided { step, .. } => {
                self.failures.remove(step);
            }
            TaskEvent::StepOutcomeUnknown { step, .. } | TaskEvent::ApprovalRequested { step, .. } => {
                self.spent += self.granted.remove(step).unwrap_or(0);
            }
            TaskEvent::StepCancelled { step, .. } => self.end(step, false)?,
            TaskEvent::TaskCompleted { .. } => {
                let lost = self.specs.keys().find(|step| !self.ended.contains_key(*step));
                if let Some(lost) = lost {
                    return Err(format!("{lost} is lost"));
                }
                self.completed = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn added(&mut self, cause: Option<&StepId>, steps: &[StepSpec]) -> Result<(), String> {
        let list = cause.and_then(|cause| self.specs.get(cause)).and_then(|spec| spec.for_each.clone());
        if let (Some(cause), Some(list), true) =
            (cause, list, steps.iter().all(|step| step.kind != StepKind::Plan))
        {
            self.may_run(cause)?;
            if steps.len() > list.most_items() as usize {
                return Err(format!("{cause} has too many items"));
            }
            let items = steps.iter().map(|step| step.id.clone()).collect();
            if self.items.insert(cause.clone(), items).is_some() {
                return Err(format!("{cause} has items twice"));
            }
        }
        for step in steps {
            if self.specs.insert(step.id.clone(), step.clone()).is_some() {
                return Err(format!("{} is there twice", step.id));
            }
        }
        let plans = self.specs.values().filter(|spec| spec.kind == StepKind::Plan).count();
        if self.specs.len() > MAX_STEPS || plans > MAX_PLANS {
            return Err(format!("{} steps, {plans} plans", self.specs.len()));
        }
        Ok(())
    }

    /// Whether all that the step needs has ended as it must, and its condition holds.
    fn may_run(&self, step: &StepId) -> Result<(), String> {
        if self.ended.contains_key(step) {
            return Err(format!("{step} runs again"));
        }
        let spec = self.specs.get(step).ok_or_else(|| format!("{step} is unknown"))?;
        let tolerant = spec.tolerates_failure || spec.kind == StepKind::Answer;
        for need in needs(spec) {
            let good = self.ended.get(&need.parse::<StepId>().unwrap());
            if !good.is_some_and(|good| *good || tolerant) {
                return Err(format!("{step} before {need}"));
            }
        }
        if let Some(when) = &spec.when {
            let found =
                self.outputs.get(&when.value.from).and_then(|output| output.pointer(&when.value.path));
            let Test::GreaterThan(bound) = when.is else { return Err("unexpected".to_owned()) };
            if !found.and_then(Value::as_f64).is_some_and(|found| found > bound) {
                return Err(format!("{step} though its condition does not hold"));
            }
        }
        if spec.kind == StepKind::Answer {
            let open = self.specs.values().find(|other| {
                matches!(other.kind, StepKind::Plan | StepKind::Tool) && !self.ended.contains_key(&other.id)
            });
            if let Some(open) = open.filter(|_| self.specs.contains_key(&"plan".parse().unwrap())) {
                return Err(format!("the answer before {}", open.id));
            }
        }
        Ok(())
    }

    fn may_gather(&self, step: &StepId) -> Result<(), String> {
        self.may_run(step)?;
        let tolerant = self.specs[step].tolerates_failure;
        let open = self
            .items
            .get(step)
            .into_iter()
            .flatten()
            .find(|item| !self.ended.get(*item).is_some_and(|good| *good || tolerant));
        match (open, &self.specs[step].for_each) {
            (Some(open), _) => Err(format!("{step} before its item {open}")),
            (None, None) => Err(format!("{step} succeeded without an attempt")),
            (None, Some(_)) => Ok(()),
        }
    }

    fn failed(&mut self, step: &StepId, code: ErrorCode, retry: bool) -> Result<(), String> {
        let granted = self.granted.remove(step).unwrap_or(0);
        if !matches!(code, ErrorCode::Busy | ErrorCode::ToolFailed | ErrorCode::InvalidArguments) {
            self.spent += granted;
        }
        if !retry {
            return self.end(step, false);
        }
        if !matches!(code, ErrorCode::Busy | ErrorCode::Cancelled) {
            let count = self.failures.entry(step.clone()).or_default();
            *count += 1;
            self.retries += 1;
            let plan = self.specs.get(step).is_some_and(|spec| spec.kind == StepKind::Plan);
            if *count >= MAX_ATTEMPTS && !plan || self.retries > MAX_RETRIES {
                return Err(format!("{step} has too many attempts"));
            }
        }
        Ok(())
    }

    fn end(&mut self, step: &StepId, good: bool) -> Result<(), String> {
        self.granted.remove(step);
        match self.ended.insert(step.clone(), good) {
            None => Ok(()),
            Some(_) => Err(format!("{step} ends twice")),
        }
    }
}

mod sees {
    use jiff::Timestamp;
    use kamil_plan::Task;
    use kamil_protocol::{
        TaskId,
        task::{StepError, TaskRequest},
    };
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{id, inputs, machine, spec};

    /// A good journal: a listing, a step over its list, a conditional one, and the answer.
    fn good() -> Vec<TaskEvent> {
        let list = json!({"over": {"$from": "s1", "path": "/list"}, "limit": 2});
        let condition = json!({"value": {"$from": "s1", "path": "/n"}, "is": {"greater_than": 1}});
        let steps = vec![
            spec("s1", StepKind::Tool, &[]),
            StepSpec {
                inputs: inputs(&json!({"x": {"$item": ""}})),
                for_each: Some(serde_json::from_value(list).unwrap()),
                ..spec("s2", StepKind::Tool, &[])
            },
            StepSpec {
                when: Some(serde_json::from_value(condition).unwrap()),
                ..spec("s3", StepKind::Reason, &[])
            },
            spec("answer", StepKind::Answer, &["s2", "s3"]),
        ];
        let request = TaskRequest { max_tokens_out: Some(100), ..TaskRequest::default() };
        let mut journal = Task::begin(request, None, None, steps);
        let at = Timestamp::UNIX_EPOCH;
        let task_id = TaskId::from_uuid(Uuid::nil());
        let mut task = Task::fold(task_id, journal.iter().map(|event| (at, event))).unwrap();
        for (step, output) in [
            ("s1", json!({"list": [1, 2], "n": 2})),
            ("s2.1", json!(1)),
            ("s2.2", json!(2)),
            ("s3", json!("text")),
            ("answer", json!("Done.")),
        ] {
            journal.extend(machine::start_events(&mut task, step, None));
            journal.extend(machine::succeed_events(&mut task, step, output));
        }
        journal
    }

    fn place(journal: &[TaskEvent], wanted: impl Fn(&TaskEvent) -> bool) -> usize {
        journal.iter().position(wanted).unwrap()
    }

    fn starts(event: &TaskEvent, name: &str) -> bool {
        matches!(event, TaskEvent::StepStarted { step, .. } if step.as_str() == name)
    }

    fn succeeds(event: &TaskEvent, name: &str) -> bool {
        matches!(event, TaskEvent::StepSucceeded { step, .. } if step.as_str() == name)
    }

    fn fault(journal: &[TaskEvent]) -> String {
        Referee::judge(journal).err().unwrap_or_default()
    }

    #[test]
    fn every_fault_that_it_is_there_for() {
        let journal = good();
        assert!(Referee::judge(&journal).unwrap().completed);
        let without = |wanted: &dyn Fn(&TaskEvent) -> bool| -> Vec<TaskEvent> {
            journal.iter().filter(|event| !wanted(event)).cloned().collect()
        };
        assert!(fault(&without(&|event| succeeds(event, "s3"))).contains("answer before s3"));
        assert!(fault(&without(&|event| succeeds(event, "s2.2"))).contains("s2 before its item s2.2"));
        let mut lost = without(&|event| succeeds(event, "answer"));
        assert!(fault(&lost).contains("answer is lost"));
        lost.insert(3, journal[place(&journal, |event| starts(event, "s3"))].clone());
        assert!(fault(&lost).contains("s3 before s1"));
        let mut twice = journal.clone();
        let done = place(&journal, |event| succeeds(event, "s1"));
        twice.insert(done, journal[done].clone());
        assert!(fault(&twice).contains("s1 ends twice"));
        let mut again = journal.clone();
        again.insert(done + 1, journal[place(&journal, |event| starts(event, "s1"))].clone());
        assert!(fault(&again).contains("s1 runs again"));
        let mut after = journal.clone();
        after.push(TaskEvent::Degraded { reason: String::new() });
        assert!(fault(&after).contains("after the end"));
        let mut unwanted = journal.clone();
        if let TaskEvent::StepSucceeded { output, .. } = &mut unwanted[done] {
            *output = json!({"list": [1, 2], "n": 1});
        }
        assert!(fault(&unwanted).contains("s3 though its condition does not hold"));
        let mut many = journal.clone();
        let items = place(&journal, |event| matches!(event, TaskEvent::StepsAdded { cause: Some(_), .. }));
        if let TaskEvent::StepsAdded { steps, .. } = &mut many[items] {
            steps.push(spec("s2.3", StepKind::Tool, &[]));
        }
        assert!(fault(&many).contains("too many items"));
    }

    #[test]
    fn every_budget_that_is_exceeded() {
        let journal = good();
        let mut costly = journal.clone();
        for event in &mut costly {
            if let TaskEvent::StepStarted { step, max_tokens, .. } = event {
                *max_tokens = step.as_str().starts_with("s2").then_some(51);
            }
        }
        let second = place(&costly, |event| starts(event, "s2.2"));
        let started = costly.remove(second);
        let first = place(&costly, |event| starts(event, "s2.1"));
        costly.insert(first, started);
        assert!(fault(&costly).contains("may exceed the task's tokens"));
        let added = |steps: Vec<StepSpec>| TaskEvent::StepsAdded { cause: None, steps, digest: None };
        let plans = (0..4).map(|number| spec(&format!("plan{number}"), StepKind::Plan, &[])).collect();
        assert!(fault(&[added(plans)]).contains("4 plans"));
        let many = (0..=MAX_STEPS).map(|number| spec(&format!("s{number}"), StepKind::Tool, &[])).collect();
        assert!(fault(&[added(many)]).contains("65 steps"));
        let error = StepError { code: ErrorCode::NodeUnreachable, detail: String::new(), next_step: None };
        let retried = TaskEvent::StepFailed {
            step: id("s1"),
            attempt: 1,
            error,
            retry: true,
            lost: true,
            refused: None,
        };
        let mut tired = journal[..2].to_vec();
        tired.extend(std::iter::repeat_n(retried, 3));
        assert!(fault(&tired).contains("too many attempts"));
    }
}
