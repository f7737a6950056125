//! The endpoints of the memory node.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use jiff::Timestamp;
use kamil_node::{ApiError, ApiResult, Histogram, Json, Metrics, Path, Query};
use kamil_protocol::{
    ErrorCode, MemoryId, Page, Problem,
    memory::{
        AddMemory, EditMemory, ListMemories, MAX_MEMORY_BYTES, Memory, MemoryStats, NewMemory, Origin,
        Provenance, RecallReply, RecallRequest, RememberReply, RememberRequest,
    },
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    admission::Admission,
    embedding::Embedding,
    recall::recall,
    store::{SqliteStore, StoreError},
    validation::{Invalid, check_added, check_all, check_recall, check_text},
};

/// More memories without an embedding than this are worth telling.
const BACKLOG_TOLD: usize = 32;

#[derive(Clone)]
struct Desk {
    store: SqliteStore,
    embedding: Embedding,
    admission: Admission,
    recall_seconds: Histogram,
}

impl From<Invalid> for Problem {
    fn from(reason: Invalid) -> Self {
        Self::new(ErrorCode::ValidationFailed, reason.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unknown(_) => ErrorCode::MemoryUnknown,
            StoreError::FactNotEdited(_) => ErrorCode::Conflict,
            StoreError::Full => ErrorCode::StorageFull,
            _ => ErrorCode::Internal,
        };
        let problem = Self::new(code, error.to_string());
        match code {
            ErrorCode::MemoryUnknown => problem.next("`GET /v1/memories` lists them."),
            ErrorCode::Conflict => problem.next(
                "Add a fact with the same subject and predicate: it takes this one's place, and the change stays visible.",
            ),
            ErrorCode::StorageFull => problem.next("Make room on the disk that holds KAMIL_HOME."),
            _ => problem.next("The log of the memory node says more."),
        }
    }
}

fn memory_id(text: &str) -> Result<MemoryId, ApiError> {
    text.parse().map_err(|error: kamil_protocol::id::IdError| {
        Problem::new(ErrorCode::InvalidParameter, format!("{error}.")).into()
    })
}

/// What bears on a query, by words, meaning, names and time, each hit with the signals that found it; and the turns of the
/// running conversation.
#[utoipa::path(post, path = "/v1/recall", tag = "memory", request_body = RecallRequest, responses(
    (status = 200, body = RecallReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
))]
async fn recall_memories(
    State(desk): State<Desk>,
    Json(request): Json<RecallRequest>,
) -> ApiResult<Json<RecallReply>> {
    let begun = Instant::now();
    check_recall(&request).map_err(Problem::from)?;
    let _turn = desk.admission.enter().await?;
    let mut degraded = Vec::new();
    let vector = match desk.embedding.query(&request.query).await {
        Ok(vector) => Some(vector),
        Err(reason) => {
            degraded.push(format!("Searched by words, names and time only, not by meaning: {reason}"));
            None
        }
    };
    let backlog = desk.embedding.backlog();
    if vector.is_some() && backlog > BACKLOG_TOLD {
        degraded.push(format!(
            "{backlog} memories are still without an embedding and are found by their words only."
        ));
    }
    let now = request.now.unwrap_or_else(Timestamp::now);
    let recalled = recall(&desk.store, request, vector, now).await.map_err(Problem::from)?;
    let took = begun.elapsed();
    desk.recall_seconds.observe(took);
    Ok(Json(RecallReply {
        hits: recalled.hits,
        conversation: recalled.conversation,
        took_ms: took.as_secs_f32() * 1_000.0,
        degraded,
    }))
}

