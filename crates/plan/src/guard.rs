//! What must not start without the person's yes: whatever changes something, where others may have written what steers it.
//!
//! A plan is written before what it reads is known, from the person's words and what is trusted. What others may have written can
//! therefore reach a step in two ways only: through a reference to an output, or through a plan that was written after such content
//! had been read. Both are seen here, argument by argument.

use kamil_protocol::{
    StepId, digest,
    label::{ArgumentSpan, Labels, MAX_EXCERPT_CHARS, MAX_ORIGINS, MAX_SPANS, Source, SpanOrigin},
    memory::RecallReply,
    task::{ApprovalRequest, StepKind, StepStatus},
    tool::SideEffect,
};
use serde_json::Value;

use crate::{
    labels,
    reference::{self, ReferenceError},
    step::Step,
    task::Task,
};

/// Names under which tools take the place that they read.
const PLACES: [&str; 5] = ["path", "file", "dataset", "url", "model"];

impl Task {
    /// Labels on all that goes into a step by its inputs: those of the plan that wrote them, and of the outputs they refer to.
    #[must_use]
    pub fn input_labels(&self, step: &Step) -> Labels {
        let references = reference::collect(&step.spec.inputs).unwrap_or_default();
        let outputs = references.iter().filter_map(|reference| self.step(&reference.step)?.labels.as_ref());
        labels::join(outputs.chain([&step.plan_labels]))
    }

    /// What the person has to agree to before a step with this effect starts; none if it may start, because it changes nothing, all that
    /// steers it is trusted, or the person has agreed to exactly this call.
    ///
    /// # Errors
    /// [`ReferenceError`] if an input is not there.
    pub fn unapproved(
        &self,
        step: &Step,
        effect: SideEffect,
    ) -> Result<Option<ApprovalRequest>, ReferenceError> {
        if effect < SideEffect::Write || self.input_labels(step).is_trusted() {
            return Ok(None);
        }
        let tool = step.spec.tool.clone().unwrap_or_default();
        let arguments = Value::Object(self.resolve(step)?);
        let digest = digest::of_call(&tool, &arguments);
        if step.approved.as_deref() == Some(digest.as_str()) {
            return Ok(None);
        }
        let spans = self.untrusted_spans(step, &arguments);
        let reason = reason(step, effect, &spans);
        Ok(Some(ApprovalRequest { tool, arguments, command: None, reason, digest, spans }))
    }

    /// The parts of a step's arguments that others may have written.
    pub(crate) fn untrusted_spans(&self, step: &Step, arguments: &Value) -> Vec<ArgumentSpan> {
        let mut spans = Vec::new();
        let mut mark = |at: &str, labels: &Labels, from: Vec<SpanOrigin>| {
            if let Some(value) = arguments.pointer(at).filter(|_| spans.len() < MAX_SPANS) {
                spans.push(span(at, value, labels, from));
            }
        };
        let references = reference::collect(&step.spec.inputs).unwrap_or_default();
        for reference in &references {
            let Some(source) = self.step(&reference.step) else { continue };
            if let Some(labels) = source.labels.as_ref().filter(|labels| !labels.is_trusted()) {
                mark(&reference.at, labels, self.origins(source));
            }
        }
        if !step.plan_labels.is_trusted() {
            let from = self.plan_origins(step);
            for at in literals(&step.spec.inputs, &references) {
                mark(&at, &step.plan_labels, from.clone());
            }
        }
        spans
    }

    /// Where the untrusted part of a step's output came into the task.
    fn origins(&self, step: &Step) -> Vec<SpanOrigin> {
        let mut walk = Walk { task: self, seen: Vec::new(), found: Vec::new() };
        walk.output(step);
        walk.found
    }

    /// Where what the author of a step's plan had read came into the task.
    fn plan_origins(&self, step: &Step) -> Vec<SpanOrigin> {
        let mut walk = Walk { task: self, seen: Vec::new(), found: Vec::new() };
        walk.plan(step);
        walk.found
    }
}

/// The way back from a value to where it came from.
struct Walk<'a> {
    task: &'a Task,
    seen: Vec<&'a StepId>,
    found: Vec<SpanOrigin>,
}

impl<'a> Walk<'a> {
    fn output(&mut self, step: &'a Step) {
        let trusted = step.labels.as_ref().is_some_and(Labels::is_trusted);
        if trusted || self.seen.contains(&step.id()) {
            return;
        }
        self.seen.push(step.id());
        if step.spec.for_each.is_some() {
            self.list(step);
            return;
        }
        match step.spec.kind {
            StepKind::Recall => self.memories(step, true),
            StepKind::Tool => {
                if self.brings_in(step) {
                    self.note(self.place(step));
                }
                self.inputs(step);
            }
            StepKind::Plan | StepKind::Answer => self.prompt(step),
            StepKind::Reason | StepKind::Remember => self.inputs(step),
        }
    }

    fn inputs(&mut self, step: &'a Step) {
        for reference in reference::collect(&step.spec.inputs).unwrap_or_default() {
            if let Some(source) = self.task.step(&reference.step) {
                self.output(source);
            }
        }
        self.plan(step);
    }

