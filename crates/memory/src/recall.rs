//! Hybrid recall: four signals, each brought to 0–1 in a scale of its own, weighted and added up.
//!
//! Ranks are not fused (as reciprocal rank fusion does: Cormack, Clarke, Büttcher 2009), since a rank does not tell
//! whether the best is any good, and what is not good must not get into a prompt. Every signal here has an absolute scale,
//! so the sum has a floor: what stays below is not returned at all.
//!
//! * lexical: share of the query's words of content that the memory holds, each weighing the more the rarer it is
//!   (inverse document frequency), shaded by BM25;
//! * vector: cosine of the embeddings above the level at which unrelated texts lie;
//! * entity: share of the query's names, numbers and quoted passages that the memory holds;
//! * time: within the time that the query means, newest of what fits, or just recent.

pub(crate) mod query;
mod time_expression;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use kamil_protocol::{
    SessionId,
    memory::{Hit, Memory, MemoryKind, RecallRequest, Signal, SignalScore},
};
use rusqlite::Connection;

use self::{
    query::{Query, split, stem},
    time_expression::When,
};
use crate::store::{SqliteStore, StoreError, rows, search};

const LEXICAL_WEIGHT: f32 = 0.4;
const VECTOR_WEIGHT: f32 = 0.7;
const ENTITY_WEIGHT: f32 = 0.15;
const TIME_WEIGHT: f32 = 0.25;
const RECENCY_WEIGHT: f32 = 0.03;
/// Unrelated texts have cosines up to about here (all-MiniLM-L6-v2).
const COSINE_FLOOR: f32 = 0.2;
/// What words, meaning and names add up to at least, or the memory is not returned.
const RELEVANCE_FLOOR: f32 = 0.08;
/// Recency halves in this time.
const RECENCY_HALF_LIFE_DAYS: f64 = 30.0;
/// Candidates of each signal.
const CANDIDATES: usize = 48;
/// Document frequencies are counted to here; a word that is more frequent tells nothing.
const FREQUENCY_CEILING: u32 = 2_000;
/// A conversation is looked back at so many turns at most.
const MAX_TURNS: usize = 1_000;
const DEFAULT_HITS: u32 = 8;
const DEFAULT_CONVERSATION_TOKENS: u32 = 1_000;
const DEFAULT_KINDS: [MemoryKind; 3] = [MemoryKind::Semantic, MemoryKind::Episodic, MemoryKind::Structured];

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// The running conversation, oldest turn first.
    pub conversation: Vec<Memory>,
}

/// Finds what bears on the request, which must be valid. `vector` is the query's embedding, `now` the moment for
/// expressions such as "yesterday".
///
/// # Errors
/// If the store cannot be read.
pub async fn recall(
    store: &SqliteStore,
    request: RecallRequest,
    vector: Option<Vec<f32>>,
    now: Timestamp,
) -> Result<Recalled, StoreError> {
    let vectors = store.clone();
    store
        .read("recall", move |connection| {
            let now = now.to_zoned(TimeZone::system());
            let search = Search::new(connection, &request, vector.as_deref(), &now)?;
            let candidates = search.candidates(&vectors)?;
            let hits = search.hits(&vectors, candidates)?;
            let conversation = match request.session {
                Some(session) => {
                    let tokens = request.conversation_tokens.unwrap_or(DEFAULT_CONVERSATION_TOKENS);
                    conversation(connection, session, tokens)?
                }
                None => Vec::new(),
            };
            Ok(Recalled { hits, conversation })
        })
        .await
}

/// About how many tokens a text has: four bytes each, and a few for who speaks.
fn about_tokens(text: &str) -> usize {
    text.len().div_ceil(4) + 4
}

fn conversation(connection: &Connection, session: SessionId, tokens: u32) -> rusqlite::Result<Vec<Memory>> {
    let mut left = usize::try_from(tokens).unwrap_or(usize::MAX);
    let mut turns = Vec::new();
    for seq in search::turns(connection, session.as_uuid().as_bytes(), MAX_TURNS)? {
        let Some(memory) = rows::load(connection, seq)? else { continue };
        let Some(rest) = left.checked_sub(about_tokens(&memory.text)) else { break };
        left = rest;
        turns.push(memory);
    }
    turns.reverse();
    Ok(turns)
}

struct Search<'a> {
    connection: &'a Connection,
    request: &'a RecallRequest,
    kinds: Vec<MemoryKind>,
    query: Query,
    vector: Option<&'a [f32]>,
    now: &'a Zoned,
    /// For each of the query's terms, how much it tells, 0 or more.
    weights: Vec<f32>,
}

/// What is known of a candidate before its text is read.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    bm25: Option<f64>,
    in_time: bool,
}

struct Scored {
    memory: Memory,
    signals: Vec<SignalScore>,
    relevance: f32,
}

