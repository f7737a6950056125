//! `/v1/tasks`.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use kamil_node::{ApiResult, Json, Path, Query};
use kamil_protocol::{
    ErrorCode, Page, PageQuery, Problem, StepId, TaskId,
    replay::ReplayReport,
    task::{ApprovalDecision, ForkRequest, TaskAccepted, TaskDoc, TaskRequest, TaskStatus, TaskSummary},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use crate::hub::Command;

const KEY_HEADER: &str = "idempotency-key";
const MAX_KEY_CHARS: usize = 128;

/// Accepts a request. When this answers, the task is durable.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = TaskRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1–128 visible ASCII characters: a repeat with the same key answers with the first task")),
    responses(
        (status = 202, body = TaskAccepted, description = "Accepted; follow it at `/v1/tasks/{id}/events`"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`, `invalid_parameter`"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "`model_unknown`, `tool_unknown`"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "`idempotency_mismatch`"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "`body_too_large`"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`, `plan_invalid`, `invalid_arguments`"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
        (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`")))]
pub(super) async fn create_task(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<TaskRequest>,
) -> ApiResult<impl IntoResponse> {
    let key = idempotency_key(&headers)?;
    let accepted: TaskAccepted = app.hub.create(request, key).await?;
    let location = format!("/v1/tasks/{}", accepted.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)))
}

/// Which tasks are listed.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksQuery {
    /// At most this many tasks, 1–200; default 50.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Only tasks with this status. A page may then be short though `next_cursor` says that there are more.
    #[serde(default)]
    #[param(inline)]
    status: Option<TaskStatus>,
}

/// All tasks, newest first, with what they wait for and where they run.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(TasksQuery), responses(
    (status = 200, body = Page<TaskSummary>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`")))]
pub(super) async fn list_tasks(
    State(app): State<App>,
    Query(query): Query<TasksQuery>,
) -> ApiResult<Json<Page<TaskSummary>>> {
    let TasksQuery { limit, cursor, status } = query;
    let before = cursor.as_deref().map(task_id).transpose()?;
    let limit = PageQuery { limit, cursor: None }.limit();
    let (items, next) = app.hub.list(status, before, limit).await?;
    Ok(Json(Page { items, next_cursor: next.map(|id| id.to_string()) }))
}

/// A task: its graph, where every step stands, and its result.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path)), responses(
    (status = 200, body = TaskDoc),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`")))]
pub(super) async fn get_task(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<TaskDoc>> {
    Ok(Json(app.hub.document(task_id(&id)?).await?))
}

/// Stops a task: nothing more starts, and what runs is stopped.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = TaskId, Path)), responses(
    (status = 200, body = TaskDoc),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: it has ended")))]
pub(super) async fn cancel_task(State(app): State<App>, Path(id): Path<String>) -> ApiResult<Json<TaskDoc>> {
    let id = task_id(&id)?;
    let reason = "the person stopped it".to_owned();
    app.hub.command(id, |reply| Command::Cancel { reason, reply }).await?;
    Ok(Json(app.hub.document(id).await?))
}

/// Decides a task again from its records, and tells the first difference. Nothing runs.
#[utoipa::path(get, path = "/v1/tasks/{id}/replay", tag = "tasks", params(("id" = TaskId, Path)), responses(
    (status = 200, body = ReplayReport),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`")))]
pub(super) async fn replay_task(
    State(app): State<App>,
    Path(id): Path<String>,
) -> ApiResult<Json<ReplayReport>> {
    Ok(Json(app.hub.replay(task_id(&id)?).await?))
}

/// Makes a new task that is another one but for the result of one step: what does not depend on it is kept, the rest runs.
#[utoipa::path(post, path = "/v1/tasks/{id}/forks", tag = "tasks", request_body = ForkRequest,
    params(("id" = TaskId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1–128 visible ASCII characters: a repeat with the same key answers with the first task")),
    responses(
    (status = 202, body = TaskAccepted, description = "Accepted; follow it at `/v1/tasks/{id}/events`"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`approval_required`: tools would change something again; `data` lists the steps"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`, `step_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: the task has not ended; `idempotency_mismatch`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`, `plan_invalid`: this is no result of that step"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
    (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`")))]
pub(super) async fn fork_task(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(request): Json<ForkRequest>,
) -> ApiResult<impl IntoResponse> {
    let key = idempotency_key(&headers)?;
    let accepted: TaskAccepted = app.hub.fork(task_id(&id)?, request, key).await?;
    let location = format!("/v1/tasks/{}", accepted.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)))
}

/// Decides whether a step that waits for the person may run, or what becomes of one whose outcome is not known.
#[utoipa::path(post, path = "/v1/tasks/{id}/steps/{step}/approval", tag = "tasks", request_body = ApprovalDecision,
    params(("id" = TaskId, Path), ("step" = StepId, Path)), responses(
    (status = 200, body = TaskDoc),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `malformed_body`, `unknown_field`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`, `step_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: nothing is asked, or something else")))]
pub(super) async fn decide_step(
    State(app): State<App>,
    Path((id, step)): Path<(String, String)>,
    Json(decision): Json<ApprovalDecision>,
) -> ApiResult<Json<TaskDoc>> {
    let id = task_id(&id)?;
    let step: StepId = step
        .parse()
        .map_err(|error| Problem::new(ErrorCode::InvalidParameter, format!("In the path: {error}.")))?;
    app.hub.command(id, |reply| Command::Decide { step, decision, reply }).await?;
    Ok(Json(app.hub.document(id).await?))
}

pub(super) fn task_id(text: &str) -> Result<TaskId, Problem> {
    text.parse()
        .map_err(|error| Problem::new(ErrorCode::InvalidParameter, format!("In the path or query: {error}.")))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| {
        (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let invalid = || {
        let detail = format!("`Idempotency-Key` has 1 to {MAX_KEY_CHARS} visible ASCII characters.");
        Problem::new(ErrorCode::InvalidParameter, detail)
    };
    key.map(|key| Some(key.to_owned())).ok_or_else(invalid)
}
