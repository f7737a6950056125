//! Hard constraints: what a candidate lacks, with the figures.

use std::fmt;

use kamil_protocol::{
    node::{AcceleratorKind, ModelOffer},
    placement::StepNeeds,
    task::StepKind,
};

use crate::{
    fleet::FleetNode,
    policy::Policy,
    prior,
    words::{Bytes, Count},
};

/// Why a candidate cannot run a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Obstacle<'a> {
    Dead,
    Avoided(&'a str),
    NoTool,
    NoModel,
    OtherModel,
    NotNextSmaller,
    Context(u32),
    NoAccelerator,
    Memory { need: u64, free: u64, passes: bool },
    Load { need: u64, free: u64, passes: bool },
}

impl Obstacle<'_> {
    /// Whether waiting may remove it: memory that other work holds now.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::Memory { passes: true, .. } | Self::Load { passes: true, .. })
    }
}

/// An obstacle in words, with the figures of the step that it stands against.
pub(crate) struct Explained<'a>(pub(crate) &'a Obstacle<'a>, pub(crate) &'a StepNeeds);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = self.1;
        match *self.0 {
            Obstacle::Dead => f.write_str("not alive: its heartbeats stopped"),
            Obstacle::Avoided(reason) => write!(f, "not allowed: {reason}"),
            Obstacle::NoTool => {
                write!(f, "does not offer the tool `{}`", needs.tool.as_deref().unwrap_or_default())
            }
            Obstacle::NoModel => f.write_str("offers no model that writes text"),
            Obstacle::OtherModel => {
                write!(f, "not the model asked for, `{}`", needs.model.as_deref().unwrap_or_default())
            }
            Obstacle::NotNextSmaller => f.write_str("not the closest in size to the model asked for"),
            Obstacle::Context(context) => write!(
                f,
                "context too small: it holds {}, {} to read and {} to write are needed",
                Count(u64::from(context), "token"),
                needs.tokens_in,
                needs.tokens_out
            ),
            Obstacle::NoAccelerator => {
                write!(f, "has no {} accelerator", needs.accelerator.map_or("", kind_name))
            }
            Obstacle::Memory { need, free, .. } => {
                write!(f, "too little memory: {} must be free, {} are", Bytes(need), Bytes(free))
            }
            Obstacle::Load { need, free, .. } => {
                write!(
                    f,
                    "too little memory to load the model: it takes {}, {} are free",
                    Bytes(need),
                    Bytes(free)
                )
            }
        }
    }
}

pub(crate) const fn kind_name(kind: AcceleratorKind) -> &'static str {
    match kind {
        AcceleratorKind::Cuda => "cuda",
        AcceleratorKind::Rocm => "rocm",
        AcceleratorKind::Metal => "metal",
        AcceleratorKind::Vulkan => "vulkan",
    }
}

/// What stands against the node as such; `claimed` bytes of its memory are promised to other steps.
pub(crate) fn node_obstacle<'a>(
    node: &FleetNode<'_>,
    index: usize,
    needs: &StepNeeds,
    policy: &'a Policy,
    claimed: u64,
) -> Option<Obstacle<'a>> {
    if !node.alive {
        return Some(Obstacle::Dead);
    }
    if let Some(reason) = policy.avoided(index, node.id) {
        return Some(Obstacle::Avoided(reason));
    }
    if needs.kind == StepKind::Tool {
        let tool = needs.tool.as_deref().unwrap_or_default();
        if !node.capabilities.tools.iter().any(|offered| offered.name == tool) {
            return Some(Obstacle::NoTool);
        }
    }
    if let Some(kind) = needs.accelerator
        && !node.hardware.accelerators.iter().any(|accelerator| accelerator.kind == kind)
    {
        return Some(Obstacle::NoAccelerator);
    }
    memory_obstacle(node, needs, claimed)
}

fn memory_obstacle(node: &FleetNode<'_>, needs: &StepNeeds, claimed: u64) -> Option<Obstacle<'static>> {
    if needs.memory_bytes == 0 {
        return None;
    }
    let (free, total) = match needs.accelerator {
        Some(kind) => node
            .hardware
            .accelerators
            .iter()
            .filter(|accelerator| accelerator.kind == kind)
            .map(|accelerator| (accelerator.vram_available_bytes, accelerator.vram_total_bytes))
            .max()
            .unwrap_or((0, 0)),
        None => (node.ram_available_bytes(), node.hardware.ram_total_bytes),
    };
    let free = free.saturating_sub(claimed);
    (free < needs.memory_bytes).then_some(Obstacle::Memory {
        need: needs.memory_bytes,
        free,
        passes: total >= needs.memory_bytes,
    })
}

/// What stands against a model on a node that is itself fit.
pub(crate) fn model_obstacle(
    node: &FleetNode<'_>,
    offer: &ModelOffer,
    needs: &StepNeeds,
    loaded: bool,
    claimed: u64,
) -> Option<Obstacle<'static>> {
    if !offer.generates {
        return Some(Obstacle::NoModel);
    }
    if let Some(wanted) = needs.model.as_deref()
        && wanted != offer.name
    {
        return Some(Obstacle::OtherModel);
    }
    if u64::from(needs.tokens_in) + u64::from(needs.tokens_out) > u64::from(offer.context_tokens) {
        return Some(Obstacle::Context(offer.context_tokens));
    }
    if !loaded && prior::accelerator_for(node.hardware, offer).is_none() {
        let need = prior::loaded_bytes(offer);
        let free = node.ram_available_bytes().saturating_sub(claimed);
        if free < need {
            let passes = node.hardware.ram_total_bytes >= need;
            return Some(Obstacle::Load { need, free, passes });
        }
    }
    None
}
