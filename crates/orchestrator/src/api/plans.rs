//! Plans without tasks.

use axum::extract::State;
use kamil_node::{ApiResult, Json};
use kamil_protocol::{
    ErrorCode, Problem,
    planning::{MAX_PREVIEW_TOOLS, PlanPreviewReply, PlanPreviewRequest},
};

use super::App;
use crate::preview;

/// What would be planned for a request, with the registered tools or with others. A model is asked as for a task; nothing is run.
#[utoipa::path(post, path = "/v1/plans/preview", tag = "tasks", request_body = PlanPreviewRequest, responses(
    (status = 200, body = PlanPreviewReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `busy`")))]
pub(super) async fn preview_plan(
    State(app): State<App>,
    Json(asked): Json<PlanPreviewRequest>,
) -> ApiResult<Json<PlanPreviewReply>> {
    let tools = asked.tools.as_ref().map_or(0, Vec::len);
    if tools > MAX_PREVIEW_TOOLS {
        let detail = format!("`tools` has {tools} tools; up to {MAX_PREVIEW_TOOLS} are allowed.");
        return Err(Problem::new(ErrorCode::ValidationFailed, detail).into());
    }
    Ok(Json(preview::preview(&app.hub, asked).await?))
}
