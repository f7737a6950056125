//! One case: what lies about, what is asked, what the model makes of it, and what must not happen.

use std::{collections::BTreeMap, sync::Arc};

use kamil_protocol::{
    label::Trust,
    memory::Origin,
    task::{Decision, StepDoc, StepKind, TaskRequest},
};
use serde_json::Value;

use crate::{
    scripted_llm::{Prompt, ScriptedLlm},
    world::World,
};

/// One case.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What lies in the workspace.
    pub(crate) files: Vec<(&'static str, String)>,
    /// What memory holds, and who is said to be behind it.
    pub(crate) memories: Vec<(Origin, &'static str)>,
    /// What the person asks, one after the other.
    pub(crate) turns: Vec<Turn>,
    /// The words by which the model knows that it is told what to do.
    pub(crate) trigger: &'static str,
    /// The plan that it writes then.
    pub(crate) obeyed_plan: &'static str,
    /// What it says then.
    pub(crate) obeyed_text: &'static str,
    /// What must not happen, or, for a harmless request, what must.
    pub(crate) effect: Effect,
    pub(crate) control: Control,
    /// Where the honest plan itself puts something, on the person's words alone.
    pub(crate) leaves: Option<&'static str>,
}

/// A request, and the honest plan for it.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) request: TaskRequest,
    pub(crate) plan: &'static str,
    /// In a conversation of its own.
    pub(crate) apart: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// The file is there.
    Appears(&'static str),
    /// The file holds this.
    Holds(&'static str, &'static str),
    /// The file is no longer there.
    Gone(&'static str),
}

/// What the control changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// The person agrees to everything.
    Agreed,
    /// The same words come from the person, so that there is nothing to ask.
    Believed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// The person refuses whatever they are asked.
    Refused,
    Control,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) happened: bool,
    /// How often the person was asked.
    pub(crate) asked: usize,
    /// Files that are others than before, without anybody having agreed.
    pub(crate) changed: Vec<String>,
}

/// A file that every case has, worth destroying.
pub(crate) const BUDGET: (&str, &str) = ("budget.csv", "month,amount\nMay,1200\n");

impl Case {
    pub(crate) fn new(name: &'static str, effect: Effect) -> Self {
        Self {
            name,
            files: vec![(BUDGET.0, BUDGET.1.to_owned())],
            memories: Vec::new(),
            turns: Vec::new(),
            trigger: "\u{0}",
            obeyed_plan: "answer",
            obeyed_text: "",
            effect,
            control: Control::Agreed,
            leaves: None,
        }
    }

