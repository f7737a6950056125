//! The secret between a worker node and the orchestrator that it registered with.

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use kamil_protocol::{ErrorCode, Problem};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{ApiError, NODE_TOKEN_HEADER, NodeError, cluster_key::random_hex};

/// A random secret of this run. A worker node tells it to the orchestrator when it registers, and the orchestrator
/// shows it in every call; nobody else knows it.
#[derive(Clone)]
pub struct NodeToken(Arc<Zeroizing<String>>);

impl NodeToken {
    /// A new secret.
    ///
    /// # Errors
    /// If no randomness is to be had.
    pub fn generate() -> Result<Self, NodeError> {
        Ok(Self(Arc::new(random_hex()?)))
    }

    /// The secret itself: for registration, and for tests that call a node as its orchestrator would.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeToken([redacted])")
    }
}

/// Closes the routes to everyone but the orchestrator: without the token, 403 `orchestrator_only`. The router must have
/// at least one route.
pub fn orchestrator_only(router: Router, token: &NodeToken) -> Router {
    router.route_layer(middleware::from_fn_with_state(token.clone(), check))
}

async fn check(State(token): State<NodeToken>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(NODE_TOKEN_HEADER);
    if shown.is_some_and(|shown| token.matches(shown.as_bytes())) {
        return next.run(request).await;
    }
    let detail = format!(
        "{} of a worker node may be called only by the orchestrator that it registered with.",
        request.uri().path()
    );
    let problem = Problem::new(ErrorCode::OrchestratorOnly, detail)
        .next("Ask the orchestrator instead; it forwards what a person may do.");
    ApiError(problem).into_response()
}
