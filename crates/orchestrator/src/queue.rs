//! Steps that wait for a slot on a node: who goes first, and who is at which place. Pure.
//!
//! Interactive steps go before batch steps; among equals the one that came first. A batch step ranks like an interactive one
//! that came [`BATCH_HANDICAP_MS`] later, so that
//!
//! ```text
//! rank = moment at which the step began to wait + (batch: 60 s, interactive: 0 s); the least goes first
//! ```
//!
//! The order of two steps that wait never changes (their ranks grow old at the same pace), and nobody starves: once a batch
//! step has waited for 60 s, nothing that comes goes before it. A step that a full node turned away comes back with the
//! moment at which it first began to wait.

use std::collections::BTreeMap;

use kamil_protocol::task::Priority;

/// A batch step that has waited this long ranks like an interactive one that begins to wait now, in milliseconds.
pub(crate) const BATCH_HANDICAP_MS: u64 = 60_000;

/// Where a waiting step ranks; the least goes first, and no two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// When it began to wait, handicap added, in milliseconds of the queue's own clock.
    at_ms: u64,
    number: u64,
}

/// A place among those who wait: 1 is the next, `of` the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) position: usize,
    pub(crate) of: usize,
}

/// What waits for one kind of node.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<Rank, T>,
    number: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), number: 0 }
    }
}

impl<T> Queue<T> {
    /// Takes in what began to wait at `since_ms`.
    pub(crate) fn join(&mut self, priority: Priority, since_ms: u64, entry: T) -> Rank {
        let handicap = match priority {
            Priority::Interactive => 0,
            Priority::Batch => BATCH_HANDICAP_MS,
        };
        self.number += 1;
        let rank = Rank { at_ms: since_ms.saturating_add(handicap), number: self.number };
        self.entries.insert(rank, entry);
        rank
    }

    /// Takes out what waits no more; `None` if it has gone already.
    pub(crate) fn leave(&mut self, rank: Rank) -> Option<T> {
        self.entries.remove(&rank)
    }

    /// The place of one who waits.
    pub(crate) fn standing(&self, rank: Rank) -> Option<Standing> {
        self.entries.get(&rank)?;
        Some(Standing { position: self.entries.range(..=rank).count(), of: self.entries.len() })
    }

    /// All who wait, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Rank, &T)> {
        self.entries.iter().map(|(rank, entry)| (*rank, entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn interactive_goes_first_until_batch_has_waited_long_enough() {
        let mut queue = Queue::default();
        let batch = queue.join(Priority::Batch, 1_000, "batch");
        let soon = queue.join(Priority::Interactive, 1_000 + BATCH_HANDICAP_MS - 1, "soon");
        let late = queue.join(Priority::Interactive, 1_000 + BATCH_HANDICAP_MS, "late");
        let order: Vec<_> = queue.iter().map(|(_, name)| *name).collect();
        assert_eq!(order, ["soon", "batch", "late"]);
        assert_eq!(queue.standing(batch), Some(Standing { position: 2, of: 3 }));
        assert_eq!(queue.leave(soon), Some("soon"));
        assert_eq!(queue.leave(soon), None);
        assert_eq!(queue.standing(soon), None);
        assert_eq!(queue.standing(late), Some(Standing { position: 2, of: 2 }));
    }

    /// One who comes after `gap_ms`, or one who is served.
    #[derive(Clone, Copy, Debug)]
    enum Move {
        Join { batch: bool, gap_ms: u64 },
        Serve { gap_ms: u64 },
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let join = (any::<bool>(), 0..20_000_u64).prop_map(|(batch, gap_ms)| Move::Join { batch, gap_ms });
        let serve = (0..20_000_u64).prop_map(|gap_ms| Move::Serve { gap_ms });
        vec(prop_oneof![3 => join, 2 => serve], 1..200)
    }

    #[derive(Clone, Copy, Debug)]
    struct Waiting {
        batch: bool,
        since_ms: u64,
    }

    proptest! {
        /// Whatever comes and goes: who is served was the first by the rule, positions are exact, nobody is overtaken by one
        /// who came more than the handicap later, and nobody is lost.
        #[test]
        fn the_order_is_the_rule_and_nobody_starves(moves in moves()) {
            let mut queue = Queue::default();
            let (mut now, mut joined, mut served) = (0, 0, Vec::new());
            for each in moves {
                match each {
                    Move::Join { batch, gap_ms } => {
                        now += gap_ms;
                        joined += 1;
                        let priority = if batch { Priority::Batch } else { Priority::Interactive };
                        let rank = queue.join(priority, now, Waiting { batch, since_ms: now });
                        let ahead = queue.iter().take_while(|(other, _)| *other != rank).count();
                        let standing = Standing { position: ahead + 1, of: queue.len() };
                        prop_assert_eq!(queue.standing(rank), Some(standing));
                    }
                    Move::Serve { gap_ms } => {
                        now += gap_ms;
                        let Some((first, _)) = queue.iter().next() else { continue };
                        let first = queue.leave(first).unwrap();
                        for (_, left) in queue.iter() {
                            let earlier = left.since_ms < first.since_ms;
                            prop_assert!(!earlier || left.batch && !first.batch, "{left:?} after {first:?}");
                            prop_assert!(first.since_ms <= left.since_ms + BATCH_HANDICAP_MS);
                            let overtakes = first.batch && !left.batch;
                            prop_assert!(!overtakes || left.since_ms >= first.since_ms + BATCH_HANDICAP_MS);
                        }
                        served.push(first);
                    }
                }
            }
            prop_assert_eq!(served.len() + queue.len(), joined);
        }
    }
}
