//! What to assume of a model on a machine that nobody has measured.
//!
//! Writing a token reads all weights once, so its speed is about memory bandwidth over model size. Reading is bound by
//! arithmetic: two operations a parameter and token (the roofline model: Williams, Waterman, Patterson 2009). The
//! constants are rough figures of what inference engines reach on common machines; the first measurement outweighs them.

use kamil_protocol::node::{Accelerator, AcceleratorKind, Hardware, ModelOffer};

/// Bytes of a quantised model per parameter (4-bit blocks with their scales).
const BYTES_PER_PARAMETER: f64 = 0.6;
/// Reading speed assumed where not even the model's size is known, tokens a second.
const UNKNOWN_PREFILL: f64 = 500.0;
/// Writing speed assumed then.
const UNKNOWN_DECODE: f64 = 30.0;
/// Loading speed assumed for a model on disk, bytes a millisecond (1 GB/s).
pub(crate) const LOAD_BYTES_PER_MS: f64 = 1e6;
/// Share by which a loaded model is larger than its file: context, buffers.
const LOADED_GROWTH: f64 = 1.15;

/// Tokens a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    pub(crate) prefill: f64,
    pub(crate) decode: f64,
}

/// Memory that a model takes when loaded, in bytes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of a size that is far below 2^52"
)]
pub(crate) fn loaded_bytes(offer: &ModelOffer) -> u64 {
    (offer.bytes as f64 * LOADED_GROWTH) as u64
}

/// The accelerator that would hold the model: the one with the most free memory, if the model fits.
pub(crate) fn accelerator_for<'a>(hardware: &'a Hardware, offer: &ModelOffer) -> Option<&'a Accelerator> {
    let best = hardware.accelerators.iter().max_by_key(|a| a.vram_available_bytes)?;
    let room = if offer.resident { best.vram_total_bytes } else { best.vram_available_bytes };
    (room >= loaded_bytes(offer)).then_some(best)
}

/// Speed of a model on a machine, from what they are.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(crate) fn speed(hardware: &Hardware, offer: &ModelOffer) -> Speed {
    if offer.bytes == 0 {
        return Speed { prefill: UNKNOWN_PREFILL, decode: UNKNOWN_DECODE };
    }
    let (bytes_per_s, operations_per_s) = match accelerator_for(hardware, offer) {
        Some(accelerator) => match accelerator.kind {
            AcceleratorKind::Cuda => (400e9, 15e12),
            AcceleratorKind::Rocm => (350e9, 10e12),
            AcceleratorKind::Metal => (150e9, 4e12),
            AcceleratorKind::Vulkan => (150e9, 3e12),
        },
        None => {
            let wide = hardware.instruction_sets.iter().any(|set| set.starts_with("avx512"));
            let per_core = if wide { 60e9 } else { 35e9 };
            let cores = f64::from(hardware.physical_cores.max(1));
            // A few cores saturate the memory bus of ordinary machines.
            (10e9 * cores.min(4.0), per_core * cores)
        }
    };
    let bytes = offer.bytes as f64;
    let operations = 2.0 * bytes / BYTES_PER_PARAMETER;
    Speed { prefill: operations_per_s / operations, decode: bytes_per_s / bytes }
}
