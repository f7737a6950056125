//! A whole ready set at once.

use std::collections::BTreeMap;

use kamil_placement::{CostModel, Decision, Policy, place};
use kamil_protocol::placement::StepNeeds;

use crate::fleets::{GIB, Machine, fleet, model, reason, tool_step};

fn spread(decisions: &[Decision]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for decision in decisions {
        *counts.entry(decision.placement.chosen.as_ref().unwrap().name.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn equal_nodes_share_equal_steps() {
    for slots in [1, 2, 8] {
        let mut machines: Vec<Machine> =
            (1..=4).map(|number| Machine::llm(number, vec![model("m", GIB, 100.0, 10.0)])).collect();
        for machine in &mut machines {
            machine.capabilities.slots = slots;
        }
        let steps = vec![reason(50, 50); 8];
        let decisions = place(&fleet(&machines), &steps, &CostModel::new(), &Policy::default());
        assert!(
            spread(&decisions).values().all(|count| *count == 2),
            "{slots} slots: {:?}",
            spread(&decisions)
        );
    }
    let machines = [Machine::tools(1, &["t"]), Machine::tools(2, &["t"])];
    let decisions = place(&fleet(&machines), &vec![tool_step("t"); 6], &CostModel::new(), &Policy::default());
    assert!(spread(&decisions).values().all(|count| *count == 3));
}

#[test]
fn a_node_four_times_as_quick_takes_about_four_times_as_much() {
    let machines = [
        Machine::llm(1, vec![model("m", GIB, 400.0, 40.0)]),
        Machine::llm(2, vec![model("m", GIB, 100.0, 10.0)]),
    ];
    let decisions =
        place(&fleet(&machines), &vec![reason(50, 50); 20], &CostModel::new(), &Policy::default());
    let counts = spread(&decisions);
    assert_eq!(counts["node-1"], 16);
    assert_eq!(counts["node-2"], 4);
}

#[test]
fn work_in_flight_and_reported_load_repel() {
    let quiet = Machine::llm(2, vec![model("m", GIB, 100.0, 10.0)]);
    let mut known = Machine::llm(1, vec![model("m", GIB, 100.0, 10.0)]);
    known.in_flight = vec![500];
    let mut reported = Machine::llm(1, vec![model("m", GIB, 100.0, 10.0)]);
    reported.load.running = 1;
    for busy in [known, reported] {
        let machines = [busy, quiet.clone()];
        let decisions = place(&fleet(&machines), &[reason(10, 10)], &CostModel::new(), &Policy::default());
        assert_eq!(decisions[0].placement.chosen.as_ref().unwrap().name, "node-2");
    }
}

#[test]
fn memory_promised_in_this_call_is_counted() {
    let machines = [Machine::tools(1, &["t"]), Machine::tools(2, &["t"])];
    let step = StepNeeds { memory_bytes: 5 * GIB, ..tool_step("t") };
    let decisions = place(&fleet(&machines), &vec![step; 3], &CostModel::new(), &Policy::default());
    assert_eq!(decisions.iter().filter(|decision| decision.placement.chosen.is_some()).count(), 2);
    assert!(decisions.iter().any(|decision| decision.may_fit_later));
}

#[test]
fn a_model_is_loaded_once() {
    let mut machine = Machine::llm(1, vec![model("m", 2 * GIB, 100.0, 10.0)]);
    machine.capabilities.models[0].resident = false;
    let decisions =
        place(&fleet(&[machine]), &vec![reason(10, 10); 2], &CostModel::new(), &Policy::default());
    let loads = |decision: &Decision| decision.placement.reasons[0].contains("loading the model");
    assert_eq!(decisions.iter().filter(|decision| loads(decision)).count(), 1, "{decisions:?}");
}
