//! `GET /v1/tools`, `POST /v1/execute`.

use std::sync::Arc;

use axum::{Router, extract::State};
use kamil_node::{ApiResult, Gauge, Json, Metrics, Query};
use kamil_protocol::{
    Page, PageQuery, Problem,
    tool::{ExecuteReply, ExecuteRequest, ToolDescriptor},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::executor::Executor;

#[derive(Clone)]
struct Desk {
    executor: Arc<Executor>,
    metrics: Arc<Metrics>,
}

/// The tools of this node, by name.
#[utoipa::path(get, path = "/v1/tools", tag = "tools", params(PageQuery), responses(
    (status = 200, body = Page<ToolDescriptor>),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`invalid_parameter`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "`orchestrator_only`"),
))]
async fn list_tools(
    State(desk): State<Desk>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<Page<ToolDescriptor>>> {
    let after = query.cursor.clone().unwrap_or_default();
    let mut items: Vec<ToolDescriptor> =
        desk.executor.registry().descriptors().into_iter().filter(|tool| tool.name > after).collect();
    let more = items.len() > query.limit();
    items.truncate(query.limit());
    let next_cursor = items.last().filter(|_| more).map(|tool| tool.name.clone());
    Ok(Json(Page { items, next_cursor }))
}

/// Runs a tool: arguments, permission and idempotency key are checked first, and only then does anything happen.
/// Closing the connection kills what runs.
#[utoipa::path(post, path = "/v1/execute", tag = "tools", request_body = ExecuteRequest, responses(
    (status = 200, body = ExecuteReply),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`, `unknown_field`"),
    (status = 403, body = Problem, content_type = "application/problem+json",
        description = "`orchestrator_only`; `denied`; `approval_required`, with the request for approval in `data`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`tool_unknown`"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "`idempotency_mismatch`, `outcome_unknown`, `cancelled`"),
    (status = 422, body = Problem, content_type = "application/problem+json",
        description = "`invalid_arguments`, with path and reason of each fault in `data.errors`; `tool_failed`; `validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
    (status = 503, body = Problem, content_type = "application/problem+json",
        description = "`layer_unavailable`: the sandbox cannot be set up, so nothing was run"),
    (status = 504, body = Problem, content_type = "application/problem+json", description = "`deadline_exceeded`"),
    (status = 507, body = Problem, content_type = "application/problem+json", description = "`storage_full`"),
))]
#[tracing::instrument(skip_all, fields(task = %request.task, step = %request.step, tool = %request.tool))]
async fn execute(
    State(desk): State<Desk>,
    Json(request): Json<ExecuteRequest>,
) -> ApiResult<Json<ExecuteReply>> {
    let tool = desk.executor.registry().get(&request.tool)?.name().to_owned();
    let caller =
        Waiting::enter(desk.metrics.gauge("kamil_tool_callers", "Callers who wait for a tool to end."));
    let outcome = desk.executor.execute(request).await;
    drop(caller);
    let label = match &outcome {
        Ok(_) => "ok",
        Err(problem) => problem.code.as_str(),
    };
    desk.metrics
        .counter_with(
            "kamil_tool_calls_total",
            "Calls of tools that have ended.",
            &[("tool", &tool), ("outcome", label)],
        )
        .inc();
    if let Ok(reply) = &outcome {
        desk.metrics
            .histogram_with("kamil_tool_duration_ms", "How long tools ran.", &[("tool", &tool)])
            .observe(std::time::Duration::from_millis(reply.duration_ms));
    }
    outcome.map(Json).map_err(Into::into)
}

/// Counts a caller until it has its answer or goes away.
struct Waiting(Gauge);

impl Waiting {
    fn enter(gauge: Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

#[derive(OpenApi)]
struct Document;

fn described() -> OpenApiRouter<Desk> {
    OpenApiRouter::with_openapi(Document::openapi()).routes(routes!(list_tools)).routes(routes!(execute))
}

pub(crate) fn router(executor: Arc<Executor>, metrics: Arc<Metrics>) -> Router {
    described().with_state(Desk { executor, metrics }).split_for_parts().0
}

/// The description of the tool node's HTTP interface (OpenAPI 3.1), the same that it serves.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, own) = described().split_for_parts();
    kamil_node::describe(
        "Kamil tool node",
        "Runs tools: validates, checks the permission, confines, runs, reports. All of `/v1` is for the orchestrator that \
         the node registered with.",
        own,
    )
}
