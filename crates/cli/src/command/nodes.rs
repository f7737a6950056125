//! `kamil nodes`

use kamil_protocol::node::{AcceleratorKind, NodeDoc, NodeStatus, Role};

use crate::{
    arguments::OrchestratorFlag,
    context::Context,
    failure::{Exit, Failure},
    hub::Hub,
    table::bytes,
    terminal::{self, BAD, GOOD, Stream, one_line},
};

pub(super) async fn run(context: &Context, flags: &OrchestratorFlag) -> Result<Exit, Failure> {
    let hub = Hub::running(context, flags.named()).await?;
    show(context, &hub).await?;
    Ok(Exit::Done)
}

/// Writes the list of nodes.
pub(super) async fn show(context: &Context, hub: &Hub) -> Result<(), Failure> {
    let nodes = hub.nodes().await?;
    if context.json {
        return terminal::say_json(&nodes);
    }
    if nodes.is_empty() {
        terminal::note(
            "no node is registered; `kamil llm-node`, `kamil tool-node` and `kamil memory-node` start some",
        );
    }
    for node in &nodes {
        let status = match node.status {
            NodeStatus::Alive => Stream::Out.paint(GOOD, "alive"),
            NodeStatus::Dead => Stream::Out.paint(BAD, "dead"),
        };
        let name = one_line(&node.name, 64);
        terminal::say(format_args!(
            "{name}  {}  {status}  {}",
            role_name(node.role),
            one_line(&node.url, 80)
        ));
        terminal::say(format_args!("  hardware: {}", hardware(node)));
        let load = &node.load;
        let (cpu, free) = (load.cpu * 100.0, bytes(load.ram_available_bytes));
        terminal::say(format_args!(
            "  load:     {cpu:.0} % of the cores, {free} free, {} running, {} queued",
            load.running, load.queued
        ));
        terminal::say(format_args!("  offers:   {}", offer(node)));
    }
    Ok(())
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Orchestrator => "orchestrator",
        Role::Llm => "llm",
        Role::Tool => "tool",
        Role::Memory => "memory",
    }
}

fn hardware(node: &NodeDoc) -> String {
    let hardware = &node.hardware;
    let mut parts = vec![
        one_line(&hardware.cpu_model, 60),
        format!("{} cores ({} logical)", hardware.physical_cores, hardware.logical_cores),
        format!("{} RAM", bytes(hardware.ram_total_bytes)),
    ];
    for accelerator in &hardware.accelerators {
        let kind = match accelerator.kind {
            AcceleratorKind::Cuda => "CUDA",
            AcceleratorKind::Rocm => "ROCm",
            AcceleratorKind::Metal => "Metal",
            AcceleratorKind::Vulkan => "Vulkan",
        };
        let free = bytes(accelerator.vram_available_bytes);
        let total = bytes(accelerator.vram_total_bytes);
        parts.push(format!("{} ({kind}, {free} of {total} free)", one_line(&accelerator.name, 60)));
    }
    parts.extend(hardware.power.as_ref().map(|power| format!("on {}", one_line(power, 20))));
    if hardware.from_profile {
        parts.push("from a profile".to_owned());
    }
    parts.join(", ")
}

/// What a node offers, in one line.
pub(super) fn offer(node: &NodeDoc) -> String {
    let offered = &node.capabilities;
    let mut parts = Vec::new();
    for model in &offered.models {
        let kinds = if model.generates { model.specializations.join(", ") } else { "embeddings".to_owned() };
        let speed =
            model.decode_tokens_per_s.map(|speed| format!(", {speed:.0} tokens/s")).unwrap_or_default();
        parts.push(format!("{} ({kinds}{speed})", model.name));
    }
    if !offered.tools.is_empty() {
        let mut families: Vec<&str> =
            offered.tools.iter().map(|tool| tool.name.split('.').next().unwrap_or(&tool.name)).collect();
        families.dedup();
        parts.push(format!("{} tools: {}", offered.tools.len(), families.join(", ")));
    }
    if let Some(memory) = &offered.memory {
        let recall = match &memory.embedder {
            Some(embedder) => format!("recall by words and meaning ({embedder})"),
            None => "recall by words alone: no embedding model is installed".to_owned(),
        };
        parts.push(format!("{} memories, {recall}", memory.memories));
    }
    if parts.is_empty() { "nothing".to_owned() } else { one_line(&parts.join("; "), 400) }
}
