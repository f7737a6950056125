//! The fleet as plain data.

use kamil_protocol::{
    NodeId,
    node::{Capabilities, Hardware, Load, NodeDoc, NodeStatus, Role},
    task::StepKind,
};

/// A node as placement sees it.
#[derive(Clone, Debug)]
pub struct FleetNode<'a> {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub role: Role,
    /// Whether it can be given work.
    pub alive: bool,
    /// What it offers.
    pub capabilities: &'a Capabilities,
    /// What it runs on.
    pub hardware: &'a Hardware,
    /// How busy it said it is; up to a heartbeat old.
    pub load: &'a Load,
    /// For each request that was given to it and not answered yet: the milliseconds that it is predicted to take still.
    pub in_flight: Vec<u64>,
}

impl<'a> FleetNode<'a> {
    /// The node behind a line of `GET /v1/nodes`.
    #[must_use]
    pub fn from_doc(doc: &'a NodeDoc, in_flight: Vec<u64>) -> Self {
        Self {
            id: doc.id,
            name: &doc.name,
            role: doc.role,
            alive: doc.status == NodeStatus::Alive,
            capabilities: &doc.capabilities,
            hardware: &doc.hardware,
            load: &doc.load,
            in_flight,
        }
    }

    /// Free memory, in bytes: as the last heartbeat says, or as it registered.
    pub(crate) fn ram_available_bytes(&self) -> u64 {
        match self.load.ram_available_bytes {
            0 => self.hardware.ram_available_bytes,
            bytes => bytes,
        }
    }
}

/// The role that runs a kind of step.
#[must_use]
pub const fn role_for(kind: StepKind) -> Role {
    match kind {
        StepKind::Recall | StepKind::Remember => Role::Memory,
        StepKind::Plan | StepKind::Reason | StepKind::Answer => Role::Llm,
        StepKind::Tool => Role::Tool,
    }
}
