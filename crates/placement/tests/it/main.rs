//! Placement as its callers see it.

mod choosing;
mod degrading;
mod fleets;
mod learning;
mod properties;
mod spreading;
