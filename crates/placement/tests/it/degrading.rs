//! What happens when nothing fits as asked.

use kamil_placement::Policy;
use kamil_protocol::{node::AcceleratorKind, placement::StepNeeds};

use crate::{
    choosing::one,
    fleets::{GIB, Machine, fleet, model, reason, tool_step},
};

#[test]
fn a_model_asked_for_by_name_is_not_replaced_silently() {
    let machines = [Machine::llm(1, vec![model("small", GIB, 100.0, 10.0)])];
    let step = StepNeeds { model: Some("large".to_owned()), ..reason(10, 10) };
    let decision = one(&machines, &step, &Policy::default());
    assert!(decision.placement.chosen.is_none());
    assert!(!decision.may_fit_later);
    assert_eq!(
        decision.placement.reasons,
        ["no LLM node can run this step; of 1 candidate: 1 not the model asked for, `large`"]
    );
    assert_eq!(decision.placement.rejected[0].model.as_deref(), Some("small"));
}

#[test]
fn with_permission_the_next_smaller_takes_its_place_and_that_is_told() {
    let mut gone = Machine::llm(1, vec![model("large", 8 * GIB, 100.0, 10.0)]);
    gone.alive = false;
    let machines = [
        gone,
        Machine::llm(2, vec![model("tiny", GIB / 4, 900.0, 90.0)]),
        Machine::llm(3, vec![model("middle", 4 * GIB, 100.0, 10.0)]),
        Machine::llm(4, vec![model("huge", 40 * GIB, 900.0, 90.0)]),
    ];
    let step = StepNeeds { model: Some("large".to_owned()), ..reason(10, 10) };
    let policy = Policy { replace_model: true, ..Policy::default() };
    let decision = one(&machines, &step, &policy);
    assert_eq!(decision.placement.chosen.as_ref().unwrap().model.as_deref(), Some("middle"));
    assert_eq!(decision.degraded, ["no node can run the model `large` now: `middle` is used instead"]);
    assert!(decision.placement.reasons.starts_with(&decision.degraded), "{decision:?}");
    assert_eq!(decision.placement.rejected.len(), 3);

    let decision = one(&machines[3..], &step, &policy);
    assert_eq!(decision.placement.chosen.as_ref().unwrap().model.as_deref(), Some("huge"));
}

#[test]
fn without_the_accelerator_it_runs_on_the_processor_and_that_is_told() {
    let machines = [Machine::llm(1, vec![model("m", GIB, 100.0, 10.0)])];
    let step = StepNeeds { accelerator: Some(AcceleratorKind::Cuda), ..reason(10, 10) };
    let decision = one(&machines, &step, &Policy::default());
    assert!(decision.placement.chosen.is_some());
    assert_eq!(decision.degraded, ["no node with a cuda accelerator can take the step: it runs without one"]);
    let strict = Policy { cpu_instead: false, ..Policy::default() };
    assert!(one(&machines, &step, &strict).placement.chosen.is_none());

    let both = StepNeeds { model: Some("absent".to_owned()), ..step };
    let decision = one(&machines, &both, &Policy { replace_model: true, ..Policy::default() });
    assert_eq!(decision.degraded.len(), 2);
}

#[test]
fn a_full_node_queues_with_a_stated_position() {
    let mut machine = Machine::llm(1, vec![model("m", GIB, 100.0, 10.0)]);
    machine.capabilities.slots = 2;
    machine.in_flight = vec![4_000, 3_000, 2_000];
    machine.load.running = 2;
    machine.load.queued = 1;
    let decision = one(&[machine], &reason(10, 10), &Policy::default());
    assert_eq!(decision.position, 2);
    assert_eq!(decision.wait_ms, 4_000);
    assert!(decision.degraded.is_empty(), "to wait is not to do less: {decision:?}");
    let reasons = &decision.placement.reasons;
    assert!(reasons[0].contains("4.0 s wait"), "{decision:?}");
    assert_eq!(
        reasons.last().unwrap(),
        "node-1 is full (2 slots): the step waits for it at position 2, about 4.0 s"
    );
}

#[test]
fn an_empty_fleet_says_which_role_is_missing() {
    let decision = one(&[], &tool_step("calc.evaluate"), &Policy::default());
    assert_eq!(decision.placement.reasons, ["no tool node is registered"]);
    assert!(fleet(&[]).is_empty());
}
