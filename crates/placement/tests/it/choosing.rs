//! Which candidate is chosen, and what is said of the others.

use kamil_placement::{Avoid, CostModel, Decision, Policy, place};
use kamil_protocol::{
    node::{AcceleratorKind, Role},
    placement::StepNeeds,
    task::StepKind,
};

use crate::fleets::{GIB, Machine, coding, fleet, model, needs, node_id, reason, tool_step};

pub(crate) fn one(machines: &[Machine], step: &StepNeeds, policy: &Policy) -> Decision {
    place(&fleet(machines), std::slice::from_ref(step), &CostModel::new(), policy).remove(0)
}

fn chosen(decision: &Decision) -> &str {
    &decision.placement.chosen.as_ref().expect("a node is chosen").name
}

fn rejection<'a>(decision: &'a Decision, name: &str) -> &'a str {
    &decision.placement.rejected.iter().find(|rejection| rejection.name == name).expect("it is listed").reason
}

#[test]
fn the_quickest_is_chosen_and_the_parts_add_up() {
    let machines = [
        Machine::llm(1, vec![model("m", GIB, 50.0, 10.0)]),
        Machine::llm(2, vec![model("m", GIB, 100.0, 20.0)]),
    ];
    let decision = one(&machines, &reason(60, 22), &Policy::default());
    assert_eq!(chosen(&decision), "node-2");
    let candidate = decision.placement.chosen.as_ref().unwrap();
    assert_eq!(candidate.model.as_deref(), Some("m"));
    assert_eq!(candidate.predicted_ms, 600 + 1_100 + 2);
    assert_eq!(
        decision.placement.reasons[0],
        "predicted 1.7 s: 0.6 s reading 60 tokens at 100/s, 1.1 s writing 22 tokens at 20/s, 2 ms on the way"
    );
    assert_eq!(rejection(&decision, "node-1"), "slower: 3.4 s against 1.7 s");
    assert_eq!(decision.position, 0);
    assert!(decision.degraded.is_empty());
}

#[test]
fn hard_constraints_are_named_with_their_figures() {
    let mut dead = Machine::llm(1, vec![model("m", GIB, 900.0, 90.0)]);
    dead.alive = false;
    let mut small = Machine::llm(2, vec![model("m", GIB, 900.0, 90.0)]);
    small.capabilities.models[0].context_tokens = 512;
    let mut cold = Machine::llm(3, vec![model("m", 20 * GIB, 900.0, 90.0)]);
    cold.capabilities.models[0].resident = false;
    let mut embeds = Machine::llm(4, vec![model("m", GIB, 900.0, 90.0)]);
    embeds.capabilities.models[0].generates = false;
    let barred = Machine::llm(5, vec![model("m", GIB, 900.0, 90.0)]);
    let fits = Machine::llm(6, vec![model("m", GIB, 9.0, 9.0)]);
    let policy = Policy {
        avoid: vec![Avoid { step: Some(0), node: node_id(5), reason: "attempt 1 failed there".to_owned() }],
        ..Policy::default()
    };
    let decision = one(&[dead, small, cold, embeds, barred, fits], &reason(600, 100), &policy);
    assert_eq!(chosen(&decision), "node-6");
    assert_eq!(rejection(&decision, "node-1"), "not alive: its heartbeats stopped");
    assert_eq!(
        rejection(&decision, "node-2"),
        "context too small: it holds 512 tokens, 600 to read and 100 to write are needed"
    );
    assert_eq!(
        rejection(&decision, "node-3"),
        "too little memory to load the model: it takes 23.0 GiB, 8.0 GiB are free"
    );
    assert_eq!(rejection(&decision, "node-4"), "offers no model that writes text");
    assert_eq!(rejection(&decision, "node-5"), "not allowed: attempt 1 failed there");
}

#[test]
fn tools_memory_and_accelerators_filter() {
    let machines = [Machine::tools(1, &["calc.evaluate"]), Machine::tools(2, &["file_ops.read"])];
    let decision = one(&machines, &tool_step("file_ops.read"), &Policy::default());
    assert_eq!(chosen(&decision), "node-2");
    assert_eq!(rejection(&decision, "node-1"), "does not offer the tool `file_ops.read`");

    let step = StepNeeds { memory_bytes: 6 * GIB, ..tool_step("calc.evaluate") };
    let mut full = machines[0].clone();
    full.load.ram_available_bytes = 4 * GIB;
    let decision = one(&[full], &step, &Policy::default());
    assert!(decision.placement.chosen.is_none());
    assert!(decision.may_fit_later, "16 GiB in total would do");
    assert_eq!(rejection(&decision, "node-1"), "too little memory: 6.0 GiB must be free, 4.0 GiB are");

    let step = StepNeeds { accelerator: Some(AcceleratorKind::Cuda), ..reason(10, 10) };
    let machines = [
        Machine::llm(1, vec![model("m", GIB, 900.0, 90.0)]).gpu(AcceleratorKind::Vulkan, 8 * GIB),
        Machine::llm(2, vec![model("m", GIB, 9.0, 9.0)]).gpu(AcceleratorKind::Cuda, 8 * GIB),
    ];
    let decision = one(&machines, &step, &Policy::default());
    assert_eq!(chosen(&decision), "node-2");
    assert_eq!(rejection(&decision, "node-1"), "has no cuda accelerator");
}