impl<'a> Search<'a> {
    fn new(
        connection: &'a Connection,
        request: &'a RecallRequest,
        vector: Option<&'a [f32]>,
        now: &'a Zoned,
    ) -> rusqlite::Result<Self> {
        let kinds = if request.kinds.is_empty() { DEFAULT_KINDS.to_vec() } else { distinct(&request.kinds) };
        let query = Query::parse(&request.query, now);
        let mut weights = Vec::with_capacity(query.terms.len());
        for term in &query.terms {
            let frequency = search::frequency(connection, term, FREQUENCY_CEILING)?;
            weights.push(term_weight(frequency));
        }
        Ok(Self { connection, request, kinds, query, vector, now, weights })
    }

    fn candidates(&self, store: &SqliteStore) -> rusqlite::Result<BTreeMap<i64, Found>> {
        let mut found: BTreeMap<i64, Found> = BTreeMap::new();
        let telling = self.query.terms.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0.0);
        let words: Vec<&str> = telling.map(|(term, _)| term.as_str()).collect();
        for worded in search::worded(self.connection, &words, &self.kinds, CANDIDATES)? {
            found.entry(worded.seq).or_default().bm25 = Some(worded.bm25);
        }
        if let Some(vector) = self.vector {
            for similar in store.vectors().nearest(vector, &self.kinds, COSINE_FLOOR, CANDIDATES) {
                found.entry(similar.seq).or_default();
            }
        }
        let stretch = match &self.query.when {
            Some(When::Between { from, to }) => Some((from.as_microsecond(), to.as_microsecond())),
            // "What was the last thing we did?" names nothing else to go by.
            Some(When::Latest) if self.query.terms.is_empty() => Some((i64::MIN, i64::MAX)),
            _ => None,
        };
        if let Some((from, to)) = stretch {
            for seq in search::in_time(self.connection, &self.kinds, from, to, CANDIDATES)? {
                found.entry(seq).or_default().in_time = true;
            }
        }
        Ok(found)
    }

    fn hits(&self, store: &SqliteStore, candidates: BTreeMap<i64, Found>) -> rusqlite::Result<Vec<Hit>> {
        let best_bm25 = candidates.values().filter_map(|found| found.bm25).fold(0.0, f64::max);
        let mut scored = Vec::with_capacity(candidates.len());
        for (seq, found) in candidates {
            let Some(memory) = rows::load(self.connection, seq)? else { continue };
            if self.leaves_out(&memory) {
                continue;
            }
            let cosine = self.vector.and_then(|vector| store.vectors().cosine(seq, vector));
            let candidate = self.score(memory, found, cosine, best_bm25);
            let time_is_enough = found.in_time && self.query.terms.is_empty();
            if candidate.relevance >= RELEVANCE_FLOOR || time_is_enough {
                scored.push(candidate);
            }
        }
        self.add_time(&mut scored);
        let mut hits: Vec<Hit> = scored
            .into_iter()
            .map(|Scored { memory, mut signals, .. }| {
                signals.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
                let score = signals.iter().map(|signal| signal.contribution).sum();
                Hit { memory, score, signals }
            })
            .collect();
        hits.sort_by(|a, b| {
            let newest = b.memory.occurred_at.cmp(&a.memory.occurred_at);
            b.score.total_cmp(&a.score).then(newest).then(b.memory.id.cmp(&a.memory.id))
        });
        hits.truncate(usize::try_from(self.request.limit.unwrap_or(DEFAULT_HITS)).unwrap_or(usize::MAX));
        Ok(hits)
    }

    /// Turns of the running conversation are returned apart; a fact that no longer holds bears on a query only if that
    /// asks for the time in which it held.
    fn leaves_out(&self, memory: &Memory) -> bool {
        if memory.kind == MemoryKind::Working
            && memory.session.is_some()
            && memory.session == self.request.session
        {
            return true;
        }
        let Some(fact) = &memory.fact else { return false };
        let has_ended = fact.valid_to.is_some_and(|ended| ended <= self.now.timestamp());
        match &self.query.when {
            Some(When::Between { from, to }) => has_ended && !lies_between(memory, *from, *to),
            _ => has_ended,
        }
    }

    fn score(&self, memory: Memory, found: Found, cosine: Option<f32>, best_bm25: f64) -> Scored {
        let mut signals = Vec::new();
        let text = rows::searched_text(&memory).to_lowercase();
        if let Some(bm25) = found.bm25 {
            let coverage = self.coverage(&text);
            let shade = if best_bm25 > 0.0 { ratio(bm25, best_bm25) } else { 1.0 };
            let contribution = LEXICAL_WEIGHT * coverage * (0.8 + 0.2 * shade);
            add(&mut signals, Signal::Lexical, narrow(bm25), contribution);
        }
        if let Some(cosine) = cosine {
            let above = ((cosine - COSINE_FLOOR) / (1.0 - COSINE_FLOOR)).clamp(0.0, 1.0);
            add(&mut signals, Signal::Vector, cosine, VECTOR_WEIGHT * above);
        }
        if !self.query.entities.is_empty() {
            let held = self.query.entities.iter().filter(|entity| holds(&text, entity)).count();
            let share = ratio_of(held, self.query.entities.len());
            add(&mut signals, Signal::Entity, share, ENTITY_WEIGHT * share);
        }
        let relevance = signals.iter().map(|signal| signal.contribution).sum();
        Scored { memory, signals, relevance }
    }

    /// Weighted share of the query's terms that a text in lower case holds.
    fn coverage(&self, text: &str) -> f32 {
        let total: f32 = self.weights.iter().sum();
        if total <= 0.0 {
            return 0.0;
        }
        let stems: BTreeSet<_> = split(text).map(stem).collect();
        let held = self.query.terms.iter().zip(&self.weights).filter(|(term, _)| stems.contains(&stem(term)));
        held.map(|(_, weight)| weight).sum::<f32>() / total
    }

    fn add_time(&self, scored: &mut [Scored]) {
        match &self.query.when {
            Some(When::Between { from, to }) => {
                for candidate in scored {
                    if lies_between(&candidate.memory, *from, *to) {
                        add(&mut candidate.signals, Signal::Time, 1.0, TIME_WEIGHT);
                    }
                }
            }
            Some(When::Latest) => {
                let best = scored.iter().map(|candidate| candidate.relevance).fold(0.0, f32::max);
                // Only what fits about as well as the best can be "the last": not everything that is new.
                let mut fitting: Vec<&mut Scored> =
                    scored.iter_mut().filter(|candidate| candidate.relevance >= 0.5 * best).collect();
                fitting.sort_by_key(|candidate| std::cmp::Reverse(candidate.memory.occurred_at));
                let mut share = 1.0;
                for candidate in fitting {
                    add(&mut candidate.signals, Signal::Time, share, TIME_WEIGHT * share);
                    share *= 0.6;
                }
            }
            None => {
                for candidate in scored {
                    let age = self.now.timestamp().duration_since(candidate.memory.occurred_at);
                    let days = age.as_secs_f64().max(0.0) / 86_400.0;
                    let recency = narrow((-days / RECENCY_HALF_LIFE_DAYS).exp2());
                    add(&mut candidate.signals, Signal::Time, recency, RECENCY_WEIGHT * recency);
                }
            }
        }
    }
}

