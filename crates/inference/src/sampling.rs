//! Choosing the next token from logits, under a mask.

use llama_cpp_2::token::LlamaToken;
use llguidance::toktrie::SimpleVob;

/// Tokens this many temperature units below the best have probability under 1e-8 and are left out.
const NEGLIGIBLE: f32 = 18.0;

/// A sampler with its own random stream.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_p: f32,
    state: u64,
}

impl Sampler {
    pub(crate) fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, state: seed }
    }

    /// The next token, or `None` if the mask allows none (or all logits are NaN).
    pub(crate) fn pick(&mut self, logits: &[f32], mask: Option<&SimpleVob>) -> Option<LlamaToken> {
        let (best, peak) = best_allowed(logits, mask)?;
        if self.temperature <= 0.0 {
            return Some(token(best));
        }
        let floor = peak - NEGLIGIBLE * self.temperature;
        let mut candidates: Vec<(usize, f64)> = allowed(logits, mask)
            .filter(|(_, logit)| *logit >= floor)
            .map(|(index, logit)| (index, f64::from((logit - peak) / self.temperature).exp()))
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let nucleus = total * f64::from(self.top_p.clamp(0.0, 1.0));
        let mut kept = 0.0;
        let mut count = 0;
        for (_, weight) in &candidates {
            kept += weight;
            count += 1;
            if kept >= nucleus {
                break;
            }
        }
        let mut left = self.uniform() * kept;
        for (index, weight) in &candidates[..count] {
            left -= weight;
            if left < 0.0 {
                return Some(token(*index));
            }
        }
        Some(token(candidates[count - 1].0))
    }

    /// Uniform in [0, 1), by `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let bits = u32::try_from(z >> 32).unwrap_or(0);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}

fn allowed<'a>(logits: &'a [f32], mask: Option<&'a SimpleVob>) -> impl Iterator<Item = (usize, f32)> + 'a {
    let masked = mask.map(|mask| mask.iter().filter_map(|id| Some((id as usize, *logits.get(id as usize)?))));
    let free = mask.is_none().then(|| logits.iter().copied().enumerate());
    masked.into_iter().flatten().chain(free.into_iter().flatten())
}

fn best_allowed(logits: &[f32], mask: Option<&SimpleVob>) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (index, logit) in allowed(logits, mask) {
        if !logit.is_nan() && best.is_none_or(|(_, highest)| logit > highest) {
            best = Some((index, logit));
        }
    }
    best
}

fn token(index: usize) -> LlamaToken {
    LlamaToken::new(i32::try_from(index).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(size: usize, allowed: &[u32]) -> SimpleVob {
        let mut mask = SimpleVob::alloc(size);
        for id in allowed {
            mask.allow_token(*id);
        }
        mask
    }

    #[test]
    fn greedy_takes_the_best_allowed() {
        let logits = [1.0, 5.0, 3.0, f32::NAN];
        let mut sampler = Sampler::new(0.0, 1.0, 0);
        assert_eq!(sampler.pick(&logits, None), Some(LlamaToken::new(1)));
        assert_eq!(sampler.pick(&logits, Some(&mask(4, &[0, 2]))), Some(LlamaToken::new(2)));
        assert_eq!(sampler.pick(&logits, Some(&mask(4, &[]))), None);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [2.0_f32.ln(), 0.0, f32::NEG_INFINITY];
        let mut sampler = Sampler::new(1.0, 1.0, 42);
        let mut counts = [0_u32; 3];
        for _ in 0..30_000 {
            counts[sampler.pick(&logits, None).unwrap().0 as usize] += 1;
        }
        assert!((19_500..20_500).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn a_small_nucleus_is_greedy_and_the_same_seed_repeats() {
        let logits = [0.1, 0.3, 0.2];
        let mut narrow = Sampler::new(1.0, 0.1, 7);
        assert!((0..50).all(|_| narrow.pick(&logits, None) == Some(LlamaToken::new(1))));
        let (mut a, mut b) = (Sampler::new(0.8, 0.95, 3), Sampler::new(0.8, 0.95, 3));
        assert!((0..50).all(|_| a.pick(&logits, None) == b.pick(&logits, None)));
    }
}
