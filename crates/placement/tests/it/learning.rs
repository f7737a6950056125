//! The cost model follows what it sees.

use kamil_placement::{CostModel, Observation, Policy, place};
use kamil_protocol::{NodeId, placement::StepNeeds, task::StepKind};

use crate::fleets::{GIB, Machine, fleet, model, node_id, reason, tool_step};

fn predicted(machines: &[Machine], costs: &CostModel, step: &StepNeeds) -> (NodeId, u64) {
    let decisions = place(&fleet(machines), std::slice::from_ref(step), costs, &Policy::default());
    let chosen = decisions[0].placement.chosen.as_ref().unwrap();
    (chosen.node, chosen.predicted_ms)
}

fn answer(prefill_ms: u64, decode_ms: u64, tokens_cached: u32) -> Observation {
    Observation {
        tokens_in: 100,
        tokens_cached,
        tokens_out: 50,
        queue_ms: 0,
        prefill_ms,
        decode_ms,
        total_ms: prefill_ms + decode_ms + 4,
    }
}

#[test]
fn a_node_that_is_slower_than_it_says_loses_its_work() {
    let machines = [
        Machine::llm(1, vec![model("m", GIB, 200.0, 20.0)]),
        Machine::llm(2, vec![model("m", GIB, 100.0, 10.0)]),
    ];
    let mut costs = CostModel::new();
    assert_eq!(predicted(&machines, &costs, &reason(100, 50)).0, node_id(1));
    for _ in 0..8 {
        costs.observe(node_id(1), "m", StepKind::Reason, &answer(4_000, 20_000, 0));
    }
    assert_eq!(predicted(&machines, &costs, &reason(100, 50)).0, node_id(2));
    for _ in 0..12 {
        costs.observe(node_id(1), "m", StepKind::Reason, &answer(200, 1_000, 0));
    }
    assert_eq!(
        predicted(&machines, &costs, &reason(100, 50)).0,
        node_id(1),
        "and gets it back when it recovers"
    );
}

#[test]
fn predictions_converge_to_what_was_seen() {
    let mut machine = Machine::llm(1, vec![model("m", GIB, 1.0, 1.0)]);
    machine.capabilities.models[0].prefill_tokens_per_s = None;
    machine.capabilities.models[0].decode_tokens_per_s = None;
    let machines = [machine];
    let mut costs = CostModel::new();
    for _ in 0..40 {
        costs.observe(node_id(1), "m", StepKind::Reason, &answer(500, 1_000, 0));
    }
    let ms = predicted(&machines, &costs, &reason(100, 50)).1;
    assert!((1_400..1_700).contains(&ms), "{ms}");
}

#[test]
fn a_prompt_that_is_cached_there_draws_the_step() {
    let machines = [
        Machine::llm(1, vec![model("m", GIB, 100.0, 10.0)]),
        Machine::llm(2, vec![model("m", GIB, 100.0, 10.0)]),
    ];
    let mut costs = CostModel::new();
    for _ in 0..6 {
        costs.observe(node_id(2), "m", StepKind::Plan, &answer(100, 5_000, 90));
    }
    let plan = StepNeeds { kind: StepKind::Plan, ..reason(1_000, 50) };
    assert_eq!(predicted(&machines, &costs, &plan).0, node_id(2));
    let decisions = place(&fleet(&machines), &[plan], &costs, &Policy::default());
    let text = &decisions[0].placement.reasons[0];
    assert!(text.contains("tokens cached"), "{text}");
}

#[test]
fn tools_are_learned_per_node_and_forgotten_with_it() {
    let machines = [Machine::tools(1, &["t"]), Machine::tools(2, &["t"])];
    let mut costs = CostModel::new();
    for _ in 0..5 {
        costs.observe_tool(node_id(1), "t", 3_000);
        costs.observe_tool(node_id(2), "t", 300);
    }
    assert_eq!(predicted(&machines, &costs, &tool_step("t")).0, node_id(2));
    costs.retain_nodes(|_| false);
    assert_eq!(predicted(&machines, &costs, &tool_step("t")).0, node_id(1), "equal again: by node id");
    costs.observe_memory(node_id(3), StepKind::Recall, 7);
}

#[test]
fn absurd_figures_do_no_harm() {
    let mut machine = Machine::llm(1, vec![model("m", 0, 0.0, f32::INFINITY)]);
    machine.load.cpu = f32::NAN;
    machine.hardware = kamil_protocol::node::Hardware::default();
    let mut costs = CostModel::new();
    costs.observe(
        node_id(1),
        "m",
        StepKind::Reason,
        &Observation {
            tokens_in: u32::MAX,
            tokens_cached: u32::MAX,
            queue_ms: u64::MAX,
            prefill_ms: u64::MAX,
            ..Observation::default()
        },
    );
    let decisions = place(&fleet(&[machine]), &[reason(10, 10)], &costs, &Policy::default());
    assert!(decisions[0].placement.chosen.is_some());
}
