//! Finding a node for every step that is ready, and waiting where there is none.

use std::{sync::Arc, time::Duration};

use kamil_placement::{Avoid, Decision, Policy};
use kamil_plan::{Effect, Input};
use kamil_protocol::{
    ErrorCode, NodeId, StepId,
    node::Role,
    task::{StepError, StepKind, StepStatus},
    tool::SideEffect,
};
use tokio::time::Instant;

use super::{
    Driver,
    attempt::Attempt,
    decision, left_ms,
    request::{self, Prepared},
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
                let note = self.notes.get(step);
                note.and_then(|note| note.not_before).is_none_or(|moment| moment <= now)
            })
            .collect();
        if ready.is_empty() {
            return Vec::new();
        }
        self.refresh_tools();
        let left = left_ms(&self.task, self.batch.at);
        let mut prepared = Vec::with_capacity(ready.len());
        for id in ready {
            match self.prepare_step(&id, left) {
                Ok(Some(step)) => prepared.push(step),
                Ok(None) => {
                    self.advance(Input::Needless { step: id, reason: NOTHING_TO_KEEP.to_owned() });
                }
                Err(error) => self.give_up(id, error),
            }
        }
        prepared
    }

    fn prepare_step(&self, id: &StepId, left_ms: u64) -> Result<Option<Prepared>, StepError> {
        let Some(step) = self.task.step(id) else { return Ok(None) };
        let written = if step.spec.kind == StepKind::Answer { self.live.feed.written() } else { None };
        let ctx = self.known.context_of(&self.task, step.spec.kind);
        request::prepare(&ctx, &self.task, step, written, left_ms)
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
        let now = Instant::now();
        let mut avoid = Vec::new();
        for (place, prepared) in prepared.iter().enumerate() {
            let failed = self.task.step(&prepared.step).map_or(&[][..], |step| &step.failed_on);
            let failed = failed.iter().map(|node| (*node, "an earlier attempt failed there"));
            let full = self.notes.get(&prepared.step).map_or(&[][..], |note| &note.full);
            let full =
                full.iter().filter(|(_, until)| *until > now).map(|(node, _)| (*node, "it is full now"));
            let reasons = failed.chain(full);
            avoid.extend(reasons.map(|(node, reason)| Avoid {
                step: Some(place),
                node,
                reason: reason.to_owned(),
            }));
        }
        avoid
    }

    /// A node on which an attempt failed is better than none; a full one is not.
    fn second_chance(&self, prepared: &[Prepared], decisions: &mut [Decision]) {
        let now = Instant::now();
        for (prepared, decision) in prepared.iter().zip(decisions) {
            if decision.placement.chosen.is_some() {
                continue;
            }
            let full = self.notes.get(&prepared.step).map_or(&[][..], |note| &note.full);
            let still = full.iter().filter(|(_, until)| *until > now);
            let avoid =
                still.map(|(node, _)| Avoid { step: None, node: *node, reason: "it is full now".to_owned() });
            let policy = Policy { avoid: avoid.collect(), ..Policy::default() };
            let needs = std::slice::from_ref(&prepared.needs);
            if let Some(again) = self.hub.registry.place(needs, &policy, None).pop() {
                *decision = again;
            }
        }
    }

    fn settle_decision(&mut self, prepared: Prepared, decision: Decision, attempts: &mut Vec<Attempt>) {
        let chosen = decision.placement.chosen.as_ref();
        let handle = chosen.and_then(|chosen| self.hub.registry.handle(chosen.node));
        let (Some(chosen), Some(node)) = (chosen.cloned(), handle) else {
            self.wait(&prepared, &decision);
            return;
        };
        let prepared = prepared.aimed_at(chosen.model.as_deref());
        let placed = Input::Placed {
            step: prepared.step.clone(),
            node: chosen.node,
            model: chosen.model.clone(),
            effect: self.effect_of(&prepared.step, chosen.node),
            lease_ms: prepared.lease_ms,
            placement: decision.placement,
            request_digest: Some(prepared.digest()),
            degraded: decision.degraded,
        };
        if !self.advance(placed) {
            return;
        }
        self.stop_waiting(&prepared.step);
        let Some(step) = self.task.step(&prepared.step).filter(|step| step.status == StepStatus::Running)
        else {
            // The person is asked first.
            return;
        };
        let number = step.attempt;
        let busy = self.hub.registry.occupy(&node, chosen.predicted_ms);
        attempts.push(Attempt {
            hub: Arc::clone(&self.hub),
            feed: Arc::clone(&self.live.feed),
            prepared,
            number,
            node,
            busy,
        });
    }

    /// What a step's tool may change, as the node says that would run it.
    fn effect_of(&self, step: &StepId, node: NodeId) -> Option<SideEffect> {
        let name = self.task.step(step)?.spec.tool.as_deref()?;
        self.hub.registry.tool(node, name).map(|tool| tool.side_effect)
    }

    /// No node can take the step now: it waits, and says for what, until it has waited for too long.
    fn wait(&mut self, prepared: &Prepared, decision: &Decision) {
        let now = Instant::now();
        let limit = self.hub.options.no_node_wait;
        let waiting = &self.hub.measures.waiting_steps;
        let note = self.notes.entry(prepared.step.clone()).or_default();
        let first = note.waiting_since.is_none();
        let since = *note.waiting_since.get_or_insert(now);
        if first {
            waiting.add(1);
        }
        note.full.retain(|(_, until)| *until > now);
        let full = !note.full.is_empty();
        if full {
            // Waiting for a full node is bounded by the task's deadline.
            note.not_before = note.full.iter().map(|(_, until)| *until).min();
            let place = waiting.get();
            let reason = format!("Every node that could run it is full; about {place} steps wait.");
            self.advance(Input::Waiting { step: prepared.step.clone(), reason });
            return;
        }
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

    fn stop_waiting(&mut self, step: &StepId) {
        if let Some(note) = self.notes.get_mut(step) {
            note.not_before = None;
            if note.waiting_since.take().is_some() {
                self.hub.measures.waiting_steps.add(-1);
            }
        }
    }

    /// Fails a step before an attempt at it.
    fn give_up(&mut self, step: StepId, error: StepError) {
        self.advance(decision::give_up(&self.known, &self.task, step, error));
    }

    /// When to look again at steps that wait, if any do.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let ready = self.task.effects().into_iter().filter_map(|effect| match effect {
            Effect::Start(step) => Some(step),
            Effect::Stop { .. } => None,
        });
        let now = Instant::now();
        ready
            .map(|step| self.notes.get(&step).and_then(|note| note.not_before).unwrap_or(now + LOOK_AGAIN))
            .min()
    }

    /// A node came, went, or changed: what waits for a node, and not for a full one, is looked at now.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        for note in self.notes.values_mut() {
            note.full.retain(|(_, until)| *until > now);
            if note.waiting_since.is_some() && note.full.is_empty() {
                note.not_before = None;
            }
        }
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
