//! `POST /v1/reason`, `POST /v1/embeddings`, `GET /v1/models`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures::{FutureExt as _, StreamExt as _};
use kamil_node::{ApiResult, Json, Query, describe, event_stream};
use kamil_protocol::{
    Page, PageQuery, Problem,
    node::ModelOffer,
    openai::{EmbeddingsReply, EmbeddingsRequest},
    reason::{ReasonReply, ReasonRequest},
};
use tokio::time::{Instant, timeout};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{desk::Desk, request, writing::error_event};

/// A stream that begins within this time can still be refused with a status of its own; after it, the answer begins and a
/// refusal is an `error` event.
const HEAD_START: Duration = Duration::from_millis(500);

pub(crate) fn router(desk: Arc<Desk>) -> Router {
    routes().with_state(desk).split_for_parts().0
}

/// The LLM node's OpenAPI document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let description = "Pure reasoning: takes messages, writes text. Only the orchestrator that the node registered with may call it.";
    describe("Kamil LLM node", description, routes().into_openapi())
}

fn routes() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new().routes(routes!(reason)).routes(routes!(embeddings)).routes(routes!(models))
}

/// Writes an answer, as a stream (`delta`…, then `done` or `error`) or in one piece. A caller that goes away stops the writing.
#[utoipa::path(post, path = "/v1/reason", tag = "llm", request_body = ReasonRequest,
    responses(
        (status = 200, description = "The answer", content((ReasonReply = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`model_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`validation_failed`, `context_exceeded`, `model_unusable`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`busy`, with Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "`bad_gateway`: the model server failed", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`deadline_exceeded`", body = Problem, content_type = "application/problem+json")))]
async fn reason(State(desk): State<Arc<Desk>>, Json(request): Json<ReasonRequest>) -> ApiResult<Response> {
    let limit = request::check(&request)?;
    desk.check_model(request.model.as_deref())?;
    let ticket = desk.admission.enter()?;
    let as_stream = request.stream;
    let mut begun = Box::pin(desk.begin(request, ticket, Instant::now() + limit));
    if !as_stream {
        return Ok(Json(begun.await?.finish().await?).into_response());
    }
    match timeout(HEAD_START, &mut begun).await {
        Ok(writing) => Ok(event_stream(writing?.into_events())),
        Err(_) => Ok(event_stream(begun.into_stream().flat_map(|begun| match begun {
            Ok(writing) => writing.into_events().left_stream(),
            Err(problem) => futures::stream::iter([error_event(&problem)]).right_stream(),
        }))),
    }
}

/// Turns texts into vectors.
#[utoipa::path(post, path = "/v1/embeddings", tag = "llm", request_body = EmbeddingsRequest,
    responses(
        (status = 200, body = EmbeddingsReply),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`model_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`validation_failed`, `model_unusable`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`busy`, with Retry-After", body = Problem, content_type = "application/problem+json")))]
async fn embeddings(
    State(desk): State<Arc<Desk>>,
    Json(request): Json<EmbeddingsRequest>,
) -> ApiResult<Json<EmbeddingsReply>> {
    let Some(embeddings) = desk.embeddings.as_ref().filter(|embeddings| embeddings.is_called(&request.model))
    else {
        return Err(desk.unknown(&request.model).into());
    };
    Ok(Json(embeddings.answer(&request).await?))
}

/// The models of this node, all on one page.
#[utoipa::path(get, path = "/v1/models", tag = "llm", params(PageQuery),
    responses(
        (status = 200, body = Page<ModelOffer>),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json")))]
async fn models(State(desk): State<Arc<Desk>>, Query(_page): Query<PageQuery>) -> Json<Page<ModelOffer>> {
    Json(Page { items: desk.models(), next_cursor: None })
}
