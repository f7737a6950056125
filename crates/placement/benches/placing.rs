//! How long placing takes: 100 ready steps on 1,000 nodes, and one step on a household's five.

use criterion::{Criterion, criterion_group, criterion_main};
use kamil_placement::{CostModel, FleetNode, Observation, Policy, place};
use kamil_protocol::{
    NodeId,
    node::{Capabilities, Hardware, Load, ModelOffer, Role},
    placement::StepNeeds,
    task::StepKind,
};

struct Machine {
    id: NodeId,
    name: String,
    capabilities: Capabilities,
    hardware: Hardware,
    load: Load,
}

fn machines(count: u32) -> Vec<Machine> {
    (0..count)
        .map(|number| Machine {
            id: NodeId::generate(),
            name: format!("node-{number}"),
            capabilities: Capabilities {
                models: vec![ModelOffer {
                    name: format!("model-{}", number % 7),
                    engine: "llama.cpp".to_owned(),
                    resident: number % 3 != 0,
                    bytes: 1 << (28 + number % 5),
                    context_tokens: 8_192,
                    specializations: vec!["general".to_owned()],
                    prefill_tokens_per_s: Some(100.0),
                    decode_tokens_per_s: Some(20.0),
                    generates: true,
                }],
                slots: 4,
                ..Capabilities::default()
            },
            hardware: Hardware {
                physical_cores: 8,
                logical_cores: 16,
                ram_total_bytes: 64 << 30,
                ram_available_bytes: 32 << 30,
                ..Hardware::default()
            },
            load: Load { cpu: 0.2, ram_available_bytes: 32 << 30, running: number % 4, queued: 0 },
        })
        .collect()
}

fn fleet(machines: &[Machine]) -> Vec<FleetNode<'_>> {
    machines
        .iter()
        .map(|machine| FleetNode {
            id: machine.id,
            name: &machine.name,
            role: Role::Llm,
            alive: true,
            capabilities: &machine.capabilities,
            hardware: &machine.hardware,
            load: &machine.load,
            in_flight: Vec::new(),
        })
        .collect()
}

fn costs(machines: &[Machine]) -> CostModel {
    let mut costs = CostModel::new();
    for machine in machines {
        let seen = Observation {
            tokens_in: 100,
            tokens_cached: 20,
            tokens_out: 50,
            queue_ms: 2,
            prefill_ms: 700,
            decode_ms: 2_000,
            total_ms: 2_710,
        };
        costs.observe(machine.id, &machine.capabilities.models[0].name, StepKind::Reason, &seen);
    }
    costs
}

fn step(number: u32) -> StepNeeds {
    StepNeeds {
        kind: StepKind::Reason,
        tool: None,
        model: None,
        specialization: Some("general".to_owned()),
        tokens_in: 200 + 10 * number,
        tokens_out: 100,
        memory_bytes: 0,
        accelerator: None,
    }
}

fn placing(criterion: &mut Criterion) {
    for (nodes, steps) in [(1_000, 100), (5, 1)] {
        let machines = machines(nodes);
        let (fleet, costs) = (fleet(&machines), costs(&machines));
        let needs: Vec<StepNeeds> = (0..steps).map(step).collect();
        let policy = Policy::default();
        let name = format!("{steps} steps on {nodes} nodes");
        criterion.bench_function(&name, |bencher| bencher.iter(|| place(&fleet, &needs, &costs, &policy)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = placing
}
criterion_main!(benches);
