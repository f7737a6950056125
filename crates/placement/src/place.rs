//! A whole set of ready steps, placed together.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write as _};

use kamil_protocol::{
    NodeId,
    node::{ModelOffer, Role},
    placement::{Candidate, Placement, Rejection, StepNeeds, Weight},
};

use crate::{
    constraint::{Explained, Obstacle, kind_name, model_obstacle, node_obstacle},
    cost::CostModel,
    fleet::{FleetNode, role_for},
    policy::Policy,
    predict::{NodeState, Prediction, predict},
    words::{Count, Ms},
};

/// Where a step goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The choice, and why, for the record and the person.
    pub placement: Placement,
    /// What is done less well than asked, for the person; also among the reasons.
    pub degraded: Vec<String>,
    /// Place in the chosen node's queue; 0 starts at once.
    pub position: u32,
    /// Of the predicted time, milliseconds until a slot of the chosen node is free.
    pub wait_ms: u64,
    /// Nothing was chosen, but a candidate would do once memory on it is free: worth asking again.
    pub may_fit_later: bool,
}

/// Decides where each of the steps runs, all of them together, so that independent steps are spread.
///
/// Steps are taken longest first (longest processing time first: Graham, "Bounds on Multiprocessing Timing Anomalies",
/// 1969), each to the candidate with the least predicted time to completion, what was placed before it counted in. A
/// candidate is a node of the role that the step's kind needs, with one of its models for steps of an LLM node. One decision
/// is returned for each step, in the order given; one without a choice says why in its reasons.
///
/// When nothing fits, the next smaller model (if [`Policy::replace_model`] allows it) is tried, then a node without the
/// accelerator asked for (if [`Policy::cpu_instead`] does), then both; what fits but is busy is queued for, with its
/// position told. Equal candidates are told apart by the larger model, then by node id.
#[must_use]
pub fn place(
    fleet: &[FleetNode<'_>],
    needs: &[StepNeeds],
    costs: &CostModel,
    policy: &Policy,
) -> Vec<Decision> {
    let mut states: Vec<NodeState<'_>> = fleet.iter().map(|node| NodeState::new(node, costs)).collect();
    states.sort_by_key(|state| state.node.id);
    let least = |index: usize, step: &StepNeeds| {
        candidates(&states, index, step, costs, policy)
            .into_iter()
            .filter_map(|candidate| candidate.verdict.ok())
            .map(|prediction| prediction.total_ms())
            .fold(f64::INFINITY, f64::min)
    };
    let mut order: Vec<(usize, f64)> =
        needs.iter().enumerate().map(|(index, step)| (index, least(index, step))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));

    let mut decisions = vec![Decision::default(); needs.len()];
    for (index, _) in order {
        let choice = choose(&states, index, &needs[index], costs, policy);
        decisions[index] = choice.explain(&states, &needs[index], policy);
        if let Some((candidate, prediction)) = choice.taken() {
            states[candidate.state].take(&prediction, candidate.offer, needs[index].memory_bytes);
        }
    }
    decisions
}

struct Weighed<'a> {
    state: usize,
    offer: Option<&'a ModelOffer>,
    verdict: Result<Prediction, Obstacle<'a>>,
    /// Lacks the wanted specialization.
    unspecialized: bool,
    /// How often its time counts for being smaller than the largest model that fits.
    size_factor: f64,
    on_battery: bool,
    score: f64,
}

impl Weighed<'_> {
    fn weight(&self) -> Weight {
        Weight { score_ms: self.score, bytes: self.offer.map_or(0, |offer| offer.bytes) }
    }
}

/// Every candidate, in the order of node ids and of the node's own models.
fn candidates<'a>(
    states: &[NodeState<'a>],
    index: usize,
    needs: &StepNeeds,
    costs: &CostModel,
    policy: &'a Policy,
) -> Vec<Weighed<'a>> {
    let role = role_for(needs.kind);
    let mut found = Vec::new();
    for (position, state) in states.iter().enumerate() {
        if state.node.role != role {
            continue;
        }
        let obstacle = node_obstacle(state.node, index, needs, policy, state.claimed);
        let mut add = |offer: Option<&'a ModelOffer>, verdict| {
            found.push(Weighed {
                state: position,
                offer,
                verdict,
                unspecialized: false,
                size_factor: 1.0,
                on_battery: state.node.hardware.power.as_deref() == Some("battery"),
                score: 0.0,
            });
        };
        match (obstacle, role) {
            (Some(obstacle), _) => add(None, Err(obstacle)),
            (None, Role::Llm) => {
                let writers = state.node.capabilities.models.iter().filter(|offer| offer.generates);
                let mut any = false;
                for offer in writers {
                    any = true;
                    let loaded = state.has_loaded(offer);
                    let verdict = match model_obstacle(state.node, offer, needs, loaded, state.claimed) {
                        Some(obstacle) => Err(obstacle),
                        None => Ok(predict(state, Some(offer), needs, costs)),
                    };
                    add(Some(offer), verdict);
                }
                if !any {
                    add(None, Err(Obstacle::NoModel));
                }
            }
            (None, _) => add(None, Ok(predict(state, None, needs, costs))),
        }
    }
    found
}

