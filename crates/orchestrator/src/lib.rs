//! The hub.
pub mod planner;
