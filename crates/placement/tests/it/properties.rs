//! What holds for every fleet.

use std::collections::BTreeSet;

use kamil_placement::{Avoid, CostModel, Observation, Policy, place};
use kamil_protocol::{
    NodeId,
    node::{AcceleratorKind, ModelOffer, Role},
    placement::StepNeeds,
    task::StepKind,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::fleets::{GIB, Machine, fleet, model, needs, node_id};

const MODELS: [&str; 3] = ["tiny", "middle", "large"];
const TOOLS: [&str; 3] = ["a.x", "b.y", "c.z"];
const KINDS: [StepKind; 6] = [
    StepKind::Recall,
    StepKind::Plan,
    StepKind::Reason,
    StepKind::Tool,
    StepKind::Answer,
    StepKind::Remember,
];

fn offers() -> impl Strategy<Value = Vec<ModelOffer>> {
    let offer =
        (select(&MODELS[..]), any::<bool>(), 0_u64..12, 128_u32..4_096, any::<bool>(), 1.0_f32..900.0);
    vec(offer, 0..3).prop_map(|drawn| {
        let mut offers: Vec<ModelOffer> = Vec::new();
        for (name, resident, gib, context_tokens, coding, speed) in drawn {
            if offers.iter().all(|offer| offer.name != name) {
                let specializations = if coding { vec!["coding".to_owned()] } else { Vec::new() };
                let measured = model(name, gib * GIB, speed, speed / 10.0);
                offers.push(ModelOffer { resident, context_tokens, specializations, ..measured });
            }
        }
        offers
    })
}

fn machine(number: u128) -> impl Strategy<Value = Machine> {
    let role = select(vec![Role::Llm, Role::Tool, Role::Memory]);
    let tools = proptest::sample::subsequence(TOOLS.to_vec(), 0..=3);
    let load = (0_u32..4, 0_u32..3, vec(0_u64..5_000, 0..4), 0_u64..16, 1_u32..4);
    (role, any::<bool>(), offers(), tools, load, any::<bool>()).prop_map(
        move |(role, alive, models, tools, (running, queued, in_flight, free_gib, slots), gpu)| {
            let mut machine = match role {
                Role::Llm => Machine::llm(number, models),
                Role::Tool => Machine::tools(number, &tools),
                _ => Machine::new(number, role),
            };
            machine.alive = alive;
            machine.capabilities.slots = slots;
            machine.load.running = running;
            machine.load.queued = queued;
            machine.load.ram_available_bytes = free_gib * GIB;
            machine.in_flight = in_flight;
            if gpu { machine.gpu(AcceleratorKind::Cuda, 6 * GIB) } else { machine }
        },
    )
}

fn step() -> impl Strategy<Value = StepNeeds> {
    (
        select(&KINDS[..]),
        select(&TOOLS[..]),
        option::of(select(&MODELS[..])),
        any::<bool>(),
        (0_u32..3_000, 0_u32..1_000, 0_u64..10),
        any::<bool>(),
    )
        .prop_map(|(kind, tool, model, coding, (tokens_in, tokens_out, gib), gpu)| StepNeeds {
            tool: (kind == StepKind::Tool).then(|| tool.to_owned()),
            model: model.map(str::to_owned),
            specialization: coding.then(|| "coding".to_owned()),
            tokens_in,
            tokens_out,
            memory_bytes: gib * GIB,
            accelerator: gpu.then_some(AcceleratorKind::Cuda),
            ..needs(kind)
        })
}

fn machines() -> impl Strategy<Value = Vec<Machine>> {
    (0_usize..9).prop_flat_map(|count| {
        (0..count).map(|index| machine(index as u128 + 1).boxed()).collect::<Vec<BoxedStrategy<Machine>>>()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), option::of(1_u128..9)).prop_map(|(replace_model, cpu_instead, avoided)| {
        Policy {
            replace_model,
            cpu_instead,
            avoid: avoided
                .map(|number| Avoid { step: None, node: node_id(number), reason: "it failed".to_owned() })
                .into_iter()
                .collect(),
            ..Policy::default()
        }
    })
}

fn role_of(kind: StepKind) -> Role {
    match kind {
        StepKind::Recall | StepKind::Remember => Role::Memory,
        StepKind::Tool => Role::Tool,
        _ => Role::Llm,
    }
}

type Key = (NodeId, Option<String>);

/// Every node of the role, with each of its writing models, or without one where it was refused as a whole.
fn all_candidates(machines: &[Machine], role: Role) -> BTreeSet<NodeId> {
    machines.iter().filter(|machine| machine.role == role).map(|machine| machine.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_choice_meets_the_needs_and_every_other_candidate_is_answered(
        machines in machines(), steps in vec(step(), 1..8), policy in policy()
    ) {
        let fleet = fleet(&machines);
        let decisions = place(&fleet, &steps, &CostModel::new(), &policy);
        prop_assert_eq!(decisions.len(), steps.len());
        for (needs, decision) in steps.iter().zip(&decisions) {
            let placement = &decision.placement;
            prop_assert!(!placement.reasons.is_empty());
            prop_assert!(placement.rejected.iter().all(|rejection| !rejection.reason.is_empty()));
            let mut named: BTreeSet<NodeId> = placement.rejected.iter().map(|r| r.node).collect();
            let mut pairs: Vec<Key> = placement.rejected.iter().map(|r| (r.node, r.model.clone())).collect();
            if let Some(chosen) = &placement.chosen {
                named.insert(chosen.node);
                pairs.push((chosen.node, chosen.model.clone()));
                let machine = machines.iter().find(|machine| machine.id == chosen.node).unwrap();
                prop_assert!(machine.alive);
                prop_assert_eq!(machine.role, role_of(needs.kind));
                prop_assert!(policy.avoid.iter().all(|avoid| avoid.node != machine.id));
                if let Some(tool) = &needs.tool {
                    prop_assert!(machine.capabilities.tools.iter().any(|offered| &offered.name == tool));
                }
                let has_gpu = !machine.hardware.accelerators.is_empty();
                if needs.accelerator.is_some() && !has_gpu {
                    prop_assert!(policy.cpu_instead && !decision.degraded.is_empty());
                }
                let free = if needs.accelerator.is_some() && has_gpu { 6 * GIB } else { 0 };
                prop_assert!(needs.memory_bytes <= machine.load.ram_available_bytes.max(8 * GIB).max(free));
                prop_assert_eq!(chosen.model.is_some(), machine.role == Role::Llm);
                if let Some(name) = &chosen.model {
                    let offer = machine.capabilities.models.iter().find(|offer| &offer.name == name).unwrap();
                    prop_assert!(needs.tokens_in + needs.tokens_out <= offer.context_tokens);
                    if let Some(wanted) = &needs.model && wanted != name {
                        prop_assert!(policy.replace_model && !decision.degraded.is_empty());
                    }
                }
                for word in &decision.degraded {
                    prop_assert!(placement.reasons.contains(word));
                }
            } else {
                prop_assert!(decision.degraded.is_empty());
            }
            prop_assert_eq!(named, all_candidates(&machines, role_of(needs.kind)));
            let distinct: BTreeSet<&Key> = pairs.iter().collect();
            prop_assert_eq!(distinct.len(), pairs.len(), "each candidate stands once");
        }
    }

    #[test]
    fn the_order_of_the_fleet_changes_nothing(
        machines in machines(), steps in vec(step(), 1..6), policy in policy()
    ) {
        let mut costs = CostModel::new();
        costs.observe(node_id(1), "tiny", StepKind::Reason, &Observation {
            tokens_in: 100, tokens_cached: 10, tokens_out: 50, queue_ms: 1, prefill_ms: 900, decode_ms: 1_500, total_ms: 2_500,
        });
        let mut reversed = machines.clone();
        reversed.reverse();
        let first = place(&fleet(&machines), &steps, &costs, &policy);
        prop_assert_eq!(&first, &place(&fleet(&machines), &steps, &costs, &policy));
        prop_assert_eq!(&first, &place(&fleet(&reversed), &steps, &costs, &policy));
    }

    #[test]
    fn one_step_alone_takes_the_least_predicted_time_among_equals(
        machines in machines(), mut needs in step()
    ) {
        // With one model and no preference nothing but time is left to decide.
        needs.specialization = None;
        needs.accelerator = None;
        needs.model = Some("middle".to_owned());
        let decision = place(&fleet(&machines), std::slice::from_ref(&needs), &CostModel::new(), &Policy::default()).remove(0);
        for rejection in &decision.placement.rejected {
            prop_assert!(!rejection.reason.starts_with("quicker"), "{decision:?}");
        }
    }
}