    /// What a step that runs over a list returns is what its items returned, as many as the list had.
    fn list(&mut self, step: &'a Step) {
        let over = step.spec.for_each.as_ref().and_then(|for_each| self.task.step(&for_each.over.from));
        for step in over.into_iter().chain(self.task.items(step)) {
            self.output(step);
        }
        self.plan(step);
    }

    fn plan(&mut self, step: &'a Step) {
        if step.plan_labels.is_trusted() {
            return;
        }
        match step.cause.as_ref().and_then(|cause| self.task.step(cause)) {
            Some(list) if list.spec.for_each.is_some() => self.plan(list),
            Some(cause) => self.output(cause),
            None => {}
        }
    }

    /// Whether a tool's output holds more than what it was given.
    fn brings_in(&self, step: &Step) -> bool {
        let given = self.task.input_labels(step);
        let returned = step.labels.as_ref().map_or(&[][..], |labels| &labels.sources);
        let more = |source: &Source| matches!(source, Source::File | Source::Web);
        given.is_trusted() || returned.iter().any(|source| more(source) && !given.sources.contains(source))
    }

    fn place(&self, step: &Step) -> SpanOrigin {
        let sources = step.labels.as_ref().map_or(&[][..], |labels| &labels.sources);
        let source = [Source::Web, Source::File].into_iter().find(|source| sources.contains(source));
        let given = self.task.resolve(step).unwrap_or_default();
        let file = PLACES.iter().find_map(|name| given.get(*name)?.as_str());
        SpanOrigin {
            step: Some(step.id().clone()),
            source: source.unwrap_or(Source::Tool),
            tool: step.spec.tool.clone(),
            file: file.filter(|_| source.is_some()).map(|file| clip(file, MAX_EXCERPT_CHARS)),
            memory: None,
        }
    }

    fn memories(&mut self, step: &Step, hits: bool) {
        let reply =
            step.output.as_deref().map(|output| serde_json::from_value::<RecallReply>(output.clone()));
        let Some(Ok(reply)) = reply else { return };
        let found = reply.hits.iter().filter(|_| hits).map(|hit| &hit.memory);
        let all = reply.conversation.iter().chain(found);
        for memory in all.filter(|memory| !labels::of_memory(memory).is_trusted()) {
            self.note(SpanOrigin {
                step: Some(step.id().clone()),
                source: Source::Memory,
                tool: None,
                file: None,
                memory: Some(memory.id),
            });
        }
    }

    /// What the author of a plan or of an answer had read: the conversation and the results so far. What memory found besides, only an
    /// answer is told.
    fn prompt(&mut self, step: &'a Step) {
        self.conversation();
        let before = self.task.steps().iter().take_while(|other| other.id() != step.id());
        for other in before.filter(|other| matches!(other.status, StepStatus::Succeeded | StepStatus::Failed))
        {
            match other.spec.kind {
                StepKind::Recall => self.memories(other, step.spec.kind == StepKind::Answer),
                StepKind::Tool | StepKind::Reason => self.output(other),
                StepKind::Plan | StepKind::Answer | StepKind::Remember => {}
            }
        }
    }

    /// Earlier turns that the caller gave.
    fn conversation(&mut self) {
        let turns = self.task.request().history.iter();
        if let Some(turn) = turns.map(labels::of_turn).find(|turn| !turn.is_trusted()) {
            let source = turn.sources.first().copied().unwrap_or(Source::Model);
            self.note(SpanOrigin { step: None, source, tool: None, file: None, memory: None });
        }
    }

    fn note(&mut self, origin: SpanOrigin) {
        if self.found.len() < MAX_ORIGINS && !self.found.contains(&origin) {
            self.found.push(origin);
        }
    }
}

/// Pointers to the greatest parts of the inputs that hold no reference.
fn literals(inputs: &serde_json::Map<String, Value>, references: &[reference::Reference]) -> Vec<String> {
    fn walk(value: &Value, at: String, references: &[reference::Reference], found: &mut Vec<String>) {
        let below = format!("{at}/");
        let inside =
            |reference: &reference::Reference| reference.at == at || reference.at.starts_with(&below);
        if !references.iter().any(inside) {
            found.push(at);
            return;
        }
        match value {
            Value::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    walk(item, format!("{below}{place}"), references, found);
                }
            }
            Value::Object(members) if !members.contains_key("$from") => {
                for (name, member) in members {
                    walk(member, reference::below(&at, name), references, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, value) in inputs {
        walk(value, reference::below("", name), references, &mut found);
    }
    found
}

fn span(at: &str, value: &Value, labels: &Labels, from: Vec<SpanOrigin>) -> ArgumentSpan {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    ArgumentSpan {
        at: at.to_owned(),
        start: 0,
        end: text.chars().count() as u64,
        excerpt: clip(&text, MAX_EXCERPT_CHARS),
        labels: labels.clone(),
        from,
    }
}

fn clip(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn reason(step: &Step, effect: SideEffect, spans: &[ArgumentSpan]) -> String {
    let changes = match effect {
        SideEffect::External => "it reaches beyond the workspace",
        _ => "it changes files of the workspace",
    };
    if !step.plan_labels.is_trusted() {
        return format!(
            "this step was planned after content had been read that others may have written, and {changes}"
        );
    }
    let places: Vec<String> = spans.iter().map(|span| format!("`{}`", span.at)).collect();
    format!("others may have written what stands at {}, and {changes}", places.join(", "))
}
