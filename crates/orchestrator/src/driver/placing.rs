//! Finding a node for every step that is ready, and waiting where there is none.

use std::{sync::Arc, time::Duration};

use kamil_placement::{Avoid, Decision, Policy};
use kamil_plan::{Effect, Input, Step};
use kamil_protocol::{
    ErrorCode, NodeId, StepId,
    node::Role,
    task::{MAX_STEPS, QueuePlace, StepError, StepKind, StepStatus},
    tool::SideEffect,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Driver,
    attempt::Attempt,
    decision,
    request::{self, Prepared},
};
use crate::{
    dispatcher::{Grant, Waiter},
    registry::{Busy, Handle},
    sessions::Turn,
};

/// A step that waits for a node is looked at again this often, though nothing has been heard.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why a `remember` step does not run.
pub(crate) const NOTHING_TO_KEEP: &str = "There is nothing to keep.";

impl Driver {
    /// Starts, in the batch, every ready step that a node can take; the attempts are to be made once that is durable.
    pub(super) fn place(&mut self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        // A step that cannot be started may make others ready.
        loop {
            let before = self.batch.events.len();
            let prepared = self.prepare();
            self.place_set(prepared, &mut attempts);
            if self.batch.events.len() == before {
                return attempts;
            }
        }
    }

    fn prepare(&mut self) -> Vec<Prepared> {
        let now = Instant::now();
        let ready = self.task.effects().into_iter().filter_map(|effect| match effect {
            Effect::Start(step) => Some(step),
            Effect::Stop { .. } => None,
        });
        let ready: Vec<StepId> = ready
            .filter(|step| {
                self.notes.get(step).is_none_or(|note| {
                    note.ticket.is_none() && note.not_before.is_none_or(|moment| moment <= now)
                })
            })
            .collect();
        if ready.is_empty() || self.held(&ready) {
            return Vec::new();
        }
        self.refresh_tools();
        let mut prepared = Vec::with_capacity(ready.len());
        for id in ready {
            match self.prepare_step(&id) {
                Ok(Some(step)) => prepared.push(step),
                Ok(None) => {
                    self.advance(Input::Needless { step: id, reason: NOTHING_TO_KEEP.to_owned() });
                }
                Err(error) => self.give_up(id, error),
            }
        }
        prepared
    }

    /// Whether an earlier task of the session has to end first, which the steps then say.
    fn held(&mut self, ready: &[StepId]) -> bool {
        let ahead = self.turn.as_ref().and_then(Turn::ahead);
        self.held = ahead.is_some();
        if let Some(ahead) = ahead {
            let reason =
                format!("Task {ahead} of the same session was asked for before; it has to end first.");
            for step in ready {
                self.advance(Input::Waiting { step: step.clone(), reason: reason.clone() });
            }
        }
        self.held
    }

    fn prepare_step(&self, id: &StepId) -> Result<Option<Prepared>, StepError> {
        let Some(step) = self.task.step(id) else { return Ok(None) };
        let written = if step.spec.kind == StepKind::Answer { self.live.feed.written() } else { None };
        let ctx = self.known.context_of(&self.task, step.spec.kind);
        request::prepare(&ctx, &self.task, step, written, self.batch.at)
    }

    /// The whole ready set is placed together, except for steps that may go to one node only.
    fn place_set(&mut self, prepared: Vec<Prepared>, attempts: &mut Vec<Attempt>) {
        let (pinned, free): (Vec<_>, Vec<_>) =
            prepared.into_iter().partition(|step| self.pinned_to(&step.step).is_some());
        for step in pinned {
            let only = self.pinned_to(&step.step);
            let needs = std::slice::from_ref(&step.needs);
            let decision = self.hub.registry.place(needs, &Policy::default(), only).pop();
            self.settle_decision(step, decision.unwrap_or_default(), attempts);
        }
        if free.is_empty() {
            return;
        }
        let needs: Vec<_> = free.iter().map(|step| step.needs.clone()).collect();
        let policy = Policy { avoid: self.avoided(&free), ..Policy::default() };
        let mut decisions = self.hub.registry.place(&needs, &policy, None);
        if !policy.avoid.is_empty() {
            self.second_chance(&free, &mut decisions);
        }
        for (step, decision) in free.into_iter().zip(decisions) {
            self.settle_decision(step, decision, attempts);
        }
    }

