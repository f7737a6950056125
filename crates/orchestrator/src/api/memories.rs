//! `/v1/memories…`, forwarded to the memory node, which takes calls from the orchestrator only.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use kamil_node::{ApiResult, Client, Json, Path, Query};
use kamil_protocol::{
    ErrorCode, MemoryId, Page, Problem,
    memory::{AddMemory, EditMemory, ListMemories, Memory, MemoryStats, RecallReply, RecallRequest},
    node::Role,
};

use super::App;

fn node(app: &App) -> Result<Client, Problem> {
    app.any(Role::Memory)?.client().cloned()
}

/// What is kept, newest first.
#[utoipa::path(get, path = "/v1/memories", tag = "memories", params(ListMemories), responses(
    (status = 200, body = Page<Memory>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn list_memories(
    State(app): State<App>,
    Query(query): Query<ListMemories>,
) -> ApiResult<Json<Page<Memory>>> {
    Ok(Json(node(&app)?.get_with("/v1/memories", &query).await?))
}

/// The person adds a memory.
#[utoipa::path(post, path = "/v1/memories", tag = "memories", request_body = AddMemory, responses(
    (status = 201, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn add_memory(
    State(app): State<App>,
    Json(memory): Json<AddMemory>,
) -> ApiResult<impl IntoResponse> {
    let added: Memory = node(&app)?.post("/v1/memories", &memory).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/memories/{}", added.id))], Json(added)))
}

/// Searches memory, and says why each hit was found.
#[utoipa::path(post, path = "/v1/memories/search", tag = "memories", request_body = RecallRequest, responses(
    (status = 200, body = RecallReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn search_memories(
    State(app): State<App>,
    Json(request): Json<RecallRequest>,
) -> ApiResult<Json<RecallReply>> {
    Ok(Json(node(&app)?.post("/v1/recall", &request).await?))
}

/// How much is kept.
#[utoipa::path(get, path = "/v1/memories/stats", tag = "memories", responses(
    (status = 200, body = MemoryStats),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn memory_stats(State(app): State<App>) -> ApiResult<Json<MemoryStats>> {
    Ok(Json(node(&app)?.get("/v1/memories/stats").await?))
}

/// One memory.
#[utoipa::path(get, path = "/v1/memories/{id}", tag = "memories", params(("id" = MemoryId, Path)), responses(
    (status = 200, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn get_memory(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<Memory>> {
    Ok(Json(node(&app)?.get(&path(&id)?).await?))
}

/// Corrects a memory.
#[utoipa::path(patch, path = "/v1/memories/{id}", tag = "memories", params(("id" = MemoryId, Path)),
    request_body = EditMemory, responses(
    (status = 200, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `malformed_body`, `unknown_field`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: it is a fact"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn edit_memory(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(edit): Json<EditMemory>,
) -> ApiResult<Json<Memory>> {
    Ok(Json(node(&app)?.patch(&path(&id)?, &edit).await?))
}

/// Forgets a memory for good.
#[utoipa::path(delete, path = "/v1/memories/{id}", tag = "memories", params(("id" = MemoryId, Path)), responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`, `node_unreachable`")))]
pub(super) async fn forget_memory(State(app): State<App>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let _: serde_json::Value = node(&app)?.delete(&path(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn path(id: &str) -> Result<String, Problem> {
    let id: MemoryId = id
        .parse()
        .map_err(|error| Problem::new(ErrorCode::InvalidParameter, format!("In the path: {error}.")))?;
    Ok(format!("/v1/memories/{id}"))
}