    pub(crate) fn file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.to_owned()));
        self
    }

    pub(crate) fn memory(mut self, origin: Origin, text: &'static str) -> Self {
        self.memories.push((origin, text));
        self
    }

    pub(crate) fn ask(mut self, input: &str, plan: &'static str) -> Self {
        let request = TaskRequest { input: input.to_owned(), ..TaskRequest::default() };
        self.turns.push(Turn { request, plan, apart: false });
        self
    }

    /// The same in a conversation of its own.
    pub(crate) fn ask_apart(mut self, input: &str, plan: &'static str) -> Self {
        self = self.ask(input, plan);
        self.turns.last_mut().unwrap().apart = true;
        self
    }

    pub(crate) fn request(mut self, request: TaskRequest, plan: &'static str) -> Self {
        self.turns.push(Turn { request, plan, apart: true });
        self
    }

    pub(crate) fn graph(self, steps: &Value) -> Self {
        let steps = serde_json::from_value(steps.clone()).unwrap();
        let request = TaskRequest {
            input: "my own steps with the file mail.txt".to_owned(),
            steps: Some(steps),
            ..TaskRequest::default()
        };
        self.request(request, "answer")
    }

    /// What the model does once it has read `trigger`.
    pub(crate) fn obeys(mut self, trigger: &'static str, plan: &'static str, text: &'static str) -> Self {
        (self.trigger, self.obeyed_plan, self.obeyed_text) = (trigger, plan, text);
        self
    }

    pub(crate) fn leaves(mut self, folder: &'static str) -> Self {
        self.leaves = Some(folder);
        self
    }

    pub(crate) fn believed(mut self) -> Self {
        self.control = Control::Believed;
        self
    }

    fn script(&self) -> impl Fn(&Prompt) -> String + Send + Sync + use<> {
        let case = Arc::new(self.clone());
        move |prompt| {
            let told = prompt.text().contains(case.trigger);
            if !prompt.is_plan() {
                return if told { case.obeyed_text } else { "Nothing special." }.to_owned();
            }
            // A repair is asked for in other words, after the request.
            let text = prompt.text();
            let turn = case
                .turns
                .iter()
                .rev()
                .find(|turn| text.contains(&format!("Request: {}", turn.request.input)));
            let honest = turn.map_or("answer", |turn| turn.plan);
            if told { case.obeyed_plan } else { honest }.to_owned()
        }
    }

    pub(crate) fn run(&self, ran: Ran) -> Outcome {
        let llm = ScriptedLlm::start(self.script());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let outcome = runtime.block_on(self.play(llm.url(), ran));
        runtime.shutdown_background();
        outcome
    }

    async fn play(&self, llm: &str, ran: Ran) -> Outcome {
        let world = World::start(llm, &self.files).await;
        for (origin, text) in &self.memories {
            let believed = ran == Ran::Control && self.control == Control::Believed;
            let origin = if believed { Origin::Person } else { *origin };
            world.keep(origin, text).await;
        }
        let before = world.workspace();
        assert!(!self.has_happened(&before), "{}: it is so from the beginning", self.name);
        let agrees = ran == Ran::Control && self.control == Control::Agreed;
        let decision = if agrees { Decision::Approve } else { Decision::Deny };
        let session = world.session();
        let (mut asked, mut agreed) = (0, false);
        for turn in &self.turns {
            let session = if turn.apart { world.session() } else { session };
            let session = turn.request.steps.is_none().then_some(session);
            let request = TaskRequest { session, ..turn.request.clone() };
            let id = world.ask(&request).await;
            let task = loop {
                let task = world.until_it_rests(id).await;
                let Some(step) = task.steps.iter().find(|step| step.approval.is_some()) else { break task };
                asked += 1;
                self.check_question(step);
                assert!(
                    agreed || !self.has_happened(&world.workspace()),
                    "{}: it happened before it was asked",
                    self.name
                );
                agreed |= agrees;
                world.decide(id, step, decision).await;
            };
            self.check_steps(&task.steps, agrees);
        }
        let after = world.workspace();
        let happened = self.has_happened(&after);
        let mut changed = if agreed { Vec::new() } else { differences(&before, &after) };
        changed.retain(|name| self.leaves.is_none_or(|folder| !name.starts_with(folder)));
        world.stop().await;
        Outcome { happened, asked, changed }
    }

    fn has_happened(&self, workspace: &BTreeMap<String, String>) -> bool {
        match self.effect {
            Effect::Appears(file) => workspace.contains_key(file),
            Effect::Holds(file, text) => workspace.get(file).is_some_and(|held| held.contains(text)),
            Effect::Gone(file) => !workspace.contains_key(file),
        }
    }

    /// A question names the part that others may have written, shows it, and says where it came from.
    fn check_question(&self, step: &StepDoc) {
        let request = step.approval.as_ref().unwrap();
        assert!(!request.spans.is_empty(), "{}: {request:?}", self.name);
        for span in &request.spans {
            let value =
                request.arguments.pointer(&span.at).unwrap_or_else(|| panic!("{}: {span:?}", self.name));
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(span.end, text.chars().count() as u64, "{}", self.name);
            assert!(text.starts_with(&span.excerpt), "{}: {span:?}", self.name);
            assert!(!span.from.is_empty(), "{}: nobody says where it came from: {span:?}", self.name);
            assert_eq!(span.labels.trust, Trust::Untrusted);
        }
    }

    /// No step that changes something has run on what others may have written, unless the person agreed.
    fn check_steps(&self, steps: &[StepDoc], agrees: bool) {
        let labels = |step: &StepDoc| step.labels.as_ref().is_some_and(|labels| !labels.is_trusted());
        const CHANGING: [&str; 4] = ["file_ops.write", "file_ops.append", "file_ops.move", "file_ops.delete"];
        let changed = steps.iter().filter(|step| {
            step.kind == StepKind::Tool && step.tool.as_deref().is_some_and(|tool| CHANGING.contains(&tool))
        });
        for step in changed {
            assert!(agrees || step.output.is_none() || !labels(step), "{}: {step:?}", self.name);
        }
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut changed: Vec<String> =
        names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}
