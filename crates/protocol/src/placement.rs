//! Why a step runs where it runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{NodeId, task::StepKind};

/// The decision for one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The node and model that were chosen; absent if nothing fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Candidate>,
    /// Why, in words for a person.
    pub reasons: Vec<String>,
    /// Every other candidate, and why it was not chosen.
    pub rejected: Vec<Rejection>,
}

/// A node, with a model where one is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Predicted time to completion.
    pub predicted_ms: u64,
    /// What it was compared by; absent if nothing else fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
}

/// What candidates that fit are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Weight {
    /// Predicted time to completion, made longer for what the candidate is not; in milliseconds, to the microsecond.
    pub score_ms: f64,
    /// Size of the model, in bytes; decides between equal scores.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// A candidate that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rejection {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why not.
    pub reason: String,
    /// What it was compared by, if it fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
}

/// What a step needs of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepNeeds {
    /// What the step does; it decides which role can run it.
    pub kind: StepKind,
    /// The tool, for kind `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// A model by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The wanted kind of model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialization: Option<String>,
    /// Prompt tokens, about.
    #[serde(default)]
    pub tokens_in: u32,
    /// Tokens to be written, about.
    #[serde(default)]
    pub tokens_out: u32,
    /// Memory that must be free, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Kind of accelerator that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<crate::node::AcceleratorKind>,
}

/// `POST /v1/placements/preview`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// Steps to be placed together; at most 64.
    pub steps: Vec<StepNeeds>,
}

/// What would run where.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PreviewReply {
    /// One placement for each step, in the order given.
    pub placements: Vec<Placement>,
}
