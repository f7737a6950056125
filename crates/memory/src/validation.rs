//! What a memory must be like to be kept. Everything that comes over the wire passes here first.

use kamil_protocol::memory::{AddMemory, Fact, MAX_MEMORY_BYTES, MemoryKind, NewMemory, RecallRequest};

/// Memories of one request at most.
pub const MAX_MEMORIES: usize = 256;
/// Longest subject, predicate or object of a fact, in bytes.
pub const MAX_FACT_BYTES: usize = 1024;
/// Longest query of a recall, in bytes.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;
/// Most hits of a recall.
pub const MAX_HITS: u32 = 100;
/// Most tokens of a conversation that a recall returns.
pub const MAX_CONVERSATION_TOKENS: u32 = 100_000;

/// Why a value is not valid, for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

fn refuse<T>(reason: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(reason.into()))
}

/// Checks a request's memories.
///
/// # Errors
/// Names the first that is not valid, by its place, and why.
pub fn check_all(memories: &[NewMemory]) -> Result<(), Invalid> {
    if memories.is_empty() || memories.len() > MAX_MEMORIES {
        return refuse(format!(
            "`memories` must hold 1 to {MAX_MEMORIES} memories; there are {}.",
            memories.len()
        ));
    }
    for (index, memory) in memories.iter().enumerate() {
        check(memory).map_err(|Invalid(reason)| Invalid(format!("`memories[{index}]`: {reason}")))?;
    }
    Ok(())
}

fn check(memory: &NewMemory) -> Result<(), Invalid> {
    check_text(&memory.text)?;
    if memory.kind == MemoryKind::Working && memory.session.is_none() {
        return refuse("A memory of kind `working` needs the `session` that it belongs to.");
    }
    check_fact(memory.kind, memory.fact.as_ref())
}

/// Checks a text.
///
/// # Errors
/// If it is empty or too long.
pub fn check_text(text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return refuse("`text` must not be empty.");
    }
    if text.len() > MAX_MEMORY_BYTES {
        return refuse(format!(
            "`text` is {} bytes long; at most {MAX_MEMORY_BYTES} are allowed. Split it into several memories.",
            text.len()
        ));
    }
    Ok(())
}

fn check_fact(kind: MemoryKind, fact: Option<&Fact>) -> Result<(), Invalid> {
    let fact = match (kind, fact) {
        (MemoryKind::Structured, Some(fact)) => fact,
        (MemoryKind::Structured, None) => return refuse("A memory of kind `structured` needs a `fact`."),
        (_, Some(_)) => return refuse("Only a memory of kind `structured` may have a `fact`."),
        (_, None) => return Ok(()),
    };
    for (name, value) in
        [("subject", &fact.subject), ("predicate", &fact.predicate), ("object", &fact.object)]
    {
        if value.trim().is_empty() {
            return refuse(format!("`fact.{name}` must not be empty."));
        }
        if value.len() > MAX_FACT_BYTES {
            return refuse(format!(
                "`fact.{name}` is {} bytes long; at most {MAX_FACT_BYTES} are allowed.",
                value.len()
            ));
        }
    }
    match (fact.valid_from, fact.valid_to) {
        (Some(from), Some(to)) if to < from => refuse("`fact.valid_to` is before `fact.valid_from`."),
        _ => Ok(()),
    }
}

/// Checks what a person adds, and says which kind it is.
///
/// # Errors
/// If it is not valid.
pub fn check_added(added: &AddMemory) -> Result<MemoryKind, Invalid> {
    let default = if added.fact.is_some() { MemoryKind::Structured } else { MemoryKind::Semantic };
    let kind = added.kind.unwrap_or(default);
    if kind == MemoryKind::Working {
        return refuse(
            "A memory of kind `working` is a turn of a conversation and cannot be added by hand. Choose `semantic`, \
             `episodic` or `structured`.",
        );
    }
    check_text(&added.text)?;
    check_fact(kind, added.fact.as_ref())?;
    Ok(kind)
}

/// Checks a recall.
///
/// # Errors
/// If it is not valid.
pub fn check_recall(request: &RecallRequest) -> Result<(), Invalid> {
    if request.query.trim().is_empty() {
        return refuse("`query` must not be empty.");
    }
    if request.query.len() > MAX_QUERY_BYTES {
        return refuse(format!(
            "`query` is {} bytes long; at most {MAX_QUERY_BYTES} are allowed.",
            request.query.len()
        ));
    }
    if let Some(limit) = request.limit
        && !(1..=MAX_HITS).contains(&limit)
    {
        return refuse(format!("`limit` must be 1 to {MAX_HITS}; it is {limit}."));
    }
    if let Some(tokens) = request.conversation_tokens
        && tokens > MAX_CONVERSATION_TOKENS
    {
        return refuse(format!(
            "`conversation_tokens` must be at most {MAX_CONVERSATION_TOKENS}; it is {tokens}."
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kamil_protocol::{
        MemoryId,
        memory::{Origin, Provenance},
    };

    use super::*;

    fn memory(kind: MemoryKind) -> NewMemory {
        NewMemory {
            id: MemoryId::generate(),
            kind,
            text: "text".to_owned(),
            fact: None,
            session: None,
            source: Provenance { origin: Origin::Person, task: None, step: None, labels: None },
            occurred_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn fact(subject: &str) -> Fact {
        Fact {
            subject: subject.to_owned(),
            predicate: "is".to_owned(),
            object: "blue".to_owned(),
            valid_from: None,
            valid_to: None,
        }
    }

    #[test]
    fn refusals_name_the_memory_and_the_reason() {
        let cases = [
            (NewMemory { text: "  ".to_owned(), ..memory(MemoryKind::Semantic) }, "`text` must not be empty"),
            (NewMemory { text: "x".repeat(16_385), ..memory(MemoryKind::Semantic) }, "16385 bytes"),
            (memory(MemoryKind::Working), "needs the `session`"),
            (memory(MemoryKind::Structured), "needs a `fact`"),
            (NewMemory { fact: Some(fact("sky")), ..memory(MemoryKind::Episodic) }, "Only a memory of kind"),
            (NewMemory { fact: Some(fact("")), ..memory(MemoryKind::Structured) }, "`fact.subject`"),
        ];
        for (bad, reason) in cases {
            let error = check_all(&[memory(MemoryKind::Semantic), bad]).unwrap_err().to_string();
            assert!(error.starts_with("`memories[1]`: ") && error.contains(reason), "{error}");
        }
        assert!(check_all(&[]).is_err());
        assert!(check_all(&vec![memory(MemoryKind::Semantic); 257]).is_err());
        assert!(
            check_all(&[NewMemory { fact: Some(fact("sky")), ..memory(MemoryKind::Structured) }]).is_ok()
        );
    }
}