/// Keeps memories, all or none. One whose id is there already is left as it is, so that a request can be repeated; one that
/// was forgotten stays forgotten.
#[utoipa::path(post, path = "/v1/remember", tag = "memory", request_body = RememberRequest, responses(
    (status = 200, body = RememberReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
    (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`"),
))]
async fn remember(
    State(desk): State<Desk>,
    Json(request): Json<RememberRequest>,
) -> ApiResult<Json<RememberReply>> {
    check_all(&request.memories).map_err(Problem::from)?;
    let _turn = desk.admission.enter().await?;
    let reply = desk.store.remember(request.memories, Timestamp::now()).await.map_err(Problem::from)?;
    if !reply.stored.is_empty() {
        desk.embedding.notify();
    }
    Ok(Json(reply))
}

/// The memories, newest first in the order of writing.
#[utoipa::path(get, path = "/v1/memories", tag = "memory", params(ListMemories), responses(
    (status = 200, body = Page<Memory>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
))]
async fn list_memories(
    State(desk): State<Desk>,
    Query(query): Query<ListMemories>,
) -> ApiResult<Json<Page<Memory>>> {
    let limit = match query.limit {
        None => 50,
        Some(limit @ 1..=200) => limit as usize,
        Some(limit) => {
            let detail = format!("`limit` must be 1 to 200; it is {limit}.");
            return Err(Problem::new(ErrorCode::InvalidParameter, detail).into());
        }
    };
    let before = query.cursor.as_deref().map(cursor_row).transpose()?;
    let _turn = desk.admission.enter().await?;
    let (items, next) = desk.store.list(query.kind, before, limit).await.map_err(Problem::from)?;
    Ok(Json(Page { items, next_cursor: next.map(|row| format!("m{row:x}")) }))
}

fn cursor_row(cursor: &str) -> Result<i64, Problem> {
    let row =
        cursor.strip_prefix('m').and_then(|hex| i64::from_str_radix(hex, 16).ok()).filter(|row| *row > 0);
    row.ok_or_else(|| {
        let shown: String = cursor.chars().take(80).collect();
        Problem::new(ErrorCode::InvalidParameter, format!("`{shown}` is no cursor of this list."))
            .next("Pass `next_cursor` of the page before, or leave it out for the first page.")
    })
}

/// Adds a memory by hand.
#[utoipa::path(post, path = "/v1/memories", tag = "memory", request_body = AddMemory, responses(
    (status = 201, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`"),
))]
async fn add_memory(
    State(desk): State<Desk>,
    Json(added): Json<AddMemory>,
) -> ApiResult<(StatusCode, [(HeaderName, String); 1], Json<Memory>)> {
    let kind = check_added(&added).map_err(Problem::from)?;
    let now = Timestamp::now();
    let id = MemoryId::generate();
    let memory = NewMemory {
        id,
        kind,
        text: added.text,
        fact: added.fact,
        session: None,
        source: Provenance { origin: Origin::Person, task: None, step: None, labels: None },
        occurred_at: added.occurred_at.unwrap_or(now),
    };
    let _turn = desk.admission.enter().await?;
    desk.store.remember(vec![memory], now).await.map_err(Problem::from)?;
    desk.embedding.notify();
    let memory = desk.store.get(id).await.map_err(Problem::from)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/memories/{id}"))], Json(memory)))
}

/// What is held.
#[utoipa::path(get, path = "/v1/memories/stats", tag = "memory", responses(
    (status = 200, body = MemoryStats),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
))]
async fn memory_stats(State(desk): State<Desk>) -> ApiResult<Json<MemoryStats>> {
    let _turn = desk.admission.enter().await?;
    let mut stats = desk.store.stats().await.map_err(Problem::from)?;
    stats.embedder = desk.embedding.model();
    Ok(Json(stats))
}

/// One memory.
#[utoipa::path(get, path = "/v1/memories/{id}", tag = "memory", params(("id" = MemoryId, Path)), responses(
    (status = 200, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
))]
async fn get_memory(State(desk): State<Desk>, Path(id): Path<String>) -> ApiResult<Json<Memory>> {
    let id = memory_id(&id)?;
    let _turn = desk.admission.enter().await?;
    Ok(Json(desk.store.get(id).await.map_err(Problem::from)?))
}

/// Corrects the text of a memory. A fact is corrected by adding another.
#[utoipa::path(patch, path = "/v1/memories/{id}", tag = "memory", params(("id" = MemoryId, Path)), request_body = EditMemory,
    responses(
    (status = 200, body = Memory),
    (status = 400, body = Problem, content_type = "application/problem+json",
        description = "`invalid_parameter`, `malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "`conflict`: it is a fact"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`"),
))]
async fn edit_memory(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    Json(edit): Json<EditMemory>,
) -> ApiResult<Json<Memory>> {
    let id = memory_id(&id)?;
    check_text(&edit.text).map_err(Problem::from)?;
    let _turn = desk.admission.enter().await?;
    let memory = desk.store.edit(id, edit.text).await.map_err(Problem::from)?;
    desk.embedding.notify();
    Ok(Json(memory))
}

/// Forgets a memory: its text, its words in the index and its embedding are deleted from the file and its log.
#[utoipa::path(delete, path = "/v1/memories/{id}", tag = "memory", params(("id" = MemoryId, Path)), responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`memory_unknown`"),
))]
async fn forget_memory(State(desk): State<Desk>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let id = memory_id(&id)?;
    let _turn = desk.admission.enter().await?;
    desk.store.forget(id).await.map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(OpenApi)]
struct Document;

fn described() -> OpenApiRouter<Desk> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(recall_memories))
        .routes(routes!(remember))
        .routes(routes!(memory_stats))
        .routes(routes!(list_memories, add_memory))
        .routes(routes!(get_memory, edit_memory, forget_memory))
}

pub(crate) fn router(
    store: SqliteStore,
    embedding: Embedding,
    admission: Admission,
    metrics: &Arc<Metrics>,
) -> Router {
    let recall_seconds = metrics
        .histogram("kamil_recall_duration_seconds", "How long recalls took, the query's embedding included.");
    let desk = Desk { store, embedding, admission, recall_seconds };
    described().with_state(desk).split_for_parts().0
}

/// The description of the memory node's HTTP interface (OpenAPI 3.1), the same that it serves.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, own) = described().split_for_parts();
    let text = format!(
        "Working, semantic, episodic and structured memory, and recall. All of `/v1` is for the orchestrator that the node \
         registered with. A memory's text has at most {MAX_MEMORY_BYTES} bytes."
    );
    kamil_node::describe("Kamil memory node", &text, own)
}
