//! What of a task is worth keeping.

use kamil_plan::labels;
use kamil_protocol::{
    MemoryId, TaskId,
    memory::{MAX_MEMORY_BYTES, MemoryKind, NewMemory, Origin, Provenance},
    task::{Labels, StepKind, StepStatus},
};
use sha2::{Digest as _, Sha256};

use super::{Context, StepResult, shorten};

/// The memories that a task leaves, `said` being the labels on the answer. Their ids follow from the task's, so that a repeat stores
/// nothing twice.
#[must_use]
pub fn memories(
    ctx: &Context<'_>,
    task: TaskId,
    results: &[StepResult<'_>],
    answer: &str,
    said: &Labels,
) -> Vec<NewMemory> {
    let mut kept = Vec::new();
    let person = labels::person();
    let mut keep = |kind: MemoryKind, origin: Origin, text: &str, labels: &Labels| {
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
            source: Provenance { origin, task: Some(task), step: None, labels: Some(labels.clone()) },
            occurred_at: ctx.now,
        });
    };
    if ctx.request.session.is_some() {
        keep(MemoryKind::Working, Origin::Person, &ctx.request.input, &person);
        keep(MemoryKind::Working, Origin::Assistant, answer, said);
    }
    if tells_something(&ctx.request.input) {
        keep(MemoryKind::Semantic, Origin::Person, &ctx.request.input, &person);
    }
    let done: Vec<String> = results.iter().filter_map(episode).collect();
    if !done.is_empty() {
        let asked = shorten(&ctx.request.input, 1_000);
        let text =
            format!("The person asked: {asked}\n{}\nAnswer: {}", done.join("\n"), shorten(answer, 1_500));
        let told = labels::join(results.iter().map(|result| &result.labels).chain([said, &person]));
        keep(MemoryKind::Episodic, Origin::Tool, &text, &told);
    }
    kept
}

/// What a tool did, for the record of what happened.
fn episode(result: &StepResult<'_>) -> Option<String> {
    if result.spec.kind != StepKind::Tool {
        return None;
    }
    let tool = result.spec.tool.as_deref().unwrap_or_default();
    let outcome = match (result.status, result.output) {
        (StepStatus::Succeeded, Some(output)) => format!("returned {}", shorten(&output.to_string(), 1_200)),
        _ => "did not succeed".to_owned(),
    };
    Some(format!(
        "{tool} {} {outcome}",
        shorten(&serde_json::Value::Object(result.spec.inputs.clone()).to_string(), 400)
    ))
}

/// Whether the person says something about themselves or asks to remember it; questions, greetings and orders are not memories.
fn tells_something(input: &str) -> bool {
    let lower =
        format!(" {} ", input.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '\'', " "));
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(&format!(" {word} ")));
    let question = input.trim_end().ends_with('?');
    let asked = has(&["remember", "note that", "keep in mind", "don't forget"]);
    let about_self =
        has(&["my", "i am", "i'm", "i like", "i live", "i work", "i prefer", "i have", "we are", "our"]);
    let order = lower.split_whitespace().next().is_some_and(|first| ORDERS.contains(&first));
    !question && (asked || (about_self && !order))
}

const ORDERS: &[&str] = &[
    "list",
    "show",
    "read",
    "write",
    "run",
    "train",
    "delete",
    "search",
    "find",
    "open",
    "create",
    "make",
    "compute",
    "calculate",
    "tell",
    "explain",
    "translate",
    "summarize",
    "what",
    "how",
    "who",
    "when",
    "where",
    "why",
    "which",
    "can",
    "could",
    "please",
];

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
    fn statements_are_kept_and_questions_and_orders_are_not() {
        for told in ["My dentist is Dr. Weber", "Remember that the key is under the mat", "I live in Graz."] {
            assert!(tells_something(told), "{told}");
        }
        for other in ["Hello!", "What is my name?", "List my files", "Explain hash chains", "Read my notes"] {
            assert!(!tells_something(other), "{other}");
        }
    }

    #[test]
    fn ids_follow_from_the_task() {
        let task = TaskId::from_uuid(uuid::Uuid::from_u128(7));
        assert_eq!(derived(task, 0), derived(task, 0));
        assert_ne!(derived(task, 0), derived(task, 1));
    }
}