/// Gives every candidate that fits its score: predicted time, made longer for what it is not.
fn weigh(found: &mut [Weighed<'_>], needs: &StepNeeds, policy: &Policy) {
    let fits = |candidate: &&Weighed<'_>| candidate.verdict.is_ok();
    let size = |candidate: &Weighed<'_>| candidate.offer.map_or(0, |offer| offer.bytes);
    let largest = found.iter().filter(fits).map(size).max().unwrap_or(0);
    for candidate in found.iter_mut() {
        let Ok(prediction) = &candidate.verdict else { continue };
        candidate.score = prediction.total_ms();
        if let Some(offer) = candidate.offer {
            if needs.model.is_none() && offer.bytes > 0 && offer.bytes < largest {
                candidate.size_factor = size_factor(offer.bytes, largest, policy.halving_factor);
                candidate.score *= candidate.size_factor;
            }
            if let Some(wanted) = needs.specialization.as_deref()
                && !specialized(offer, wanted)
            {
                candidate.unspecialized = true;
                candidate.score =
                    candidate.score * policy.specialization_factor + policy.specialization_extra_ms;
            }
        }
        if candidate.on_battery {
            candidate.score *= policy.battery_factor;
        }
        // As it is recorded, so that the record alone shows which is the best.
        candidate.score = (candidate.score * 1_000.0).round() / 1_000.0;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
fn size_factor(bytes: u64, largest: u64, halving_factor: f64) -> f64 {
    halving_factor.max(1.0).powf((largest as f64 / bytes as f64).log2())
}

/// A model that names no specialization is a general one.
fn specialized(offer: &ModelOffer, wanted: &str) -> bool {
    let named = &offer.specializations;
    (named.is_empty() && wanted == "general") || named.iter().any(|has| has.eq_ignore_ascii_case(wanted))
}

fn better(a: &Weighed<'_>, b: &Weighed<'_>) -> Ordering {
    // The list is in the order of node ids and the comparison is stable, so the rest is decided by that order.
    lighter(&a.weight(), &b.weight())
}

/// Which of two candidates that fit is the better one: the sooner, then the one with the larger model.
fn lighter(a: &Weight, b: &Weight) -> Ordering {
    a.score_ms.total_cmp(&b.score_ms).then(b.bytes.cmp(&a.bytes))
}

/// The choice once more, among the candidates that the record says fit: node and model, or none if the record does not
/// weigh them since nothing else fits. Nodes in `failed_on` are the choice only where no other fits.
#[must_use]
pub fn choose_again<'a>(placement: &'a Placement, failed_on: &[NodeId]) -> Option<(NodeId, Option<&'a str>)> {
    let chosen = placement.chosen.iter().map(|chosen| (chosen.node, &chosen.model, chosen.weight));
    let others = placement.rejected.iter().map(|other| (other.node, &other.model, other.weight));
    let weighed = chosen.chain(others).filter_map(|(node, model, weight)| {
        let weight = weight?;
        Some((failed_on.contains(&node), weight, node, model.as_deref()))
    });
    // The first of equals wins, and the one that was chosen comes first: two models of one size on one node are equal.
    let best = weighed.min_by(|a, b| a.0.cmp(&b.0).then(lighter(&a.1, &b.1)).then(a.2.cmp(&b.2)));
    best.map(|(_, _, node, model)| (node, model))
}

/// Everything that was weighed for one step.
struct Choice<'a> {
    found: Vec<Weighed<'a>>,
    best: Option<usize>,
    degraded: Vec<String>,
}

fn choose<'a>(
    states: &[NodeState<'a>],
    index: usize,
    needs: &StepNeeds,
    costs: &CostModel,
    policy: &'a Policy,
) -> Choice<'a> {
    let asked = Choice::of(candidates(states, index, needs, costs, policy), needs, policy);
    if asked.best.is_some() {
        return asked;
    }
    let replaceable = needs.model.as_deref().filter(|_| policy.replace_model);
    let droppable = needs.accelerator.filter(|_| policy.cpu_instead);
    for (model, accelerator) in [(replaceable, None), (None, droppable), (replaceable, droppable)] {
        if model.is_none() && accelerator.is_none() {
            continue;
        }
        let mut relaxed = needs.clone();
        let mut degraded = Vec::new();
        if let Some(kind) = accelerator {
            relaxed.accelerator = None;
            let name = kind_name(kind);
            degraded
                .push(format!("no node with a {name} accelerator can take the step: it runs without one"));
        }
        if model.is_some() {
            relaxed.model = None;
        }
        let mut found = candidates(states, index, &relaxed, costs, policy);
        if let Some(wanted) = model {
            let Some(next) = next_smaller(states, wanted, &found) else { continue };
            for candidate in &mut found {
                if candidate.verdict.is_ok() && candidate.offer.is_none_or(|offer| offer.name != next) {
                    candidate.verdict = Err(Obstacle::NotNextSmaller);
                }
            }
            degraded.push(format!("no node can run the model `{wanted}` now: `{next}` is used instead"));
        }
        let choice = Choice { degraded, ..Choice::of(found, &relaxed, policy) };
        if choice.best.is_some() {
            return choice;
        }
    }
    asked
}

