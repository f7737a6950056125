//! What an engine has measured of itself so far.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::Share;

/// Counters that the loop writes and handles read.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    queued: AtomicUsize,
    active: AtomicUsize,
    prefill_tokens: AtomicU64,
    prefill_us: AtomicU64,
    decode_tokens: AtomicU64,
    decode_us: AtomicU64,
}

impl Stats {
    pub(crate) fn entered_queue(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn left_queue(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn set_active(&self, active: usize) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// Notes one batch. Mixed batches say nothing clear about either rate and are left out, as are prompts too short
    /// to fill the processor.
    pub(crate) fn note_batch(&self, shares: &[Share], took: Duration) {
        let tokens: usize = shares.iter().map(|share| share.count).sum();
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (count, time) = if shares.iter().all(|share| share.prefill) && tokens >= 32 {
            (&self.prefill_tokens, &self.prefill_us)
        } else if shares.iter().all(|share| !share.prefill) {
            (&self.decode_tokens, &self.decode_us)
        } else {
            return;
        };
        count.fetch_add(tokens as u64, Ordering::Relaxed);
        time.fetch_add(us, Ordering::Relaxed);
    }

    /// Prompt tokens per second, if any have been measured.
    pub(crate) fn prefill_tokens_per_s(&self) -> Option<f64> {
        rate(&self.prefill_tokens, &self.prefill_us)
    }

    /// Output tokens per second over all sequences, if any have been measured.
    pub(crate) fn decode_tokens_per_s(&self) -> Option<f64> {
        rate(&self.decode_tokens, &self.decode_us)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn rate(tokens: &AtomicU64, us: &AtomicU64) -> Option<f64> {
    let us = us.load(Ordering::Relaxed);
    (us > 0).then(|| tokens.load(Ordering::Relaxed) as f64 * 1e6 / us as f64)
}
