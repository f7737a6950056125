//! What would be planned for a request: `POST /v1/plans/preview`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    reason::Usage,
    task::{StepSpec, TaskRequest},
    tool::ToolDescriptor,
};

/// Most tools that a preview may bring along.
pub const MAX_PREVIEW_TOOLS: usize = 128;

/// `POST /v1/plans/preview`. Nothing is run, remembered or recorded, and memory is not asked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPreviewRequest {
    /// The request.
    pub request: TaskRequest,
    /// Tools to plan with instead of the registered ones; at most 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolDescriptor>>,
}

/// The plan that a task would be given now.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PlanPreviewReply {
    /// The steps; none if the request would be answered at once.
    pub steps: Vec<StepSpec>,
    /// Whether a model was asked, or no tool could matter.
    pub asked: bool,
    /// The model that was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Replies that were not valid, and why, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// What was done less well than asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// What all replies together cost.
    pub usage: Usage,
}
