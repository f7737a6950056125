//! The hub: HTTP API, planner, journal, dispatcher
