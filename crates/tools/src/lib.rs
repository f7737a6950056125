//! The tool node: executes actions, and never calls a model.
//!
//! * [`start`] serves `GET /v1/tools` and `POST /v1/execute`, for the orchestrator alone.
//! * A call is validated against the tool's schema, then permitted ([`permission`]), then looked up in the durable record
//!   of idempotency keys, then run in one of a bounded number of slots, then reported with labels and the layers of
//!   confinement that held.
//! * Tools: `file_ops` (workspace only), `code_tools` (Python and shell, confined), `ml_tools` (training in a confined
//!   [`worker`]), `calc`, `system_tools`.
//! * Everything that starts a process goes through `kamil-sandbox`; a deadline, a caller who goes away or a shutdown kills
//!   the whole process tree.

mod calc;
mod code_tools;
mod confinement;
mod excerpt;
mod executor;
mod failure;
mod file_ops;
mod http;
mod ml;
mod ml_tools;
mod node;
pub mod permission;
mod receipts;
mod registry;
mod system_tools;
mod tool;
pub mod worker;
mod workspace;

pub use http::openapi;
pub use node::{StartError, ToolsOptions, serve, start};
pub use permission::{Access, Rules};
pub use registry::FAMILIES;
pub use worker::Worker;
