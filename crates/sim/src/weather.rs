//! What can go wrong in a run. Each seed has only some of it, so that rare combinations come up at all.

use crate::random::Random;

/// The faults of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Messages that break their connection.
    pub(crate) breaks_per_mille: u64,
    /// Messages that never arrive, and nobody is told.
    pub(crate) hangs_per_mille: u64,
    /// Messages that take long.
    pub(crate) delays_per_mille: u64,
    /// Requests that a node turns away though it has room.
    pub(crate) refusals_per_mille: u64,
    /// Requests that fail on the node by its own fault.
    pub(crate) faults_per_mille: u64,
    /// Nodes die and come back.
    pub(crate) deaths: bool,
    /// Nodes cannot be reached for a while.
    pub(crate) partitions: bool,
    /// The orchestrator's machine stops, at any moment.
    pub(crate) stops: bool,
    /// It stops at a commit.
    pub(crate) stops_at_commits: bool,
    /// The disk is full for a while.
    pub(crate) full_disk: bool,
    /// The time of day jumps.
    pub(crate) jumps: bool,
    /// Heartbeats stay away, come twice or late.
    pub(crate) heartbeats: bool,
}

impl Weather {
    pub(crate) fn of(random: &Random) -> Self {
        let rate = |most: u64| if random.per_mille(500) { random.between(1, most) } else { 0 };
        let (breaks_per_mille, hangs_per_mille, delays_per_mille) = (rate(80), rate(8), rate(100));
        let (refusals_per_mille, faults_per_mille) = (rate(150), rate(40));
        let happens = || random.per_mille(550);
        Self {
            breaks_per_mille,
            hangs_per_mille,
            delays_per_mille,
            refusals_per_mille,
            faults_per_mille,
            deaths: happens(),
            partitions: happens(),
            stops: happens(),
            stops_at_commits: happens(),
            full_disk: happens(),
            jumps: happens(),
            heartbeats: happens(),
        }
    }
}
