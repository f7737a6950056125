//! Predicted time to completion of a step on a candidate, part by part.

use std::fmt;

use kamil_protocol::{node::ModelOffer, placement::StepNeeds};

use crate::{
    cost::{Basis, CostModel, NodeCosts},
    fleet::FleetNode,
    prior,
    words::{Count, Ms},
};

/// More slots than this are not told apart.
const MAX_SLOTS: usize = 1_024;
/// Assumed for a request that runs on a node of which nothing is known.
const UNKNOWN_ANSWER_MS: f64 = 2_000.0;

/// A node with what this call has placed on it so far.
pub(crate) struct NodeState<'a> {
    pub(crate) node: &'a FleetNode<'a>,
    pub(crate) costs: Option<&'a NodeCosts>,
    /// When each slot is free, in milliseconds from now.
    slots: Vec<f64>,
    /// Requests on the node, running or waiting.
    busy: usize,
    /// Memory promised to steps of this call, in bytes.
    pub(crate) claimed: u64,
    loaded: Vec<&'a str>,
}

impl<'a> NodeState<'a> {
    #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 milliseconds")]
    pub(crate) fn new(node: &'a FleetNode<'a>, costs: &'a CostModel) -> Self {
        let known = costs.of(node.id);
        let slots = (node.capabilities.slots as usize).clamp(1, MAX_SLOTS);
        let mut state =
            Self { node, costs: known, slots: vec![0.0; slots], busy: 0, claimed: 0, loaded: Vec::new() };
        for remaining in &node.in_flight {
            state.occupy(*remaining as f64);
        }
        // Only the orchestrator gives work to a node, so the heartbeat counts the same requests once more, and at most a
        // few that have just ended or that an earlier orchestrator gave.
        let reported =
            (node.load.running as usize).saturating_add(node.load.queued as usize).min(4 * MAX_SLOTS);
        let typical = NodeCosts::answer_ms(known).unwrap_or(UNKNOWN_ANSWER_MS);
        for _ in node.in_flight.len()..reported {
            state.occupy(typical / 2.0);
        }
        state
    }

    fn occupy(&mut self, ms: f64) {
        self.busy += 1;
        let earliest = self.earliest();
        if let Some(slot) = self.slots.get_mut(earliest) {
            *slot += ms;
        }
    }

    fn earliest(&self) -> usize {
        let mut best = 0;
        for (index, free_at) in self.slots.iter().enumerate() {
            if *free_at < self.slots[best] {
                best = index;
            }
        }
        best
    }

    /// Whether the model needs no loading.
    pub(crate) fn has_loaded(&self, offer: &ModelOffer) -> bool {
        offer.resident || self.loaded.contains(&offer.name.as_str())
    }

    /// Counts a step in that was placed here.
    pub(crate) fn take(&mut self, prediction: &Prediction, offer: Option<&'a ModelOffer>, memory_bytes: u64) {
        self.occupy(prediction.total_ms() - prediction.wait_ms);
        self.claimed = self.claimed.saturating_add(memory_bytes);
        if let Some(offer) = offer
            && !self.has_loaded(offer)
        {
            self.claimed = self.claimed.saturating_add(prior::loaded_bytes(offer));
            self.loaded.push(&offer.name);
        }
    }
}

/// Predicted time, part by part, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) wait_ms: f64,
    load_ms: f64,
    read_ms: f64,
    tokens_read: u32,
    tokens_cached: u32,
    write_ms: f64,
    tokens_written: u32,
    run_ms: f64,
    overhead_ms: f64,
    /// Place in the node's queue; 0 starts at once.
    pub(crate) position: u32,
    pub(crate) basis: Basis,
}

impl Prediction {
    pub(crate) fn total_ms(&self) -> f64 {
        self.wait_ms + self.load_ms + self.read_ms + self.write_ms + self.run_ms + self.overhead_ms
    }

