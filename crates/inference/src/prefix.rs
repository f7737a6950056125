//! Which sequence of the cache a new request takes, and how much of what is there it can keep.

use llama_cpp_2::token::LlamaToken;

/// Losing this many tokens of another conversation is cheaper than giving up a whole sequence for it.
const SMALL_TAIL_TOKENS: usize = 16;

/// What a sequence of the cache holds, as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) tokens: &'a [LlamaToken],
    pub(crate) busy: bool,
    /// Larger is more recent.
    pub(crate) last_used: u64,
}

/// The choice made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Index of the sequence to use.
    pub(crate) slot: usize,
    /// Index of another sequence whose prefix is to be copied first.
    pub(crate) copy_from: Option<usize>,
    /// Tokens that need no prefill.
    pub(crate) reused: usize,
}

/// Chooses for `prompt`, or `None` if all sequences are busy. At least one token is always left to decode, since its
/// logits are needed.
///
/// A sequence that the prompt continues is used in place. One that shares only a part (the same system prompt under
/// another conversation) is copied into the least recently used sequence, so that both stay warm; the copy shares the
/// memory of the original.
pub(crate) fn choose(candidates: &[Candidate<'_>], prompt: &[LlamaToken]) -> Option<Choice> {
    let limit = prompt.len().saturating_sub(1);
    let shared = |candidate: &Candidate<'_>| common_prefix(candidate.tokens, prompt).min(limit);
    let oldest_idle = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !candidate.busy)
        .min_by_key(|(_, candidate)| (!candidate.tokens.is_empty(), candidate.last_used))
        .map(|(index, _)| index)?;
    let (best, reused) =
        candidates.iter().enumerate().map(|(index, candidate)| (index, shared(candidate))).max_by_key(
            |(index, reused)| (*reused, !candidates[*index].busy, candidates[*index].last_used),
        )?;
    if reused == 0 {
        return Some(Choice { slot: oldest_idle, copy_from: None, reused: 0 });
    }
    let lost = candidates[best].tokens.len() - reused;
    if !candidates[best].busy && (lost <= SMALL_TAIL_TOKENS || best == oldest_idle) {
        return Some(Choice { slot: best, copy_from: None, reused });
    }
    Some(Choice { slot: oldest_idle, copy_from: Some(best), reused })
}

fn common_prefix(left: &[LlamaToken], right: &[LlamaToken]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[i32]) -> Vec<LlamaToken> {
        ids.iter().copied().map(LlamaToken::new).collect()
    }

    fn candidate(tokens: &[LlamaToken], busy: bool, last_used: u64) -> Candidate<'_> {
        Candidate { tokens, busy, last_used }
    }

    #[test]
    fn a_continued_conversation_stays_in_its_sequence() {
        let (a, b) = (tokens(&[1, 2, 3, 4]), tokens(&[9, 9]));
        let candidates = [candidate(&b, false, 5), candidate(&a, false, 1), candidate(&[], false, 0)];
        let choice = choose(&candidates, &tokens(&[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(choice, Choice { slot: 1, copy_from: None, reused: 4 });
    }

    #[test]
    fn a_shared_system_prompt_is_copied_so_that_both_stay_warm() {
        let a = tokens(&(1..40).collect::<Vec<_>>());
        let candidates = [candidate(&a, false, 1), candidate(&[], false, 0)];
        let choice = choose(&candidates, &tokens(&[1, 2, 10, 11])).unwrap();
        assert_eq!(choice, Choice { slot: 1, copy_from: Some(0), reused: 2 });
    }

    #[test]
    fn the_only_idle_sequence_is_used_in_place() {
        let a = tokens(&(1..40).collect::<Vec<_>>());
        let candidates = [candidate(&a, false, 1), candidate(&[], true, 0)];
        let choice = choose(&candidates, &tokens(&[1, 2, 10, 11])).unwrap();
        assert_eq!(choice, Choice { slot: 0, copy_from: None, reused: 2 });
    }

    #[test]
    fn a_busy_sequence_lends_its_prefix() {
        let (a, b) = (tokens(&[1, 2, 3]), tokens(&[7]));
        let candidates = [candidate(&a, true, 9), candidate(&b, false, 1)];
        let choice = choose(&candidates, &tokens(&[1, 2, 3, 4])).unwrap();
        assert_eq!(choice, Choice { slot: 1, copy_from: Some(0), reused: 3 });
    }

    #[test]
    fn the_same_prompt_again_leaves_one_token_to_decode() {
        let a = tokens(&[1, 2, 3]);
        let choice = choose(&[candidate(&a, false, 1)], &a).unwrap();
        assert_eq!(choice.reused, 2);
    }

    #[test]
    fn nothing_shared_takes_an_empty_sequence_then_the_oldest() {
        let (a, b) = (tokens(&[1]), tokens(&[2]));
        let prompt = tokens(&[5, 6]);
        let with_empty = [candidate(&a, false, 1), candidate(&[], false, 8)];
        assert_eq!(choose(&with_empty, &prompt).unwrap().slot, 1);
        let all_used = [candidate(&a, false, 4), candidate(&b, false, 3)];
        assert_eq!(choose(&all_used, &prompt).unwrap().slot, 1);
    }

    #[test]
    fn all_busy_means_waiting() {
        assert_eq!(choose(&[candidate(&[], true, 0)], &tokens(&[1])), None);
    }
}
