//! Labels: where they come from, and how they join: every source is kept, the stricter trust wins.

use kamil_protocol::{
    memory::{Memory, Origin},
    reason::{ChatMessage, Speaker},
    task::{Labels, Source, Trust},
};

/// What the person typed.
#[must_use]
pub fn person() -> Labels {
    Labels { sources: vec![Source::Person], trust: Trust::Trusted }
}

/// What anybody may have written, and came from there.
#[must_use]
pub fn untrusted(source: Source) -> Labels {
    Labels { sources: vec![source], trust: Trust::Untrusted }
}

/// A memory, as far as it may be believed: as far as what it holds could be when it was kept. Of what was imported, nothing is known,
/// since whoever wrote it could have written its labels too.
#[must_use]
pub fn of_memory(memory: &Memory) -> Labels {
    let kept = match (memory.source.origin, &memory.source.labels) {
        (Origin::Import, _) => untrusted(Source::Memory),
        (_, Some(labels)) => labels.clone(),
        (Origin::Person, None) => person(),
        (Origin::Assistant, None) => untrusted(Source::Model),
        (Origin::Tool, None) => untrusted(Source::Tool),
    };
    with_source(kept, Source::Memory)
}

/// A turn of a conversation that the caller supplies. What went into an earlier reply is not known.
#[must_use]
pub fn of_turn(turn: &ChatMessage) -> Labels {
    match turn.role {
        Speaker::System | Speaker::User => person(),
        Speaker::Assistant => untrusted(Source::Model),
        Speaker::Tool => untrusted(Source::Tool),
    }
}

/// The labels of a value that all of these went into; of nothing: no source, trusted.
#[must_use]
pub fn join<'a>(labels: impl IntoIterator<Item = &'a Labels>) -> Labels {
    let mut joined = Labels { sources: Vec::new(), trust: Trust::Trusted };
    for label in labels {
        joined.sources.extend_from_slice(&label.sources);
        joined.trust = joined.trust.max(label.trust);
    }
    joined.sources.sort_unstable();
    joined.sources.dedup();
    joined
}

/// The labels with one more source.
#[must_use]
pub fn with_source(mut labels: Labels, source: Source) -> Labels {
    if let Err(place) = labels.sources.binary_search(&source) {
        labels.sources.insert(place, source);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_trust_wins_and_sources_are_a_set() {
        let web = Labels { sources: vec![Source::Web], trust: Trust::Untrusted };
        let joined = join([&web, &person(), &web]);
        assert_eq!(joined.sources, [Source::Person, Source::Web]);
        assert_eq!(joined.trust, Trust::Untrusted);
        assert_eq!(with_source(joined, Source::Model).sources, [Source::Person, Source::Model, Source::Web]);
        assert_eq!(join([]).trust, Trust::Trusted);
    }
}
