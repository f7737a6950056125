//! Which model fits this machine: weights, cache and working memory against what is free.

use serde::Serialize;

use crate::catalogue::{CatalogueEntry, ModelKind, catalogue};

/// Compute buffers, vocabulary and grammar tables.
const BUFFER_BYTES: u64 = 96 << 20;

/// Contexts that the cache holds: the running one and as much again for warm prefixes and parallel requests.
const CACHED_CONTEXTS: u64 = 2;

/// Memory of llama.cpp beside weights and cache. It keeps a second copy, rearranged for the processor's vector
/// instructions, of the matrices it can; measured at five eighths of the weights of a Q4_K_M file.
fn working_bytes(weights_bytes: u64) -> u64 {
    BUFFER_BYTES + weights_bytes / 8 * 5
}

/// The arithmetic for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Catalogue name.
    pub name: &'static str,
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Bytes of key/value cache at the model's working context.
    pub cache_bytes: u64,
    /// Bytes of working memory.
    pub working_bytes: u64,
    /// The sum.
    pub needed_bytes: u64,
    /// What was free.
    pub free_bytes: u64,
    /// Whether it fits.
    pub fits: bool,
}

/// The answer of [`fit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The largest generating model that fits, if any does.
    pub chosen: Option<&'static str>,
    /// Every generating model, the largest first.
    pub candidates: Vec<Candidate>,
}

/// Decides which generating model of the catalogue to run with `free_memory_bytes`.
pub fn fit(free_memory_bytes: u64) -> Fit {
    let mut candidates: Vec<_> = catalogue()
        .iter()
        .filter(|entry| entry.kind == ModelKind::Generate)
        .map(|entry| candidate(entry, free_memory_bytes))
        .collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.weights_bytes));
    let chosen = candidates.iter().find(|candidate| candidate.fits).map(|candidate| candidate.name);
    Fit { chosen, candidates }
}

fn candidate(entry: &CatalogueEntry, free_bytes: u64) -> Candidate {
    let cache_bytes = CACHED_CONTEXTS * u64::from(entry.context_tokens) * entry.kv_bytes_per_token;
    let working_bytes = working_bytes(entry.bytes);
    let needed_bytes = entry.bytes + cache_bytes + working_bytes;
    Candidate {
        name: entry.name,
        weights_bytes: entry.bytes,
        cache_bytes,
        working_bytes,
        needed_bytes,
        free_bytes,
        fits: needed_bytes <= free_bytes,
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            formatter,
            "{}: {} MiB weights + {} MiB cache + {} MiB working = {} MiB, {} {} MiB free",
            self.name,
            mib(self.weights_bytes),
            mib(self.cache_bytes),
            mib(self.working_bytes),
            mib(self.needed_bytes),
            if self.fits { "fits" } else { "does not fit" },
            self.free_bytes >> 20,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_is_chosen_and_each_sum_is_shown() {
        let large = fit(8 << 30);
        assert_eq!(large.chosen, Some("qwen2.5-coder:1.5b"));
        let qwen = large.candidates[0];
        assert_eq!(qwen.cache_bytes, 2 * 8192 * 28_672);
        assert_eq!(qwen.needed_bytes, qwen.weights_bytes + qwen.cache_bytes + qwen.working_bytes);
        assert_eq!(fit(qwen.needed_bytes).chosen, Some("qwen2.5-coder:1.5b"));
        assert_eq!(fit(qwen.needed_bytes - 1).chosen, Some("smollm2:135m"));
        let none = fit(100 << 20);
        assert_eq!(none.chosen, None);
        assert!(none.candidates.iter().all(|candidate| candidate.to_string().contains("does not fit")));
    }
}
