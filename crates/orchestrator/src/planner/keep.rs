//! What of a task is worth keeping.

use kamil_protocol::{
    MemoryId, TaskId,
    memory::{MAX_MEMORY_BYTES, MemoryKind, NewMemory, Origin, Provenance},
    task::{StepKind, StepStatus},
};
use sha2::{Digest as _, Sha256};

use super::{Context, StepResult, shorten};

/// The memories that a task leaves. Their ids follow from the task's, so that a repeat stores nothing twice.
#[must_use]
pub fn memories(ctx: &Context<'_>, task: TaskId, results: &[StepResult<'_>], answer: &str) -> Vec<NewMemory> {
    let mut kept = Vec::new();
    let mut keep = |kind: MemoryKind, origin: Origin, text: &str| {
        let text = shorten(text, MAX_MEMORY_BYTES);
        if text.is_empty() {
            return;
        }
        let part = kept.len();
        kept.push(NewMemory {
            id: derived(task, part),
            kind,
            text: text.to_owned(),
            fact: None,
            session: ctx.request.session,
            source: Provenance { origin, task: Some(task), step: None },
            occurred_at: ctx.now,
        });
    };
    if ctx.request.session.is_some() {
        keep(MemoryKind::Working, Origin::Person, &ctx.request.input);
        keep(MemoryKind::Working, Origin::Assistant, answer);
    }
    let asked = shorten(&ctx.request.input, 2_000);
    let mut told = format!("Asked: {asked}\nAnswered: {}", shorten(answer, 4_000));
    for result in results.iter().filter(|result| result.spec.kind == StepKind::Tool) {
        let tool = result.spec.tool.as_deref().unwrap_or_default();
        match (result.status, result.output) {
            (StepStatus::Succeeded, Some(output)) => {
                told.push_str(&format!("\nTool {tool} returned {}", shorten(&output.to_string(), 2_000)));
            }
            _ => told.push_str(&format!("\nTool {tool} did not succeed")),
        }
    }
    keep(MemoryKind::Episodic, Origin::Assistant, &told);
    kept
}

fn derived(task: TaskId, part: usize) -> MemoryId {
    let digest = Sha256::new().chain_update(task.as_uuid().as_bytes()).chain_update([part as u8]).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    MemoryId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_task() {
        let task = TaskId::from_uuid(uuid::Uuid::from_u128(7));
        assert_eq!(derived(task, 0), derived(task, 0));
        assert_ne!(derived(task, 0), derived(task, 1));
    }
}
