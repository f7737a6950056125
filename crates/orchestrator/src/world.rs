//! Where the wall clock and new ids come from.

use jiff::Timestamp;
use kamil_protocol::TaskId;

/// What the orchestrator takes from outside without asking a node: the time of day, and ids that nobody else has.
///
/// Both enter the journal as recorded inputs. The time of day may jump either way, so nothing is measured by it: durations
/// and deadlines of a run go by the runtime's own clock.
pub trait World: Send + Sync + std::fmt::Debug {
    /// The time of day, to the millisecond.
    fn now(&self) -> Timestamp;

    /// An id for a new task.
    fn task_id(&self) -> TaskId;
}

/// The machine's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWorld;

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn task_id(&self) -> TaskId {
        TaskId::generate()
    }
}