    /// Where the figures come from, for the person.
    pub(crate) fn basis(&self) -> String {
        match self.basis {
            Basis::Hardware => "its speed was never measured and is guessed".to_owned(),
            Basis::Reported => "its speed is what the node itself measured".to_owned(),
            Basis::Observed(count) => {
                format!("its speed is known from {}", Count(u64::from(count), "earlier answer"))
            }
        }
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "predicted {}", Ms(self.total_ms()))?;
        let mut separator = ": ";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            write!(f, "{separator}{text}")?;
            separator = ", ";
            Ok(())
        };
        if self.wait_ms >= 0.5 {
            part(f, format_args!("{} wait", Ms(self.wait_ms)))?;
        }
        if self.load_ms >= 0.5 {
            part(f, format_args!("{} loading the model", Ms(self.load_ms)))?;
        }
        if self.tokens_read > 0 {
            part(f, format_args!("{} reading {}", Ms(self.read_ms), Tokens(self.tokens_read, self.read_ms)))?;
        }
        if self.tokens_cached > 0 {
            part(f, format_args!("{} cached", Count(u64::from(self.tokens_cached), "token")))?;
        }
        if self.tokens_written > 0 {
            part(
                f,
                format_args!("{} writing {}", Ms(self.write_ms), Tokens(self.tokens_written, self.write_ms)),
            )?;
        }
        if self.run_ms >= 0.5 {
            part(f, format_args!("{} running", Ms(self.run_ms)))?;
        }
        if self.overhead_ms >= 0.5 {
            part(f, format_args!("{} on the way", Ms(self.overhead_ms)))?;
        }
        Ok(())
    }
}

struct Tokens(u32, f64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Count(u64::from(self.0), "token"))?;
        if self.1 > 0.0 { write!(f, " at {:.0}/s", f64::from(self.0) / self.1 * 1_000.0) } else { Ok(()) }
    }
}

/// Predicts a step on a node, and with a model where it needs one.
pub(crate) fn predict(
    state: &NodeState<'_>,
    offer: Option<&ModelOffer>,
    needs: &StepNeeds,
    costs: &CostModel,
) -> Prediction {
    let node = state.node;
    let wait_ms = state.slots[state.earliest()];
    let beside = state.slots.iter().filter(|free_at| **free_at > wait_ms).count();
    let ahead = (state.busy + 1).saturating_sub(state.slots.len());
    let mut prediction = Prediction {
        wait_ms,
        load_ms: 0.0,
        read_ms: 0.0,
        tokens_read: 0,
        tokens_cached: 0,
        write_ms: 0.0,
        tokens_written: 0,
        run_ms: 0.0,
        overhead_ms: NodeCosts::overhead_ms(state.costs),
        position: u32::try_from(ahead).unwrap_or(u32::MAX),
        basis: Basis::Hardware,
    };
    let beside = f64::from(u32::try_from(beside).unwrap_or(u32::MAX));
    let foreign = foreign_slowdown(state, offer);
    let Some(offer) = offer else {
        let (run_ms, basis) = costs.run_ms(state.costs, needs.kind, needs.tool.as_deref());
        let cores = f64::from(node.hardware.logical_cores.max(1));
        prediction.run_ms = run_ms * foreign * (1.0 + beside / cores);
        prediction.basis = basis;
        return prediction;
    };
    let speed = NodeCosts::speed(state.costs, node, offer, needs.kind);
    if !state.has_loaded(offer) {
        prediction.load_ms = bytes(offer.bytes) / prior::LOAD_BYTES_PER_MS;
    }
    let cached = share_of(needs.tokens_in, speed.cached_share);
    prediction.tokens_cached = cached;
    prediction.tokens_read = needs.tokens_in - cached;
    prediction.tokens_written = needs.tokens_out;
    // Sequences decoded together share one pass over the weights; prompts read together share the arithmetic.
    prediction.read_ms =
        f64::from(prediction.tokens_read) * speed.prefill_ms_per_token * foreign * (1.0 + beside);
    prediction.write_ms =
        f64::from(needs.tokens_out) * speed.decode_ms_per_token * foreign * (1.0 + 0.5 * beside);
    prediction.basis = speed.basis;
    prediction
}

/// Work of others on the machine, which shows only while none of ours runs: 1 (idle) to 2.
fn foreign_slowdown(state: &NodeState<'_>, offer: Option<&ModelOffer>) -> f64 {
    if state.busy > 0 {
        return 1.0;
    }
    let node = state.node;
    let accelerator = offer.and_then(|offer| prior::accelerator_for(node.hardware, offer));
    let busy = match accelerator {
        Some(accelerator) => accelerator.utilization.unwrap_or(0.0),
        None => node.load.cpu,
    };
    if busy.is_finite() { 1.0 + f64::from(busy.clamp(0.0, 1.0)) } else { 1.0 }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count lies between 0 and the count"
)]
fn share_of(tokens: u32, share: f64) -> u32 {
    ((f64::from(tokens) * share.clamp(0.0, 1.0)) as u32).min(tokens)
}
