//! The HTTP API.

mod chat;
mod events;
mod fleet;
mod log;
mod memories;
mod models;
mod plans;
mod tasks;

use std::sync::Arc;

use axum::Router;
use kamil_protocol::{ErrorCode, Problem, node::Role, problem};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{hub::Hub, registry::Handle};

const TITLE: &str = "Kamil: orchestrator";
const DESCRIPTION: &str = "Takes requests, breaks them into graphs of steps, gives each step to the machine best fitted for it, \
and keeps a durable, signed record. Errors are problem documents (RFC 9457) with a stable `code`.";

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
}

impl App {
    /// A living node of a role that calls are forwarded to.
    fn any(&self, role: Role) -> Result<Handle, Problem> {
        self.hub.registry.any(role).ok_or_else(|| {
            let (name, hint) = match role {
                Role::Memory => ("memory", "Start a memory node: kamil memory-node 8003 localhost:8000."),
                Role::Tool => ("tool", "Start a tool node: kamil tool-node 8002 localhost:8000."),
                _ => ("LLM", "Start an LLM node: kamil llm-node 8001 MODEL localhost:8000."),
            };
            Problem::new(ErrorCode::NoNode, format!("No {name} node is registered and alive.")).next(hint)
        })
    }
}

#[derive(OpenApi)]
#[openapi(
    components(schemas(
        kamil_protocol::event::EventRecord,
        kamil_protocol::event::Delta,
        kamil_protocol::event::End,
        kamil_protocol::task::RepeatedEffect,
        problem::ErrorCode
    )),
    tags(
        (name = "tasks", description = "What a person asks for, and all that is done for it."),
        (name = "fleet", description = "Nodes, tools, and which step would run where."),
        (name = "memories", description = "The person's own view of memory, forwarded to the memory node."),
        (name = "openai", description = "The OpenAI-compatible surface: any client of that API works."),
        (name = "log", description = "The signed record.")
    )
)]
struct Document;

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tasks::create_task, tasks::list_tasks))
        .routes(routes!(tasks::get_task))
        .routes(routes!(events::task_events))
        .routes(routes!(tasks::cancel_task))
        .routes(routes!(tasks::decide_step))
        .routes(routes!(tasks::replay_task))
        .routes(routes!(tasks::fork_task))
        .routes(routes!(fleet::register_node, fleet::list_nodes))
        .routes(routes!(fleet::heartbeat))
        .routes(routes!(fleet::remove_node))
        .routes(routes!(fleet::preview_placements))
        .routes(routes!(fleet::list_tools))
        .routes(routes!(plans::preview_plan))
        .routes(routes!(memories::list_memories, memories::add_memory))
        .routes(routes!(memories::search_memories))
        .routes(routes!(memories::memory_stats))
        .routes(routes!(memories::get_memory, memories::edit_memory, memories::forget_memory))
        .routes(routes!(models::list_models))
        .routes(routes!(models::embeddings))
        .routes(routes!(chat::chat_completions))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::proof))
}

/// The description of the API, as it is served at `/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, own) = described().split_for_parts();
    kamil_node::describe(TITLE, DESCRIPTION, own)
}

/// The API's routes.
pub(crate) fn router(app: App) -> Router {
    described().with_state(app).split_for_parts().0
}

/// One page of a list that is at hand in full; the cursor is the place to go on from.
fn page_of<T>(items: Vec<T>, query: &kamil_protocol::PageQuery) -> Result<kamil_protocol::Page<T>, Problem> {
    let from = match &query.cursor {
        None => 0,
        Some(cursor) => cursor.parse::<usize>().map_err(|_| {
            Problem::new(ErrorCode::InvalidParameter, format!("`{cursor}` is not a cursor of this list."))
        })?,
    };
    let all = items.len();
    let until = from.saturating_add(query.limit()).min(all);
    let items = items.into_iter().skip(from).take(query.limit()).collect();
    Ok(kamil_protocol::Page { items, next_cursor: (until < all).then(|| until.to_string()) })
}
