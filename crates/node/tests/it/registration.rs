//! Joining an orchestrator, staying, leaving. The orchestrator is a few lines that note what they are told.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse as _,
    routing::{post, put},
};
use kamil_node::{ApiError, Json, Path};
use kamil_protocol::{
    ErrorCode, NodeId, Problem,
    node::{Capabilities, Heartbeat, RegisterNode, Registered},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::world::{DEADLINE, start};

#[derive(Debug)]
enum Heard {
    Registered(Box<RegisterNode>),
    Heartbeat(NodeId, Heartbeat),
    Goodbye(NodeId),
}

#[derive(Clone)]
struct Desk {
    heard: mpsc::Sender<Heard>,
    knows: watch::Sender<bool>,
}

/// Stops when dropped.
struct Orchestrator {
    heard: mpsc::Receiver<Heard>,
    knows: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Orchestrator {
    async fn listen(socket: TcpListener) -> Self {
        let (heard_tx, heard) = mpsc::channel(1024);
        let knows = watch::Sender::new(false);
        let router =
            Router::new()
                .route(
                    "/v1/nodes",
                    post(|State(desk): State<Arc<Desk>>, Json(node): Json<RegisterNode>| async move {
                        desk.knows.send_replace(true);
                        desk.heard.send(Heard::Registered(Box::new(node))).await.unwrap();
                        (
                            StatusCode::CREATED,
                            Json(Registered { heartbeat_interval_ms: 50, heartbeat_timeout_ms: 200 }),
                        )
                    }),
                )
                .route(
                    "/v1/nodes/{id}",
                    axum::routing::delete(
                        |State(desk): State<Arc<Desk>>, Path(id): Path<NodeId>| async move {
                            desk.heard.send(Heard::Goodbye(id)).await.unwrap();
                            StatusCode::NO_CONTENT
                        },
                    ),
                )
                .route(
                    "/v1/nodes/{id}/heartbeat",
                    put(
                        |State(desk): State<Arc<Desk>>,
                         Path(id): Path<NodeId>,
                         Json(beat): Json<Heartbeat>| async move {
                            if !*desk.knows.borrow() {
                                return ApiError(Problem::new(ErrorCode::NodeUnknown, "No such node."))
                                    .into_response();
                            }
                            desk.heard.send(Heard::Heartbeat(id, beat)).await.unwrap();
                            StatusCode::NO_CONTENT.into_response()
                        },
                    ),
                )
                .with_state(Arc::new(Desk { heard: heard_tx, knows: knows.clone() }));
        let serving = tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { heard, knows, serving }
    }

    async fn next(&mut self) -> Heard {
        timeout(DEADLINE, self.heard.recv()).await.expect("the node says something").unwrap()
    }

    async fn registration(&mut self) -> RegisterNode {
        loop {
            if let Heard::Registered(node) = self.next().await {
                return *node;
            }
        }
    }

    async fn heartbeat(&mut self, wanted: impl Fn(&Heartbeat) -> bool) -> (NodeId, Heartbeat) {
        loop {
            if let Heard::Heartbeat(id, beat) = self.next().await
                && wanted(&beat)
            {
                return (id, beat);
            }
        }
    }
}

async fn free_port() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[tokio::test]
async fn a_node_registers_beats_tells_changes_and_says_goodbye() {
    let (socket, addr) = free_port().await;
    let mut orchestrator = Orchestrator::listen(socket).await;
    let world = start(|options| options.orchestrator = Some(format!("localhost:{}", addr.port()))).await;
    let registered = orchestrator.registration().await;
    assert_eq!(registered.id, world.node.id);
    assert_eq!(registered.url, world.node.url);
    assert_eq!(registered.token, world.token.expose());
    assert_eq!(registered.capabilities.slots, 1);
    assert!(registered.hardware.logical_cores > 0);
    timeout(DEADLINE, world.node.registered()).await.unwrap();

    let (id, beat) = orchestrator.heartbeat(|_| true).await;
    assert_eq!((id, beat.instance), (registered.id, registered.instance));
    assert_eq!((beat.load.running, beat.load.queued), (2, 3));
    assert!(beat.load.ram_available_bytes > 0);
    assert!(beat.capabilities.is_none(), "nothing has changed since the registration");

    world.capabilities.send_replace(Capabilities { slots: 9, ..Capabilities::default() });
    let (_, beat) = orchestrator.heartbeat(|beat| beat.capabilities.is_some()).await;
    assert_eq!(beat.capabilities.unwrap().slots, 9);
    let (_, beat) = orchestrator.heartbeat(|_| true).await;
    assert!(beat.capabilities.is_none(), "a change is told once");

    world.shutdown.cancel();
    loop {
        if let Heard::Goodbye(id) = orchestrator.next().await {
            assert_eq!(id, registered.id);
            break;
        }
    }
    timeout(DEADLINE, world.node.stopped()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_is_not_known_any_more_registers_again() {
    let (socket, addr) = free_port().await;
    let mut orchestrator = Orchestrator::listen(socket).await;
    let world = start(|options| options.orchestrator = Some(addr.to_string())).await;
    let first = orchestrator.registration().await;
    world.capabilities.send_replace(Capabilities { slots: 4, ..Capabilities::default() });
    orchestrator.heartbeat(|beat| beat.capabilities.is_some()).await;
    orchestrator.knows.send_replace(false);
    let again = orchestrator.registration().await;
    assert_eq!((again.id, again.instance), (first.id, first.instance));
    assert_eq!(again.capabilities.slots, 4);
    orchestrator.heartbeat(|_| true).await;
}

#[tokio::test]
async fn a_node_waits_for_an_orchestrator_that_starts_late_or_again() {
    let (socket, addr) = free_port().await;
    // A server that is no orchestrator holds the port at first, so that the node has certainly tried before.
    let (asked_tx, mut asked) = mpsc::channel(64);
    let stranger = Router::new().fallback(move || {
        let asked = asked_tx.clone();
        async move {
            let _ = asked.try_send(());
            (StatusCode::NOT_FOUND, "<html>not here</html>")
        }
    });
    let serving = tokio::spawn(async move { axum::serve(socket, stranger).await.unwrap() });
    let world = start(|options| options.orchestrator = Some(addr.to_string())).await;
    for _ in 0..2 {
        timeout(DEADLINE, asked.recv()).await.unwrap().unwrap();
    }
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());

    let rebind = || async {
        let begun = std::time::Instant::now();
        loop {
            match TcpListener::bind(addr).await {
                Ok(socket) => return socket,
                Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let mut orchestrator = Orchestrator::listen(rebind().await).await;
    let first = orchestrator.registration().await;
    orchestrator.heartbeat(|_| true).await;
    drop(orchestrator);

    let mut orchestrator = Orchestrator::listen(rebind().await).await;
    let again = orchestrator.registration().await;
    assert_eq!(again.id, first.id);
    world.shutdown.cancel();
    timeout(DEADLINE, world.node.stopped()).await.unwrap().unwrap();
}
