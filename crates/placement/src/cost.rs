//! How long things take on which node, learned from every answer.
//!
//! Every figure is an exponentially weighted mean, so that a machine that gets slower or faster is followed within a few
//! answers. A prior (the node's own figures, or what its hardware suggests) weighs as much as one observation.

use std::collections::BTreeMap;

use kamil_protocol::{NodeId, node::ModelOffer, task::StepKind};

use crate::{fleet::FleetNode, prior};

/// Weight of the newest observation.
const ALPHA: f64 = 0.3;
/// Fewer tokens than this say nothing about a speed.
const LEAST_TOKENS: u32 = 8;
/// Assumed until the first answer: a tool's run.
const TOOL_MS: f64 = 500.0;
/// Assumed until the first answer: a recall or remember.
const MEMORY_MS: f64 = 15.0;
/// Assumed until the first answer: the way there and back.
const OVERHEAD_MS: f64 = 2.0;

/// What one call of `POST /v1/reason` cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// Of those, tokens that were cached.
    pub tokens_cached: u32,
    /// Tokens written.
    pub tokens_out: u32,
    /// Time waited on the node.
    pub queue_ms: u64,
    /// Time spent reading the prompt.
    pub prefill_ms: u64,
    /// Time spent writing.
    pub decode_ms: u64,
    /// From sending the request to the end of the reply, as the orchestrator saw it; 0 if it did not measure.
    pub total_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.value = match self.count {
            0 => value,
            _ => self.value + ALPHA * (value - self.value),
        };
        self.count = self.count.saturating_add(1);
    }

    fn with_prior(self, prior: f64) -> f64 {
        let count = f64::from(self.count.min(20));
        (prior + self.value * count) / (1.0 + count)
    }
}

#[derive(Clone, Debug, Default)]
struct ModelCosts {
    prefill_ms_per_token: Mean,
    decode_ms_per_token: Mean,
    cached_share: BTreeMap<&'static str, Mean>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeCosts {
    models: BTreeMap<String, ModelCosts>,
    tools: BTreeMap<String, Mean>,
    overhead_ms: Mean,
    /// All answers of the node, for requests of which nothing is known but that they run.
    answer_ms: Mean,
}

/// How long things take on which node.
#[derive(Clone, Debug, Default)]
pub struct CostModel {
    nodes: BTreeMap<NodeId, NodeCosts>,
    tools: BTreeMap<String, Mean>,
}

/// Where a speed comes from, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Hardware,
    Reported,
    Observed(u32),
}

/// Speeds of a model on a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelSpeed {
    pub(crate) prefill_ms_per_token: f64,
    pub(crate) decode_ms_per_token: f64,
    pub(crate) cached_share: f64,
    pub(crate) basis: Basis,
}

const fn kind_name(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Recall => "recall",
        StepKind::Plan => "plan",
        StepKind::Reason => "reason",
        StepKind::Tool => "tool",
        StepKind::Answer => "answer",
        StepKind::Remember => "remember",
    }
}

impl CostModel {
    /// A model that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns from an answer of an LLM node to a step of this kind.
    pub fn observe(&mut self, node: NodeId, model: &str, kind: StepKind, observation: &Observation) {
        let costs = self.nodes.entry(node).or_default();
        let Observation { tokens_in, tokens_cached, tokens_out, queue_ms, prefill_ms, decode_ms, total_ms } =
            *observation;
        let learned = costs.models.entry(model.to_owned()).or_default();
        let read = tokens_in.saturating_sub(tokens_cached);
        if read >= LEAST_TOKENS {
            learned.prefill_ms_per_token.add(millis(prefill_ms) / f64::from(read));
        }
        if tokens_out >= LEAST_TOKENS {
            learned.decode_ms_per_token.add(millis(decode_ms) / f64::from(tokens_out));
        }
        if tokens_in >= LEAST_TOKENS {
            let share = f64::from(tokens_cached.min(tokens_in)) / f64::from(tokens_in);
            learned.cached_share.entry(kind_name(kind)).or_default().add(share);
        }
        let work_ms = queue_ms.saturating_add(prefill_ms).saturating_add(decode_ms);
        if total_ms > 0 {
            costs.overhead_ms.add(millis(total_ms.saturating_sub(work_ms)));
        }
        costs.answer_ms.add(millis(prefill_ms.saturating_add(decode_ms)));
    }

