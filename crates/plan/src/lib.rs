//! The task graph as a pure state machine: no I/O, no clock, no randomness.
//!
//! * [`Task`] is the fold over [`TaskEvent`](kamil_protocol::event::TaskEvent)s: [`Task::apply`] takes one, and refuses what cannot have happened.
//! * [`Task::decide`] turns an [`Input`] (a reply, a failure, a person's decision…) into events; [`Task::settle`] gives what
//!   follows from the state alone; [`Task::advance`] does both and applies them. [`Task::effects`] says what to start and stop.
//! * [`graph`]: whether steps may be added: ids, references, cycles, bounds, tools, arguments.
//! * [`mod@reference`]: `{"$from": "step", "path": "/json/pointer"}`. [`labels`]: how labels join.
//!   [`Task::unapproved`]: what must not start without the person's yes.
//!
//! The same events in give the same state, and the same input the same decision: replay is exact.

mod arguments;
mod budget;
mod checks;
mod condition;
mod decide;
mod document;
mod failure;
pub mod graph;
mod guard;
pub mod labels;
mod map;
pub mod reference;
mod schema;
mod settle;
mod step;
mod task;

pub use budget::{MAX_PLANS, MAX_RETRIES};
pub use decide::{DEADLINE_PASSED, Growth, Input, Rejection, StepOutput};
pub use failure::{MAX_ATTEMPTS, MAX_BUSY_REPLIES, MAX_PLAN_REPLIES, RetryClass};
pub use graph::PlanError;
pub use settle::Effect;
pub use step::Step;
pub use task::{Ended, FoldError, Task};