    /// The node that alone may be asked: an earlier attempt there may have had its effect, and only that node can tell.
    fn pinned_to(&self, id: &StepId) -> Option<NodeId> {
        decision::pinned_to(&self.known, self.task.step(id)?)
    }

    fn avoided(&self, prepared: &[Prepared]) -> Vec<Avoid> {
        let mut avoid = Vec::new();
        for (place, prepared) in prepared.iter().enumerate() {
            let failed = self.task.step(&prepared.step).map_or(&[][..], |step| &step.failed_on);
            let reason = "an earlier attempt failed there";
            avoid.extend(failed.iter().map(|node| Avoid {
                step: Some(place),
                node: *node,
                reason: reason.to_owned(),
            }));
        }
        avoid
    }

    /// A node on which an attempt failed is better than none.
    fn second_chance(&self, prepared: &[Prepared], decisions: &mut [Decision]) {
        for (prepared, decision) in prepared.iter().zip(decisions) {
            if decision.placement.chosen.is_some() {
                continue;
            }
            let needs = std::slice::from_ref(&prepared.needs);
            if let Some(again) = self.hub.registry.place(needs, &Policy::default(), None).pop() {
                *decision = again;
            }
        }
    }

    fn settle_decision(&mut self, prepared: Prepared, decision: Decision, attempts: &mut Vec<Attempt>) {
        let chosen = decision.placement.chosen.as_ref();
        let node = chosen.and_then(|chosen| self.hub.registry.handle(chosen.node));
        let (Some(chosen), Some(node)) = (chosen, node) else {
            self.wait_for_node(&prepared, &decision);
            return;
        };
        match self.hub.dispatcher.slot_now(node.role, &node, chosen.predicted_ms) {
            Some(busy) => attempts.extend(self.start(prepared, decision, node, busy)),
            None => self.wait_for_slot(prepared),
        }
    }

    /// Starts a step, in the batch, on the slot that was taken for it.
    fn start(&mut self, prepared: Prepared, decision: Decision, node: Handle, busy: Busy) -> Option<Attempt> {
        let chosen = decision.placement.chosen.clone()?;
        let splice = self.splice(&prepared, chosen.model.as_deref());
        let prepared = prepared.aimed_at(chosen.model.as_deref());
        let mut prepared = prepared;
        prepared.limit(self.task.tokens_left());
        let placed = Input::Placed {
            step: prepared.step.clone(),
            node: chosen.node,
            model: chosen.model.clone(),
            effect: self.effect_of(&prepared.step, chosen.node),
            max_tokens: prepared.max_tokens(),
            lease_ms: prepared.lease_ms,
            placement: decision.placement,
            request_digest: Some(prepared.digest()),
            degraded: decision.degraded,
        };
        if !self.advance(placed) {
            return None;
        }
        self.stop_waiting(&prepared.step);
        if let Some(splice) = splice {
            self.advance(splice);
        }
        // Where the person is asked first, or the task's tokens are used up, nothing runs.
        let step = self.task.step(&prepared.step).filter(|step| step.status == StepStatus::Running)?;
        let number = step.attempt;
        let (hub, feed) = (Arc::clone(&self.hub), Arc::clone(&self.live.feed));
        Some(Attempt { hub, feed, prepared, number, node, busy })
    }

    /// What there is of an answer that another attempt began: this one goes on from there.
    fn splice(&self, prepared: &Prepared, model: Option<&str>) -> Option<Input> {
        let step = self.task.step(&prepared.step).filter(|step| step.spec.kind == StepKind::Answer)?;
        let offset = self.live.feed.written_chars();
        let from = step.node.filter(|_| offset > 0)?;
        let from_model = step.model.clone().filter(|before| model.is_some_and(|model| model != before));
        Some(Input::Spliced { step: prepared.step.clone(), offset, from, from_model })
    }

