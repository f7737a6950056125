//! `/v1/models` and `/v1/embeddings`.

use axum::extract::State;
use kamil_node::{ApiResult, Json};
use kamil_protocol::{
    ErrorCode, Problem,
    openai::{EmbeddingsReply, EmbeddingsRequest, ModelEntry, ModelList},
};

use super::App;

/// The name that lets placement choose the model.
pub(super) const ANY_MODEL: &str = "kamil";

/// `kamil`, and the models of the whole fleet.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = ModelList)))]
pub(super) async fn list_models(State(app): State<App>) -> Json<ModelList> {
    let mut names = vec![ANY_MODEL.to_owned()];
    names.extend(app.hub.registry.models(true));
    names.extend(app.hub.registry.models(false));
    let entry = |id: String| ModelEntry {
        id,
        object: "model".to_owned(),
        created: 0,
        owned_by: ANY_MODEL.to_owned(),
    };
    Json(ModelList { object: "list".to_owned(), data: names.into_iter().map(entry).collect() })
}

/// Turns texts into vectors, on a node that has an embedding model.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsRequest, responses(
    (status = 200, body = EmbeddingsReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`model_unknown`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`node_unreachable`")))]
pub(super) async fn embeddings(
    State(app): State<App>,
    Json(mut request): Json<EmbeddingsRequest>,
) -> ApiResult<Json<EmbeddingsReply>> {
    let wanted = (request.model != ANY_MODEL).then_some(request.model.as_str());
    let Some((node, model)) = app.hub.registry.embedder(wanted) else {
        let offered = app.hub.registry.models(false);
        let detail = match offered.as_slice() {
            [] => "No LLM node offers an embedding model.".to_owned(),
            _ => format!("No node embeds with `{}`. There are: {}.", request.model, offered.join(", ")),
        };
        return Err(Problem::new(ErrorCode::ModelUnknown, detail).into());
    };
    request.model = model;
    Ok(Json(node.client()?.post("/v1/embeddings", &request).await?))
}
