//! `/v1/nodes`, `/v1/tools`, `/v1/placements/preview`.

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use kamil_node::{ApiResult, Json, Path, Query};
use kamil_placement::Policy;
use kamil_protocol::{
    ErrorCode, NodeId, Page, PageQuery, Problem,
    node::{Heartbeat, NodeDoc, RegisterNode, Registered},
    placement::{PreviewReply, PreviewRequest},
    task::MAX_STEPS,
    tool::ToolDescriptor,
};

use super::{App, page_of};

/// A node registers, or comes back after a restart.
#[utoipa::path(post, path = "/v1/nodes", tag = "fleet", request_body = RegisterNode, responses(
    (status = 201, body = Registered),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`, `invalid_parameter`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`: too many nodes")))]
pub(super) async fn register_node(
    State(app): State<App>,
    Json(node): Json<RegisterNode>,
) -> ApiResult<impl IntoResponse> {
    tracing::info!(node = %node.id, name = node.name, role = ?node.role, url = node.url, "a node registers");
    let terms = app.hub.register(node).await?;
    Ok((StatusCode::CREATED, Json(terms)))
}

/// The fleet: what every node offers, runs on and is busy with.
#[utoipa::path(get, path = "/v1/nodes", tag = "fleet", params(PageQuery), responses(
    (status = 200, body = Page<NodeDoc>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`")))]
pub(super) async fn list_nodes(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<Page<NodeDoc>>> {
    Ok(Json(page_of(app.hub.registry.nodes(), &query)?))
}

/// A node's sign of life.
#[utoipa::path(put, path = "/v1/nodes/{id}/heartbeat", tag = "fleet", params(("id" = NodeId, Path)),
    request_body = Heartbeat, responses(
    (status = 200, body = Registered),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`, `invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`node_unknown`: register again")))]
pub(super) async fn heartbeat(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(beat): Json<Heartbeat>,
) -> ApiResult<Json<Registered>> {
    Ok(Json(app.hub.heartbeat(node_id(&id)?, beat)?))
}

/// A node says goodbye.
#[utoipa::path(delete, path = "/v1/nodes/{id}", tag = "fleet", params(("id" = NodeId, Path)), responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`node_unknown`")))]
pub(super) async fn remove_node(State(app): State<App>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    app.hub.remove(node_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where steps would run, and why not elsewhere. Nothing is started.
#[utoipa::path(post, path = "/v1/placements/preview", tag = "fleet", request_body = PreviewRequest, responses(
    (status = 200, body = PreviewReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`")))]
pub(super) async fn preview_placements(
    State(app): State<App>,
    Json(request): Json<PreviewRequest>,
) -> ApiResult<Json<PreviewReply>> {
    if request.steps.is_empty() || request.steps.len() > MAX_STEPS {
        let detail = format!("`steps` has {} steps; 1 to {MAX_STEPS} are allowed.", request.steps.len());
        return Err(Problem::new(ErrorCode::ValidationFailed, detail).into());
    }
    let decisions = app.hub.registry.place(&request.steps, &Policy::default(), None);
    Ok(Json(PreviewReply { placements: decisions.into_iter().map(|decision| decision.placement).collect() }))
}

/// The tools of the whole fleet, by name.
#[utoipa::path(get, path = "/v1/tools", tag = "fleet", params(PageQuery), responses(
    (status = 200, body = Page<ToolDescriptor>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`")))]
pub(super) async fn list_tools(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<Page<ToolDescriptor>>> {
    Ok(Json(page_of(app.hub.registry.tools().to_vec(), &query)?))
}

fn node_id(text: &str) -> Result<NodeId, Problem> {
    text.parse().map_err(|error| Problem::new(ErrorCode::InvalidParameter, format!("In the path: {error}.")))
}