/// The largest model that fits and is no larger than the one wanted; without such a one, the smallest that fits.
fn next_smaller(states: &[NodeState<'_>], wanted: &str, found: &[Weighed<'_>]) -> Option<String> {
    let size = states
        .iter()
        .flat_map(|state| &state.node.capabilities.models)
        .find(|offer| offer.name == wanted)
        .map_or(u64::MAX, |offer| offer.bytes);
    let mut fitting: Vec<(u64, &str)> = found
        .iter()
        .filter(|candidate| candidate.verdict.is_ok())
        .filter_map(|candidate| candidate.offer)
        .map(|offer| (offer.bytes, offer.name.as_str()))
        .collect();
    fitting.sort_unstable();
    let smaller = fitting.iter().rev().find(|(bytes, _)| *bytes <= size);
    smaller.or(fitting.first()).map(|(_, name)| (*name).to_owned())
}

impl<'a> Choice<'a> {
    fn of(mut found: Vec<Weighed<'a>>, needs: &StepNeeds, policy: &Policy) -> Self {
        weigh(&mut found, needs, policy);
        let fits = found.iter().enumerate().filter(|(_, candidate)| candidate.verdict.is_ok());
        let best = fits.min_by(|a, b| better(a.1, b.1)).map(|(index, _)| index);
        Self { found, best, degraded: Vec::new() }
    }

    fn taken(&self) -> Option<(&Weighed<'a>, Prediction)> {
        let candidate = self.found.get(self.best?)?;
        candidate.verdict.as_ref().ok().map(|prediction| (candidate, *prediction))
    }

