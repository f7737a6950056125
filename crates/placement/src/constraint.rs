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
    NoTool(&'a str),
    NoModel,
    OtherModel(&'a str),
    Context { context: u32, tokens_in: u32, tokens_out: u32 },
    NoAccelerator(AcceleratorKind),
    Memory { need: u64, free: u64, passes: bool },
    Load { need: u64, free: u64, passes: bool },
}

impl Obstacle<'_> {
    /// Whether waiting may remove it: memory that other work holds now.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::Memory { passes: true, .. } | Self::Load { passes: true, .. })
    }
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dead => f.write_str("not alive: its heartbeats stopped"),
            Self::Avoided(reason) => write!(f, "not allowed: {reason}"),
            Self::NoTool(tool) => write!(f, "does not offer the tool `{tool}`"),
            Self::NoModel => f.write_str("offers no model that writes text"),
            Self::OtherModel(wanted) => write!(f, "not the model asked for, `{wanted}`"),
            Self::Context { context, tokens_in, tokens_out } => write!(
                f,
                "context too small: it holds {}, {tokens_in} to read and {tokens_out} to write are needed",
                Count(u64::from(context), "token")
            ),
            Self::NoAccelerator(kind) => write!(f, "has no {} accelerator", kind_name(kind)),
            Self::Memory { need, free, .. } => {
                write!(f, "too little memory: {} must be free, {} are", Bytes(need), Bytes(free))
            }
            Self::Load { need, free, .. } => {
                write!(f, "too little memory to load the model: it takes {}, {} are free", Bytes(need), Bytes(free))
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
    needs: &'a StepNeeds,
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
            return Some(Obstacle::NoTool(tool));
        }
    }
    if let Some(kind) = needs.accelerator
        && !node.hardware.accelerators.iter().any(|accelerator| accelerator.kind == kind)
    {
        return Some(Obstacle::NoAccelerator(kind));
    }
    memory_obstacle(node, needs, claimed)
}

fn memory_obstacle<'a>(node: &FleetNode<'_>, needs: &StepNeeds, claimed: u64) -> Option<Obstacle<'a>> {
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
pub(crate) fn model_obstacle<'a>(
    node: &FleetNode<'_>,
    offer: &ModelOffer,
    needs: &'a StepNeeds,
    loaded: bool,
    claimed: u64,
) -> Option<Obstacle<'a>> {
    if !offer.generates {
        return Some(Obstacle::NoModel);
    }
    if let Some(wanted) = needs.model.as_deref()
        && wanted != offer.name
    {
        return Some(Obstacle::OtherModel(wanted));
    }
    if u64::from(needs.tokens_in) + u64::from(needs.tokens_out) > u64::from(offer.context_tokens) {
        return Some(Obstacle::Context {
            context: offer.context_tokens,
            tokens_in: needs.tokens_in,
            tokens_out: needs.tokens_out,
        });
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
