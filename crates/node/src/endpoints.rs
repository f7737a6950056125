//! The endpoints that every node has: `/health`, `/capabilities`, `/metrics`, `/openapi.json`.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use kamil_protocol::{
    Health, NodeId, Problem,
    node::{Capabilities, Hardware, Load, Role},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::{OpenApi, ToSchema, openapi};

use crate::{Json, Metrics, NodeIdentity, hardware::LoadProbe};

/// What `GET /capabilities` answers on every node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesDoc {
    /// The node's id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Kamil's version.
    pub version: String,
    /// What it offers.
    pub capabilities: Capabilities,
    /// What it runs on.
    pub hardware: Hardware,
    /// How busy it is.
    pub load: Load,
}

/// What the endpoints tell about the node.
pub(crate) struct About {
    pub(crate) role: Role,
    pub(crate) identity: NodeIdentity,
    pub(crate) capabilities: watch::Receiver<Capabilities>,
    pub(crate) hardware: Hardware,
    pub(crate) load: LoadProbe,
    pub(crate) requests: Arc<dyn Fn() -> (u32, u32) + Send + Sync>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) openapi: Bytes,
    pub(crate) begun: Instant,
}

impl About {
    pub(crate) fn load(&self) -> Load {
        let (running, queued) = (self.requests)();
        Load { running, queued, ..self.load.now() }
    }
}

pub(crate) fn router(about: Arc<About>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/capabilities", get(capabilities))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi_document))
        .with_state(about)
}

/// Whether the node takes work. Needs no cluster key.
#[utoipa::path(get, path = "/health", tag = "node", responses((status = 200, body = Health)))]
async fn health(State(about): State<Arc<About>>) -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
        role: about.role,
        node: about.identity.id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: u64::try_from(about.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What the node offers, what it runs on, how busy it is.
#[utoipa::path(get, path = "/capabilities", tag = "node",
    responses((status = 200, body = CapabilitiesDoc), (status = 401, body = Problem, content_type = "application/problem+json")))]
async fn capabilities(State(about): State<Arc<About>>) -> Json<CapabilitiesDoc> {
    let capabilities = about.capabilities.borrow().clone();
    Json(CapabilitiesDoc {
        id: about.identity.id,
        name: about.identity.name.clone(),
        role: about.role,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities,
        hardware: about.hardware.clone(),
        load: about.load(),
    })
}

/// Counters in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "node",
    responses((status = 200, body = String, content_type = "text/plain"), (status = 401, body = Problem, content_type = "application/problem+json")))]
async fn metrics(State(about): State<Arc<About>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], about.metrics.render())
        .into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "node",
    responses((status = 200, body = Object), (status = 401, body = Problem, content_type = "application/problem+json")))]
async fn openapi_document(State(about): State<Arc<About>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], about.openapi.clone()).into_response()
}

#[derive(OpenApi)]
#[openapi(paths(health, capabilities, metrics, openapi_document), components(schemas(Problem)))]
struct Shared;

/// A role's OpenAPI document: its own endpoints, and those that every node has.
#[must_use]
pub fn describe(title: &str, description: &str, own: openapi::OpenApi) -> openapi::OpenApi {
    let mut document = own;
    document.merge(Shared::openapi());
    document.info = openapi::InfoBuilder::new()
        .title(title)
        .description(Some(description))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(
            openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    document.servers = None;
    document
}
