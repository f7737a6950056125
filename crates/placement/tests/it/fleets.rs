//! Small fleets to place on.

use kamil_placement::FleetNode;
use kamil_protocol::{
    NodeId,
    node::{Accelerator, AcceleratorKind, Capabilities, Hardware, Load, ModelOffer, Role},
    placement::StepNeeds,
    task::StepKind,
    tool::{SideEffect, ToolDescriptor},
};

pub(crate) const GIB: u64 = 1 << 30;

/// A node that owns what a [`FleetNode`] borrows.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) alive: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) hardware: Hardware,
    pub(crate) load: Load,
    pub(crate) in_flight: Vec<u64>,
}

impl Machine {
    pub(crate) fn new(number: u128, role: Role) -> Self {
        Self {
            id: node_id(number),
            name: format!("node-{number}"),
            role,
            alive: true,
            capabilities: Capabilities { slots: 1, ..Capabilities::default() },
            hardware: Hardware {
                physical_cores: 4,
                logical_cores: 8,
                ram_total_bytes: 16 * GIB,
                ram_available_bytes: 8 * GIB,
                ..Hardware::default()
            },
            load: Load { ram_available_bytes: 8 * GIB, ..Load::default() },
            in_flight: Vec::new(),
        }
    }

    pub(crate) fn llm(number: u128, models: Vec<ModelOffer>) -> Self {
        let mut machine = Self::new(number, Role::Llm);
        machine.capabilities.models = models;
        machine
    }

    pub(crate) fn tools(number: u128, names: &[&str]) -> Self {
        let mut machine = Self::new(number, Role::Tool);
        machine.capabilities.tools = names.iter().map(|name| tool(name)).collect();
        machine
    }

    pub(crate) fn gpu(mut self, kind: AcceleratorKind, free: u64) -> Self {
        self.hardware.accelerators.push(Accelerator {
            kind,
            name: "an accelerator".to_owned(),
            vram_total_bytes: free,
            vram_available_bytes: free,
            utilization: None,
        });
        self
    }

    pub(crate) fn as_fleet(&self) -> FleetNode<'_> {
        FleetNode {
            id: self.id,
            name: &self.name,
            role: self.role,
            alive: self.alive,
            capabilities: &self.capabilities,
            hardware: &self.hardware,
            load: &self.load,
            in_flight: self.in_flight.clone(),
        }
    }
}

pub(crate) fn fleet(machines: &[Machine]) -> Vec<FleetNode<'_>> {
    machines.iter().map(Machine::as_fleet).collect()
}

pub(crate) fn node_id(number: u128) -> NodeId {
    format!("00000000-0000-7000-8000-{number:012x}").parse().unwrap()
}

/// A resident model with measured speeds.
pub(crate) fn model(name: &str, bytes: u64, prefill: f32, decode: f32) -> ModelOffer {
    ModelOffer {
        name: name.to_owned(),
        engine: "llama.cpp".to_owned(),
        resident: true,
        bytes,
        context_tokens: 4_096,
        specializations: vec!["general".to_owned()],
        prefill_tokens_per_s: Some(prefill),
        decode_tokens_per_s: Some(decode),
        generates: true,
    }
}

pub(crate) fn coding(mut offer: ModelOffer) -> ModelOffer {
    offer.specializations = vec!["coding".to_owned()];
    offer
}

fn tool(name: &str) -> ToolDescriptor {
    ToolDescriptor {
        name: name.to_owned(),
        description: String::new(),
        arguments: serde_json::json!({"type": "object"}),
        result: serde_json::json!({}),
        side_effect: SideEffect::Pure,
        idempotent: true,
        timeout_ms: 1_000,
        examples: Vec::new(),
    }
}

pub(crate) fn needs(kind: StepKind) -> StepNeeds {
    StepNeeds {
        kind,
        tool: None,
        model: None,
        specialization: None,
        tokens_in: 0,
        tokens_out: 0,
        memory_bytes: 0,
        accelerator: None,
    }
}

pub(crate) fn reason(tokens_in: u32, tokens_out: u32) -> StepNeeds {
    StepNeeds { tokens_in, tokens_out, ..needs(StepKind::Reason) }
}

pub(crate) fn tool_step(name: &str) -> StepNeeds {
    StepNeeds { tool: Some(name.to_owned()), ..needs(StepKind::Tool) }
}