    /// What a step's tool may change, as the node says that would run it.
    fn effect_of(&self, step: &StepId, node: NodeId) -> Option<SideEffect> {
        let name = self.task.step(step)?.spec.tool.as_deref()?;
        self.hub.registry.tool(node, name).map(|tool| tool.side_effect)
    }

    /// Every node that suits the step is full: it joins the queue, and says at which place.
    fn wait_for_slot(&mut self, prepared: Prepared) {
        let now = Instant::now();
        let only = self.pinned_to(&prepared.step);
        let Some(step) = self.task.step(&prepared.step) else { return };
        let (grants, _) = self.grants.get_or_insert_with(|| mpsc::channel(MAX_STEPS));
        let waiter = Waiter {
            task: self.task.id(),
            step: prepared.step.clone(),
            needs: prepared.needs,
            failed_on: step.failed_on.clone(),
            only,
            reply: grants.clone(),
        };
        let note = self.notes.entry(prepared.step.clone()).or_default();
        // One that a full node turned away keeps its age.
        let since = *note.queued_since.get_or_insert(now);
        note.not_before = None;
        let ticket = self.hub.dispatcher.join(self.task.request().priority, since, waiter);
        let place = ticket.place();
        self.note_missing(&prepared.step, false);
        if let Some(note) = self.notes.get_mut(&prepared.step) {
            note.ticket = Some(ticket);
        }
        let reason = queued(prepared.kind, place);
        self.advance(Input::Waiting { step: prepared.step, reason });
    }

    /// The dispatcher has found a slot, or that no node could run the step any more.
    pub(super) fn take_grant(&mut self, grant: Grant) {
        let Grant { step, decision, slot } = grant;
        if let Some(note) = self.notes.get_mut(&step) {
            note.ticket = None;
        }
        if self.task.step(&step).is_none_or(|step| step.status != StepStatus::Ready) {
            return;
        }
        self.refresh_tools();
        let prepared = match self.prepare_step(&step) {
            Ok(Some(prepared)) => prepared,
            // What has become of it is seen when the ready steps are next looked at.
            Ok(None) => return,
            Err(error) => return self.give_up(step, error),
        };
        match slot {
            Some((node, busy)) => {
                let attempt = self.start(prepared, decision, node, busy);
                self.granted.extend(attempt);
            }
            None => self.wait_for_node(&prepared, &decision),
        }
    }

    /// No node could take the step, full or not: it waits, and says for what, until it has waited for too long.
    fn wait_for_node(&mut self, prepared: &Prepared, decision: &Decision) {
        let now = Instant::now();
        let limit = self.hub.options.no_node_wait;
        self.note_missing(&prepared.step, true);
        let note = self.notes.entry(prepared.step.clone()).or_default();
        let since = note.waiting_since.unwrap_or(now);
        let missing = missing(prepared, decision);
        if now.duration_since(since) < limit {
            note.not_before = Some(now + LOOK_AGAIN.min(limit / 4));
            self.advance(Input::Waiting { step: prepared.step.clone(), reason: missing });
            return;
        }
        self.stop_waiting(&prepared.step);
        if self.pinned_to(&prepared.step).is_some() {
            let reason = "The node that was running it has not come back, and no other can tell whether it had its effect.";
            self.advance(Input::Doubted { step: prepared.step.clone(), reason: reason.to_owned() });
            return;
        }
        let error =
            StepError { code: ErrorCode::NoNode, detail: missing, next_step: Some(start_hint(prepared)) };
        self.give_up(prepared.step.clone(), error);
    }

    /// Begins or ends the wait for a node that is not there.
    fn note_missing(&mut self, step: &StepId, missing: bool) {
        let note = self.notes.entry(step.clone()).or_default();
        match (missing, note.waiting_since) {
            (true, None) => {
                note.waiting_since = Some(Instant::now());
                self.hub.measures.waiting_steps.add(1);
            }
            (false, Some(_)) => {
                note.waiting_since = None;
                self.hub.measures.waiting_steps.add(-1);
            }
            _ => {}
        }
    }

    fn stop_waiting(&mut self, step: &StepId) {
        if self.notes.contains_key(step) {
            self.note_missing(step, false);
        }
        if let Some(note) = self.notes.get_mut(step) {
            (note.not_before, note.ticket) = (None, None);
        }
    }