    fn explain(&self, states: &[NodeState<'_>], needs: &StepNeeds, policy: &Policy) -> Decision {
        let mut decision = match self.taken() {
            Some((candidate, prediction)) => self.chosen(candidate, &prediction, states, needs),
            None => self.nothing(needs),
        };
        let (rejected, more) = self.rejections(states, needs, policy);
        decision.placement.rejected = rejected;
        if more > 0 {
            decision.placement.reasons.push(format!("{} not listed", Count(more, "more rejected candidate")));
        }
        decision
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a predicted duration is positive, and far below 2^52 milliseconds"
    )]
    fn chosen(
        &self,
        candidate: &Weighed<'_>,
        prediction: &Prediction,
        states: &[NodeState<'_>],
        needs: &StepNeeds,
    ) -> Decision {
        let node = states[candidate.state].node;
        let fitting = self.found.iter().filter(|other| other.verdict.is_ok()).count();
        let mut reasons = self.degraded.clone();
        reasons.push(prediction.to_string());
        reasons.push(match (fitting, self.found.len()) {
            (1, 1) => "the only candidate".to_owned(),
            (1, all) => format!("the only one of {all} candidates that fits"),
            (fitting, _) => format!("the best of {fitting} candidates that fit"),
        });
        if let (Some(offer), Some(wanted)) = (candidate.offer, needs.specialization.as_deref()) {
            let name = &offer.name;
            reasons.push(if candidate.unspecialized {
                format!("`{name}` is not specialised in {wanted}, but nothing that is would be as quick")
            } else {
                format!("`{name}` is specialised in {wanted}, as wanted")
            });
        }
        if candidate.size_factor > 1.0 {
            reasons.push("a larger model fits too, but would take too long".to_owned());
        }
        if candidate.offer.is_some() {
            reasons.push(prediction.basis());
        }
        if prediction.position > 0 {
            let slots = Count(u64::from(node.capabilities.slots.max(1)), "slot");
            reasons.push(format!(
                "{} is full ({slots}): the step waits for it at position {}, about {}",
                node.name,
                prediction.position,
                Ms(prediction.wait_ms)
            ));
        }
        Decision {
            placement: Placement {
                chosen: Some(Candidate {
                    node: node.id,
                    name: node.name.to_owned(),
                    model: candidate.offer.map(|offer| offer.name.clone()),
                    predicted_ms: prediction.total_ms().round() as u64,
                    weight: (fitting > 1).then(|| candidate.weight()),
                }),
                reasons,
                rejected: Vec::new(),
            },
            degraded: self.degraded.clone(),
            position: prediction.position,
            wait_ms: prediction.wait_ms.round() as u64,
            may_fit_later: false,
        }
    }

    fn nothing(&self, needs: &StepNeeds) -> Decision {
        let role = match role_for(needs.kind) {
            Role::Llm => "LLM",
            Role::Tool => "tool",
            Role::Memory => "memory",
            Role::Orchestrator => "orchestrator",
        };
        let mut reasons = Vec::new();
        if self.found.is_empty() {
            reasons.push(format!("no {role} node is registered"));
        } else {
            let mut why: BTreeMap<String, u64> = BTreeMap::new();
            for obstacle in self.found.iter().filter_map(|candidate| candidate.verdict.as_ref().err()) {
                *why.entry(Explained(obstacle, needs).to_string()).or_default() += 1;
            }
            let all = Count(u64::try_from(self.found.len()).unwrap_or(u64::MAX), "candidate");
            let mut text = format!("no {role} node can run this step; of {all}:");
            for (index, (reason, count)) in why.iter().take(5).enumerate() {
                let separator = if index == 0 { "" } else { ";" };
                let _ = write!(text, "{separator} {count} {reason}");
            }
            reasons.push(text);
        }
        let may_fit_later = self
            .found
            .iter()
            .any(|candidate| candidate.verdict.as_ref().is_err_and(|obstacle| obstacle.passes()));
        if may_fit_later {
            reasons.push("it waits until memory is free".to_owned());
        }
        Decision {
            placement: Placement { chosen: None, reasons, rejected: Vec::new() },
            degraded: Vec::new(),
            position: 0,
            wait_ms: 0,
            may_fit_later,
        }
    }

    /// The closest first; and how many more there are.
    fn rejections(
        &self,
        states: &[NodeState<'_>],
        needs: &StepNeeds,
        policy: &Policy,
    ) -> (Vec<Rejection>, u64) {
        let best = self.best.map(|index| &self.found[index]);
        let mut others: Vec<&Weighed<'_>> = self
            .found
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != self.best)
            .map(|(_, candidate)| candidate)
            .collect();
        others.sort_by(|a, b| match (&a.verdict, &b.verdict) {
            (Ok(_), Ok(_)) => better(a, b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => Ordering::Equal,
        });
        let more = others.len().saturating_sub(policy.max_rejections);
        let listed = others.into_iter().take(policy.max_rejections).map(|candidate| {
            let node = states[candidate.state].node;
            Rejection {
                node: node.id,
                name: node.name.to_owned(),
                model: candidate.offer.map(|offer| offer.name.clone()),
                reason: match (&candidate.verdict, best) {
                    (Err(obstacle), _) => Explained(obstacle, needs).to_string(),
                    (Ok(prediction), Some(best)) => against(candidate, prediction, best),
                    (Ok(prediction), None) => prediction.to_string(),
                },
                weight: candidate.verdict.is_ok().then(|| candidate.weight()),
            }
        });
        (listed.collect(), u64::try_from(more).unwrap_or(u64::MAX))
    }
}

/// Why a candidate that fits was not taken.
fn against(candidate: &Weighed<'_>, prediction: &Prediction, best: &Weighed<'_>) -> String {
    let best_ms = best.verdict.as_ref().map_or(0.0, Prediction::total_ms);
    let own_ms = prediction.total_ms();
    let mut handicaps = Vec::new();
    if candidate.unspecialized {
        handicaps.push("not so specialised");
    }
    if candidate.size_factor > 1.0 {
        handicaps.push("a smaller model");
    }
    if candidate.on_battery {
        handicaps.push("on battery");
    }
    let counted = if handicaps.is_empty() {
        String::new()
    } else {
        format!(", and {}: counts as {}", handicaps.join(", "), Ms(candidate.score))
    };
    let waits = match prediction.position {
        0 => String::new(),
        position => format!(" (it would wait at position {position})"),
    };
    if (candidate.score - best.score).abs() < 0.5 {
        return format!("as good: {} as well{counted}; ties go by model size, then by node id", Ms(own_ms));
    }
    let word = if own_ms > best_ms { "slower" } else { "quicker" };
    let counted_best = if (best.score - best_ms).abs() < 0.5 {
        String::new()
    } else {
        format!(" that count as {}", Ms(best.score))
    };
    format!("{word}: {}{waits}{counted} against {}{counted_best}", Ms(own_ms), Ms(best_ms))
}
