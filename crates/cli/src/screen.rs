//! A running task on the terminal: the answer on standard output as it is written, the steps as short lines on
//! standard error.

use std::collections::HashMap;

use jiff::Timestamp;
use kamil_protocol::{
    StepId,
    event::{Delta, EventRecord, TaskEvent},
    task::{StepKind, StepSpec, TaskStatus},
};

use crate::{
    table::duration_ms,
    terminal::{BAD, DIM, Stream, WARN, neutralise, one_line},
};

/// What of the task is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Steps and answer.
    All,
    /// Steps alone: the answer follows in another form.
    Steps,
}

struct Step {
    spec: StepSpec,
    node: String,
    model: Option<String>,
    started_at: Option<Timestamp>,
}

/// What is on the screen of one task.
pub(crate) struct Screen {
    shown: Shown,
    steps: HashMap<StepId, Step>,
    /// The answer so far, as far as it has been written out.
    answer: String,
    line_is_open: bool,
    /// The last record that was shown.
    last_seq: Option<u64>,
}

impl Screen {
    pub(crate) fn new(shown: Shown) -> Self {
        Self { shown, steps: HashMap::new(), answer: String::new(), line_is_open: false, last_seq: None }
    }

    /// The last record that is on the screen: what follows has not been shown yet.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// A line about the task, dim.
    pub(crate) fn note(&mut self, text: &str) {
        self.styled(DIM, &format!("· {text}"));
    }

    /// Ends a line of the answer that has no end yet, so that what follows stands on its own.
    pub(crate) fn break_line(&mut self) {
        if std::mem::take(&mut self.line_is_open) {
            Stream::Out.text("\n");
        }
    }

    /// Shows a piece of the answer.
    pub(crate) fn delta(&mut self, delta: &Delta) {
        let keep: String =
            self.answer.chars().take(usize::try_from(delta.offset).unwrap_or(usize::MAX)).collect();
        self.show_answer(&(keep + &delta.text));
    }

    /// Shows what happened.
    pub(crate) fn record(&mut self, record: &EventRecord) {
        self.last_seq = Some(record.seq);
        match &record.event {
            TaskEvent::StepsAdded { cause, steps, .. } => self.added(cause.as_ref(), steps),
            TaskEvent::Degraded { reason } => self.styled(WARN, &format!("! {reason}")),
            TaskEvent::StepStarted { step, attempt, model, placement, .. } => {
                let node = placement
                    .chosen
                    .as_ref()
                    .map_or_else(|| "a node".to_owned(), |chosen| chosen.name.clone());
                self.started(step, *attempt, &node, model.clone(), record.at);
            }
            TaskEvent::StreamSpliced { .. } => self.note("the answer goes on where it broke off"),
            TaskEvent::StepWaiting { step, reason } => self.styled(WARN, &format!("{step} waits: {reason}")),
            TaskEvent::StepSucceeded { step, .. } => self.succeeded(step, record.at),
            TaskEvent::StepFailed { step, error, retry, .. } => {
                let then = if *retry { "; it is tried again" } else { "" };
                self.styled(BAD, &format!("✗ {step} failed: {}{then}", error.detail));
            }
            TaskEvent::StepOutcomeUnknown { step, reason, .. } => {
                self.styled(WARN, &format!("? {step}: nobody knows whether it has happened: {reason}"));
            }
            TaskEvent::StepCancelled { step, reason } => self.note(&format!("{step} is not run: {reason}")),
            TaskEvent::CancelRequested { reason } => self.note(&format!("stopping: {reason}")),
            TaskEvent::TaskCompleted { status: TaskStatus::Cancelled, .. } => {
                self.note("the task was stopped")
            }
            TaskEvent::TaskCompleted { answer, error, .. } => {
                if let Some(answer) = answer {
                    self.show_answer(answer);
                }
                self.break_line();
                if let Some(error) = error {
                    self.styled(BAD, &format!("✗ the task failed: {} [{}]", error.detail, error.code));
                    if let Some(next) = &error.next_step {
                        self.note(&format!("next: {next}"));
                    }
                }
            }
            TaskEvent::TaskCreated { .. }
            | TaskEvent::ToolsChanged { .. }
            | TaskEvent::ResultKept { .. }
            | TaskEvent::ResultGiven { .. }
            | TaskEvent::ApprovalRequested { .. }
            | TaskEvent::ApprovalDecided { .. } => {}
        }
    }

    fn added(&mut self, cause: Option<&StepId>, steps: &[StepSpec]) {
        for spec in steps {
            let step = Step { spec: spec.clone(), node: String::new(), model: None, started_at: None };
            self.steps.insert(spec.id.clone(), step);
        }
        let planned = cause
            .and_then(|cause| self.steps.get(cause))
            .is_some_and(|step| step.spec.kind == StepKind::Plan);
        if planned {
            let names: Vec<&str> =
                steps.iter().map(|spec| spec.tool.as_deref().unwrap_or(spec.id.as_str())).collect();
            self.note(&format!("the plan: {}", names.join(", ")));
        }
    }

    fn started(&mut self, id: &StepId, attempt: u32, node: &str, model: Option<String>, at: Timestamp) {
        let Some(step) = self.steps.get_mut(id) else { return };
        node.clone_into(&mut step.node);
        step.model = model;
        step.started_at = Some(at);
        if step.spec.kind == StepKind::Remember && attempt == 1 {
            return;
        }
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        let what = describe(&step.spec);
        let place = where_it_runs(step);
        self.note(&format!("{what} → {place}{again}"));
    }

    fn succeeded(&mut self, id: &StepId, at: Timestamp) {
        let Some(step) = self.steps.get(id) else { return };
        if matches!(step.spec.kind, StepKind::Answer | StepKind::Remember) {
            return;
        }
        let took = step.started_at.map_or(0, |started| at.as_millisecond() - started.as_millisecond());
        let line = format!("{} ✓ {}", describe(&step.spec), duration_ms(took));
        self.note(&line);
    }

    /// Brings what is on the screen to this text: the rest of it, or, if the beginning has changed, all of it anew.
    fn show_answer(&mut self, text: &str) {
        if self.shown == Shown::All {
            let new = match text.strip_prefix(self.answer.as_str()) {
                Some(rest) => rest,
                // Less than what is there already: what is missing will come.
                None if self.answer.starts_with(text) => return,
                None => {
                    self.break_line();
                    self.note("the answer starts again");
                    text
                }
            };
            if !new.is_empty() {
                Stream::Out.text(neutralise(new));
                self.line_is_open = !new.ends_with('\n');
            }
        }
        text.clone_into(&mut self.answer);
    }

    fn styled(&mut self, style: anstyle::Style, text: &str) {
        // Elsewhere than on one terminal, the answer and the notes do not meet: a break would stand in the middle of the answer.
        if Stream::Out.is_terminal() && Stream::Err.is_terminal() {
            self.break_line();
        }
        Stream::Err.line(Stream::Err.paint(style, one_line(text, 200)));
    }
}

fn describe(spec: &StepSpec) -> String {
    match (&spec.tool, spec.kind) {
        (Some(tool), _) => tool.clone(),
        (None, kind) => kind_name(kind).to_owned(),
    }
}

fn where_it_runs(step: &Step) -> String {
    match &step.model {
        Some(model) => format!("{} ({model})", step.node),
        None => step.node.clone(),
    }
}

/// The kind as it stands on the wire.
pub(crate) fn kind_name(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Recall => "recall",
        StepKind::Plan => "plan",
        StepKind::Reason => "reason",
        StepKind::Tool => "tool",
        StepKind::Answer => "answer",
        StepKind::Remember => "remember",
    }
}
