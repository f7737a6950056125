//! Which node runs a step, and why: no I/O, no clock, no randomness.
//!
//! * [`fleet`]: the nodes as plain data. [`policy`]: what may be done, and how much each compromise weighs.
//! * [`cost`]: the model that learns from every answer how fast a node is; `prior` says what to assume before.
//! * [`place`]: takes a whole set of ready steps, filters by hard constraints (`constraint`), predicts completion times
//!   (`predict`), spreads the steps, and says in words why each runs where it does and why not elsewhere (`words`).
//!
//! The same fleet, needs, costs and policy always give the same decisions.

mod constraint;
pub mod cost;
pub mod fleet;
mod place;
pub mod policy;
mod predict;
mod prior;
mod words;

pub use cost::{CostModel, Observation};
pub use fleet::FleetNode;
pub use place::{Decision, choose_again, place};
pub use policy::{Avoid, Policy};