    /// Learns from a tool's run: `ms` from sending the request to its result.
    pub fn observe_tool(&mut self, node: NodeId, tool: &str, ms: u64) {
        let costs = self.nodes.entry(node).or_default();
        costs.tools.entry(tool.to_owned()).or_default().add(millis(ms));
        costs.answer_ms.add(millis(ms));
        self.tools.entry(tool.to_owned()).or_default().add(millis(ms));
    }

    /// Learns from an answer of a memory node to a `recall` or `remember` step.
    pub fn observe_memory(&mut self, node: NodeId, kind: StepKind, ms: u64) {
        self.observe_tool(node, kind_name(kind), ms);
    }

    /// Forgets every node for which `keep` says no, so that the model stays as small as the fleet.
    pub fn retain_nodes(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        self.nodes.retain(|id, _| keep(*id));
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<&NodeCosts> {
        self.nodes.get(&node)
    }

    /// Predicted run of a tool or of a memory step, in milliseconds, and whether this node was observed.
    pub(crate) fn run_ms(
        &self,
        node: Option<&NodeCosts>,
        kind: StepKind,
        tool: Option<&str>,
    ) -> (f64, Basis) {
        let (name, unknown) = match (kind, tool) {
            (StepKind::Tool, Some(tool)) => (tool, TOOL_MS),
            (StepKind::Tool, None) => ("", TOOL_MS),
            _ => (kind_name(kind), MEMORY_MS),
        };
        let elsewhere = self.tools.get(name).map_or(unknown, |mean| mean.with_prior(unknown));
        match node.and_then(|costs| costs.tools.get(name)) {
            Some(mean) => (mean.with_prior(elsewhere), Basis::Observed(mean.count)),
            None => (elsewhere, Basis::Hardware),
        }
    }
}

impl NodeCosts {
    /// Predicted time of a request of which nothing else is known.
    pub(crate) fn answer_ms(costs: Option<&Self>) -> Option<f64> {
        costs.filter(|costs| costs.answer_ms.count > 0).map(|costs| costs.answer_ms.value)
    }

    pub(crate) fn overhead_ms(costs: Option<&Self>) -> f64 {
        costs.map_or(OVERHEAD_MS, |costs| costs.overhead_ms.with_prior(OVERHEAD_MS))
    }

    pub(crate) fn speed(
        costs: Option<&Self>,
        node: &FleetNode<'_>,
        offer: &ModelOffer,
        kind: StepKind,
    ) -> ModelSpeed {
        let hardware = prior::speed(node.hardware, offer);
        let reported = |figure: Option<f32>| figure.map(f64::from).filter(|speed| *speed > 0.01);
        let prefill = reported(offer.prefill_tokens_per_s);
        let decode = reported(offer.decode_tokens_per_s);
        let prefill_ms = 1_000.0 / prefill.unwrap_or(hardware.prefill);
        let decode_ms = 1_000.0 / decode.unwrap_or(hardware.decode);
        let prior_basis =
            if prefill.is_some() && decode.is_some() { Basis::Reported } else { Basis::Hardware };
        let Some(learned) = costs.and_then(|costs| costs.models.get(&offer.name)) else {
            return ModelSpeed {
                prefill_ms_per_token: prefill_ms,
                decode_ms_per_token: decode_ms,
                cached_share: 0.0,
                basis: prior_basis,
            };
        };
        let observed = learned.prefill_ms_per_token.count.max(learned.decode_ms_per_token.count);
        ModelSpeed {
            prefill_ms_per_token: learned.prefill_ms_per_token.with_prior(prefill_ms),
            decode_ms_per_token: learned.decode_ms_per_token.with_prior(decode_ms),
            cached_share: learned
                .cached_share
                .get(kind_name(kind))
                .map_or(0.0, |share| share.with_prior(0.0)),
            basis: if observed > 0 { Basis::Observed(observed) } else { prior_basis },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 milliseconds")]
const fn millis(ms: u64) -> f64 {
    ms as f64
}