    /// Fails a step before an attempt at it.
    fn give_up(&mut self, step: StepId, error: StepError) {
        self.advance(decision::give_up(&self.known, &self.task, step, error));
    }

    /// When to look again at steps that wait for something else than a slot, if any do.
    pub(super) fn look_at(&self) -> Option<Instant> {
        if self.held {
            return None;
        }
        let ready = self.task.effects().into_iter().filter_map(|effect| match effect {
            Effect::Start(step) => Some(step),
            Effect::Stop { .. } => None,
        });
        let now = Instant::now();
        let moment = |step: StepId| {
            let own = self.task.step(&step).and_then(|step| step.left_ms(self.batch.at));
            let overdue = own.map(|left| now + Duration::from_millis(left));
            let again = match self.notes.get(&step) {
                Some(note) if note.ticket.is_some() => None,
                Some(note) => Some(note.not_before.unwrap_or(now + LOOK_AGAIN)),
                None => Some(now + LOOK_AGAIN),
            };
            overdue.into_iter().chain(again).min()
        };
        ready.filter_map(moment).min()
    }

    /// A node came, went, or changed, or time passed: what waits for a node is looked at now, and what waited for too long fails.
    pub(super) fn hurry(&mut self) {
        for note in self.notes.values_mut().filter(|note| note.waiting_since.is_some()) {
            note.not_before = None;
        }
        let waits = |step: &&Step| step.status == StepStatus::Ready && step.left_ms(self.batch.at) == Some(0);
        let overdue: Vec<(StepId, StepError)> = self
            .task
            .steps()
            .iter()
            .filter(waits)
            .map(|step| (step.id().clone(), request::overdue(step)))
            .collect();
        for (step, error) in overdue {
            self.stop_waiting(&step);
            self.give_up(step, error);
        }
    }

    /// Steps that stopped being ready give up their places in the queue.
    pub(super) fn leave_queue(&mut self) {
        for (step, note) in &mut self.notes {
            let ready = self.task.step(step).is_some_and(|step| step.status == StepStatus::Ready);
            if note.ticket.is_some() && !ready {
                note.ticket = None;
            }
        }
    }
}

/// What a step says that waits for a slot.
pub(crate) fn queued(kind: StepKind, place: Option<QueuePlace>) -> String {
    let node = match kamil_placement::fleet::role_for(kind) {
        Role::Tool => "tool",
        Role::Memory => "memory",
        _ => "LLM",
    };
    match place {
        Some(QueuePlace { position, of }) => {
            format!("Every {node} node that suits it is full; position {position} of {of} in the queue.")
        }
        None => format!("A slot on a {node} node has come free."),
    }
}

fn missing(prepared: &Prepared, decision: &Decision) -> String {
    let needs = &prepared.needs;
    let what = match (kamil_placement::fleet::role_for(prepared.kind), &needs.tool, &needs.model) {
        (Role::Tool, Some(tool), _) => format!("No tool node that offers `{tool}` is there now."),
        (Role::Llm, _, Some(model)) => format!("No LLM node that can run `{model}` is there now."),
        (Role::Llm, ..) => "No LLM node that can run this is there now.".to_owned(),
        (Role::Memory, ..) => "No memory node is there now.".to_owned(),
        _ => "No node that can run this is there now.".to_owned(),
    };
    let rejected = decision.placement.rejected.iter().take(4);
    let rejected: Vec<_> =
        rejected.map(|rejected| format!("`{}`: {}", rejected.name, rejected.reason)).collect();
    if rejected.is_empty() { what } else { format!("{what} ({})", rejected.join("; ")) }
}

fn start_hint(prepared: &Prepared) -> String {
    match kamil_placement::fleet::role_for(prepared.kind) {
        Role::Tool => "Start a tool node: kamil tool-node 8002 localhost:8000.",
        Role::Memory => "Start a memory node: kamil memory-node 8003 localhost:8000.",
        _ => "Start an LLM node: kamil llm-node 8001 MODEL localhost:8000.",
    }
    .to_owned()
}
