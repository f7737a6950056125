//! The real orchestrator among simulated nodes, network and disk, under one seed.
//!
//! [`run`] plays one seed in virtual time on one thread: what the nodes do, what the network loses, when machines stop, what
//! people ask, all follows from the seed, and so the same seed gives the same [`Findings`] to the last record.
//!
//! * `machine` runs the orchestrator, stops it and starts it again on its journal, which is a real one; `disk` is full, or
//!   stops the machine at a commit; `clock` jumps.
//! * `node` and `wire`: what the nodes do, what of them survives their death, and how they are reached.
//! * `person`: what is asked, repeated, cancelled and decided. `chaos` and `weather`: what goes wrong, and when.
//! * `oracle`: sees every commit, request and effect, and says what must not have been.
//! * [`Flaw`]: a node that breaks its promise, to show that the oracle finds it.

mod chaos;
mod clock;
mod disk;
mod flaw;
mod machine;
mod node;
mod oracle;
mod person;
mod random;
mod run;
mod weather;
mod wire;

pub use flaw::Flaw;
pub use oracle::Findings;
pub use run::{Options, RunError, run};
