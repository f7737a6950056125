//! What replay finds when a task is decided again from its records.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{StepId, TaskId};

/// `GET /v1/tasks/{id}/replay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayReport {
    /// The task.
    pub task: TaskId,
    /// Records that it has now.
    pub records: u64,
    /// Whether all of them would be decided in the same way today.
    pub same: bool,
    /// The first that would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<ReplayDifference>,
}

/// Where a record and what is decided now part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayDifference {
    /// Position among the task's records, from 1.
    pub position: u64,
    /// Number of the record in the journal; absent if there should be one more record than there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The step it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// JSON Pointer to the first field that differs, if the same kind of event would be decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What was recorded: the field, or the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub recorded: Option<Value>,
    /// What would be decided: the field, or the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub decided: Option<Value>,
    /// The difference in words.
    pub detail: String,
}
