//! A node with a few endpoints, and plain bytes on a socket to call it with.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use kamil_node::{
    Home, Json, Listener, Metrics, NodeOptions, NodeToken, RunningNode, Service, describe, orchestrator_only,
};
use kamil_protocol::{
    Problem,
    node::{Capabilities, Role},
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

/// Longer than anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Greeting {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) times: u32,
}

#[derive(OpenApi)]
struct Nothing;

pub(crate) struct World {
    pub(crate) node: RunningNode,
    pub(crate) token: NodeToken,
    pub(crate) capabilities: watch::Sender<Capabilities>,
    pub(crate) shutdown: CancellationToken,
    _folder: TempDir,
}

pub(crate) fn home() -> (Home, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Home::resolve(Some(folder.path().to_owned())).unwrap(), folder)
}

pub(crate) async fn start(change: impl FnOnce(&mut NodeOptions)) -> World {
    start_with(Router::new(), change).await
}

/// Starts a tool node with the routes given and some more: `/greet` (JSON), `/secret` (orchestrator only), `/number/{n}`,
/// `/panic`.
pub(crate) async fn start_with(more: Router, change: impl FnOnce(&mut NodeOptions)) -> World {
    let (home, folder) = home();
    let mut options = NodeOptions::local(home);
    change(&mut options);
    let listener = Listener::bind(&options, Role::Tool).await.unwrap();
    let token = listener.token().clone();
    let router = Router::new()
        .route(
            "/greet",
            get(|| async { "hello" }).post(|Json(greeting): Json<Greeting>| async { Json(greeting) }),
        )
        .route("/number/{n}", get(|kamil_node::Path(n): kamil_node::Path<u32>| async move { Json(n) }))
        .route(
            "/list",
            get(|kamil_node::Query(page): kamil_node::Query<kamil_protocol::PageQuery>| async move {
                Json(page.limit())
            }),
        )
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
        .merge(orchestrator_only(Router::new().route("/secret", get(|| async { Json("told") })), &token))
        .merge(more);
    let (capabilities, offered) = watch::channel(Capabilities { slots: 1, ..Capabilities::default() });
    let service = Service {
        role: Role::Tool,
        router,
        openapi: describe("Test", "A test.", Nothing::openapi()),
        capabilities: offered,
        load: Arc::new(|| (2, 3)),
        metrics: Metrics::new(),
    };
    let shutdown = CancellationToken::new();
    let node = listener.start(service, shutdown.clone());
    World { node, token, capabilities, shutdown, _folder: folder }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn problem(&self) -> Problem {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        assert!(problem.detail.ends_with('.'), "{}", problem.detail);
        problem
    }

    pub(crate) fn code(&self) -> &'static str {
        self.problem().code.as_str()
    }
}

/// Sends a request as these very lines and reads until the node closes the connection.
pub(crate) async fn send(addr: SocketAddr, request: &str) -> Reply {
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let text = tokio::time::timeout(DEADLINE, exchange).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// `GET` with these header lines.
pub(crate) async fn get_with(addr: SocketAddr, path: &str, headers: &[&str]) -> Reply {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    send(addr, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
}

/// `POST` of a body with this content type.
pub(crate) async fn post(addr: SocketAddr, path: &str, content_type: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n{content_type}Connection: close\r\n\r\n"
    );
    send(addr, &(head + body)).await
}
