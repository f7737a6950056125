//! The hub: takes requests, turns them into graphs of steps, and sees each of them to its end.
//!
//! * [`start`] runs it, [`Orchestrator`] without its HTTP API; [`OrchestratorOptions`] and [`StartError`] go with that. [`openapi`] describes its HTTP API.
//! * `api`: the endpoints. `hub`: what all tasks share. `driver`: one task's way, from event to request and back.
//! * `queue`: in which order steps wait for a slot; `dispatcher`: who gets one. `sessions`: tasks of a conversation in turn.
//! * [`journal`]: the record, durable before its effect, each a leaf of the signed log; [`journal::verify`] works offline.
//! * [`replay()`]: a task decided again from its records.
//! * [`planner`]: what models are asked and how their replies are read. `preview`: a plan
//!   without a task. `registry`: the nodes. `feed`: event streams.

mod api;
mod dispatcher;
mod driver;
mod feed;
mod hub;
pub mod journal;
mod link;
mod measures;
mod options;
mod orchestrator;
pub mod planner;
mod preview;
mod queue;
mod registry;
mod replay;
mod service;
mod sessions;
mod signal;
mod tool_set;
mod world;

pub use api::openapi;
pub use journal::verify_journal;
pub use link::{Link, Network, NodeCall, NodeReply, NodeRequest};
pub use options::{OrchestratorOptions, StartError};
pub use orchestrator::Orchestrator;
pub use replay::{History, replay};
pub use service::start;
pub use world::{SystemWorld, World};
