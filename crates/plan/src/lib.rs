//! The task graph as a pure state machine
