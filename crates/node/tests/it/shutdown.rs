//! How a node ends.

use std::time::{Duration, Instant};

use axum::{Router, response::sse::Event, routing::get};
use futures::{StreamExt as _, stream};
use kamil_node::{Client, Json, Method, event_stream};
use kamil_protocol::ErrorCode;
use tokio::{sync::mpsc, time::timeout};

use crate::world::{DEADLINE, start_with};

#[tokio::test]
async fn requests_may_finish_and_streams_are_cut() {
    let (begun_tx, mut begun) = mpsc::channel::<()>(1);
    let (finish, finished) = tokio::sync::watch::channel(false);
    let slow = move || {
        let (begun, mut finished) = (begun_tx.clone(), finished.clone());
        async move {
            begun.send(()).await.unwrap();
            finished.wait_for(|finished| *finished).await.unwrap();
            Json("done")
        }
    };
    let endless = || async {
        event_stream(stream::once(async { Event::default().data("one") }).chain(stream::pending()))
    };
    let world =
        start_with(Router::new().route("/slow", get(slow)).route("/events", get(endless)), |_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let mut events = client.stream(Method::GET, "/events", None::<&()>, &[]).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data, "one");
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get::<String>("/slow").await }
    });
    timeout(DEADLINE, begun.recv()).await.unwrap().unwrap();

    let told = Instant::now();
    world.shutdown.cancel();
    let problem = timeout(DEADLINE, events.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        problem.code,
        ErrorCode::NodeUnreachable,
        "a stream that is cut must not look as if it had ended"
    );
    finish.send(true).unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "done");
    timeout(DEADLINE, world.node.stopped()).await.unwrap().unwrap();
    assert!(told.elapsed() < Duration::from_secs(5), "nothing was left to wait for");
    assert_eq!(client.get::<String>("/slow").await.unwrap_err().code, ErrorCode::NodeUnreachable);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_dropped_after_five_seconds() {
    let (begun_tx, mut begun) = mpsc::channel::<()>(1);
    let never = move || {
        let begun = begun_tx.clone();
        async move {
            begun.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let world = start_with(Router::new().route("/never", get(never)), |_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let call = tokio::spawn(async move { client.get::<()>("/never").await });
    timeout(DEADLINE, begun.recv()).await.unwrap().unwrap();
    let told = Instant::now();
    world.shutdown.cancel();
    timeout(DEADLINE, world.node.stopped()).await.unwrap().unwrap();
    let took = told.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(7), "{took:?}");
    assert_eq!(call.await.unwrap().unwrap_err().code, ErrorCode::NodeUnreachable);
}
