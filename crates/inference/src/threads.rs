//! How many threads to compute with.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;

/// Physical cores this process may use, at least 1. Hyper-threads of one core share the units that matrix products
/// saturate, so more threads than cores only add waiting.
pub fn physical_cores() -> u32 {
    let allowed = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cores = sibling_groups().filter(|count| *count > 0).unwrap_or(allowed);
    u32::try_from(cores.min(allowed)).unwrap_or(1).max(1)
}

/// Linux lists for every logical processor the ones that share its core; each distinct list is a core.
fn sibling_groups() -> Option<usize> {
    let mut groups = BTreeSet::new();
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        if let Ok(siblings) = fs::read_to_string(entry.path().join("topology/thread_siblings_list")) {
            groups.insert(siblings);
        }
    }
    Some(groups.len())
}
