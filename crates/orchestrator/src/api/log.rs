//! `/v1/log/…`.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use kamil_ledger::Checkpoint;
use kamil_node::{ApiResult, Json, Path};
use kamil_protocol::{ErrorCode, Problem, TaskId, log::CheckpointDoc};

use super::{App, tasks::task_id};

/// The newest signed head of the log.
#[utoipa::path(get, path = "/v1/log/checkpoint", tag = "log", responses((status = 200, body = CheckpointDoc)))]
pub(super) async fn checkpoint(State(app): State<App>) -> ApiResult<Json<CheckpointDoc>> {
    let head = app.hub.journal.head();
    let key = app.hub.journal.verifier();
    let checkpoint = Checkpoint::open(&head.note, key).map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The newest head is not good: {error}."))
    })?;
    Ok(Json(CheckpointDoc {
        size: checkpoint.size(),
        root: checkpoint.root().to_string(),
        verifier_key: key.to_string(),
        note: head.note,
    }))
}

/// The proof that the log holds a task's records, as one file that can be checked without the log.
#[utoipa::path(get, path = "/v1/log/proof/{task}", tag = "log", params(("task" = TaskId, Path)), responses(
    (status = 200, body = Object),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`task_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: no signed head covers it yet")))]
pub(super) async fn proof(State(app): State<App>, Path(task): Path<String>) -> ApiResult<Response> {
    let task = task_id(&task)?;
    app.hub.feed(task).await?;
    let proof = app.hub.journal.proof(task).await.map_err(Problem::from)?;
    let proof = proof.ok_or_else(|| {
        Problem::new(ErrorCode::Conflict, format!("No signed head covers task {task} yet."))
            .next("Ask again when the task has ended.")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], proof).into_response())
}