/// Whether a memory tells of a stretch of time: a fact, if it held then for some of it; another, if it happened then.
fn lies_between(memory: &Memory, from: Timestamp, to: Timestamp) -> bool {
    match &memory.fact {
        Some(fact) => {
            let begun = fact.valid_from.unwrap_or(memory.occurred_at);
            begun < to && fact.valid_to.is_none_or(|ended| from < ended)
        }
        None => (from..to).contains(&memory.occurred_at),
    }
}

fn add(signals: &mut Vec<SignalScore>, signal: Signal, raw: f32, contribution: f32) {
    if contribution > 0.0005 {
        signals.push(SignalScore { signal, raw, contribution });
    }
}

/// How much a word tells that stands in so many memories, 0–1.
fn term_weight(frequency: u32) -> f32 {
    match frequency {
        // That every memory lacks a word speaks against all of them; but it may be a form that the stems do not bring together.
        0 => 0.5,
        FREQUENCY_CEILING.. => 0.0,
        _ => narrow(1.0 - f64::from(frequency).ln() / f64::from(FREQUENCY_CEILING).ln()),
    }
}

fn distinct(kinds: &[MemoryKind]) -> Vec<MemoryKind> {
    let set: BTreeSet<MemoryKind> = kinds.iter().copied().collect();
    set.into_iter().collect()
}

/// Whether a text holds a name as a whole word; both in lower case.
fn holds(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(begin, _)| {
        let before = text[..begin].chars().next_back();
        let after = text[begin + name.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn ratio(part: f64, whole: f64) -> f32 {
    narrow((part / whole).clamp(0.0, 1.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a handful")]
fn ratio_of(part: usize, whole: usize) -> f32 {
    part as f32 / whole as f32
}

#[expect(clippy::cast_possible_truncation, reason = "scores are shown, not computed with further")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_tell_more() {
        assert!(term_weight(1) > term_weight(10));
        assert!(term_weight(10) > term_weight(1_000));
        assert!(term_weight(2_000) <= 0.0);
    }

    #[test]
    fn a_name_is_held_as_a_whole_word() {
        assert!(holds("trained on iris.csv today", "iris.csv"));
        assert!(holds("anna", "anna"));
        assert!(!holds("joanna", "anna"));
        assert!(!holds("banana 197", "97"));
    }
}
