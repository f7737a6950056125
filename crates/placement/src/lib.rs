//! Which node runs a step, and why
