//! The client's view of answers and streams, good and bad.

use std::time::Duration;

use axum::{Router, response::sse::Event, routing::get};
use futures::{StreamExt as _, stream};
use kamil_node::{Client, Method, SseEvent, event_stream};
use kamil_protocol::ErrorCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use crate::world::{DEADLINE, start_with};

/// A server that answers every connection with these bytes and closes it.
async fn answering(bytes: &'static str) -> Client {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let _ = connection.write_all(bytes.as_bytes()).await;
            });
        }
    });
    Client::new(&addr.to_string(), None).unwrap()
}

async fn stream_of(client: &Client) -> Result<kamil_node::SseStream, kamil_protocol::Problem> {
    client.stream(Method::GET, "/events", None::<&()>, &[]).await
}

#[tokio::test]
async fn a_stream_of_events_arrives_as_it_was_sent() {
    let events = || async {
        let events = stream::iter((0..3).map(|number| {
            Event::default().event("delta").id(number.to_string()).data(format!("line {number}\nmore"))
        }));
        event_stream(events)
    };
    let world = start_with(Router::new().route("/events", get(events)), |_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let events: Vec<SseEvent> = stream_of(&client).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(events.len(), 3);
    assert_eq!(
        events[2],
        SseEvent { event: "delta".to_owned(), id: Some("2".to_owned()), data: "line 2\nmore".to_owned() }
    );
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_node_that_cannot_be_reached() {
    let client = answering("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nA\r\ndata: one\n\r\n1\r\n\n\r\n").await;
    let mut events = stream_of(&client).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data, "one");
    let problem = events.next().await.unwrap().unwrap_err();
    assert_eq!(problem.code, ErrorCode::NodeUnreachable, "{problem}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up() {
    let silent = || async {
        event_stream(stream::once(async { Event::default().data("one") }).chain(stream::pending()))
    };
    let world = start_with(Router::new().route("/events", get(silent)), |_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap().with_idle_timeout(Duration::from_millis(100));
    let mut events = stream_of(&client).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data, "one");
    let problem = timeout(DEADLINE, events.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(problem.code, ErrorCode::NodeUnreachable);
}

#[tokio::test]
async fn what_is_no_kamil_is_named() {
    let html =
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<h1>nginx</h1>\n";
    let problem = answering(html).await.get::<Value>("/v1/nodes").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::BadGateway);
    assert!(problem.detail.contains("404") && problem.detail.contains("nginx"), "{}", problem.detail);
    assert!(problem.next_step.unwrap().contains("port"));

    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi";
    let client = answering(text).await;
    assert_eq!(client.get::<Value>("/").await.unwrap_err().code, ErrorCode::BadGateway);
    assert_eq!(stream_of(&client).await.unwrap_err().code, ErrorCode::BadGateway);

    let garbage = answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    assert_eq!(garbage.get::<Value>("/").await.unwrap_err().code, ErrorCode::NodeUnreachable);

    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    assert_eq!(answering(cut).await.get::<Value>("/").await.unwrap_err().code, ErrorCode::NodeUnreachable);
}

#[tokio::test]
async fn a_node_that_is_not_there_or_does_not_answer_is_told_apart() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let client = Client::new(&addr.to_string(), None).unwrap().with_timeout(Duration::from_millis(100));
    let problem = client.get::<Value>("/health").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::DeadlineExceeded, "{problem}");
    drop(socket);
    let problem = client.get::<Value>("/health?x=1").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::NodeUnreachable);
    assert!(problem.detail.contains(&format!("GET http://{addr}/health failed")), "{}", problem.detail);
    assert!(problem.detail.to_lowercase().contains("refused"), "{}", problem.detail);
}

#[tokio::test]
async fn a_problem_of_the_peer_comes_through_as_it_is() {
    let world = start_with(Router::new(), |_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let problem = client.get::<Value>("/nothing").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::NotFound);
    assert_eq!(stream_of(&client).await.unwrap_err().code, ErrorCode::NotFound);
    let refused =
        client.post_with_headers::<_, Value>("/greet", &(), &[("bad header", "x")]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidParameter);
}