#[test]
fn memory_steps_go_to_memory_nodes_only() {
    let machines = [Machine::new(1, Role::Memory), Machine::llm(2, vec![model("m", GIB, 9.0, 9.0)])];
    for kind in [StepKind::Recall, StepKind::Remember] {
        let decision = one(&machines, &needs(kind), &Policy::default());
        assert_eq!(chosen(&decision), "node-1");
        assert!(decision.placement.rejected.is_empty(), "nodes of other roles are no candidates");
        assert_eq!(decision.placement.reasons[1], "the only candidate");
    }
}

#[test]
fn a_wanted_specialization_weighs_and_is_told() {
    let step = StepNeeds { specialization: Some("coding".to_owned()), ..reason(100, 100) };
    let mut machines = [
        Machine::llm(1, vec![model("general-model", GIB, 200.0, 20.0)]),
        Machine::llm(2, vec![coding(model("coder", GIB, 100.0, 10.0))]),
    ];
    let decision = one(&machines, &step, &Policy::default());
    assert_eq!(chosen(&decision), "node-2");
    assert!(
        decision.placement.reasons.contains(&"`coder` is specialised in coding, as wanted".to_owned()),
        "{decision:?}"
    );
    assert_eq!(
        rejection(&decision, "node-1"),
        "quicker: 5.5 s, and not so specialised: counts as 17.5 s against 11.0 s"
    );
    machines[1].capabilities.models[0] = coding(model("coder", GIB, 2.0, 0.2));
    let decision = one(&machines, &step, &Policy::default());
    assert_eq!(chosen(&decision), "node-1");
    assert!(
        decision.placement.reasons.iter().any(|reason| reason.contains("is not specialised in coding")),
        "{decision:?}"
    );
}

#[test]
fn a_smaller_model_has_to_be_more_than_proportionally_quicker() {
    let machines = [
        Machine::llm(1, vec![model("large", 4 * GIB, 100.0, 10.0)]),
        Machine::llm(2, vec![model("small", GIB, 300.0, 30.0)]),
    ];
    let decision = one(&machines, &reason(100, 100), &Policy::default());
    assert_eq!(chosen(&decision), "node-1");
    assert_eq!(
        rejection(&decision, "node-2"),
        "quicker: 3.7 s, and a smaller model: counts as 14.7 s against 11.0 s"
    );
    let time_alone = Policy { halving_factor: 1.0, ..Policy::default() };
    assert_eq!(chosen(&one(&machines, &reason(100, 100), &time_alone)), "node-2");
}

#[test]
fn a_model_that_is_not_loaded_costs_its_loading() {
    let mut machines = [
        Machine::llm(1, vec![model("m", 2 * GIB, 100.0, 10.0)]),
        Machine::llm(2, vec![model("m", 2 * GIB, 100.0, 11.0)]),
    ];
    machines[1].capabilities.models[0].resident = false;
    let decision = one(&machines, &reason(10, 10), &Policy::default());
    assert_eq!(chosen(&decision), "node-1");
    let long = one(&machines, &reason(10, 900), &Policy::default());
    assert_eq!(chosen(&long), "node-2", "a long answer is worth the loading");
    assert!(long.placement.reasons[0].contains("2.1 s loading the model"), "{long:?}");
}

#[test]
fn equal_candidates_go_by_node_id_whatever_the_order() {
    let a = Machine::llm(7, vec![model("m", GIB, 100.0, 10.0)]);
    let b = Machine::llm(3, vec![model("m", GIB, 100.0, 10.0)]);
    for machines in [[a.clone(), b.clone()], [b, a]] {
        let decision = one(&machines, &reason(10, 10), &Policy::default());
        assert_eq!(chosen(&decision), "node-3");
        assert!(rejection(&decision, "node-7").starts_with("as good: 1.1 s as well"), "{decision:?}");
    }
}

#[test]
fn a_long_list_of_rejections_is_cut_and_says_so() {
    let machines: Vec<Machine> =
        (1..=30).map(|number| Machine::llm(number, vec![model("m", GIB, 100.0, 10.0)])).collect();
    let policy = Policy { max_rejections: 10, ..Policy::default() };
    let decision = one(&machines, &reason(10, 10), &policy);
    assert_eq!(decision.placement.rejected.len(), 10);
    assert!(decision.placement.reasons.contains(&"19 more rejected candidates not listed".to_owned()));
}
