//! The signed log: checkpoints and what a check of the journal finds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/log/checkpoint`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckpointDoc {
    /// The signed note (C2SP `tlog-checkpoint`).
    pub note: String,
    /// Records that it covers.
    pub size: u64,
    /// Root hash, in Base64.
    pub root: String,
    /// The key to check the note with, as C2SP `signed-note` writes it.
    pub verifier_key: String,
}

/// What a check of the whole journal found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerifyReport {
    /// Whether everything fits.
    pub ok: bool,
    /// Records that were read.
    pub records: u64,
    /// Checkpoints that were checked.
    pub checkpoints: u64,
    /// What does not fit; empty if `ok`.
    pub findings: Vec<String>,
}
