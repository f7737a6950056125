//! What holds whichever engine runs: who may ask, what is refused, how much is taken, how long it may take.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kamil_llm::LlmOptions;
use kamil_node::{Client, Method};
use kamil_protocol::{
    ErrorCode,
    openai::{EmbeddingsReply, EmbeddingsRequest},
    reason::{ReasonReply, ReasonRequest},
};
use serde_json::{Value, json};

use crate::{
    model_server::{ModelServer, Script, Seen, answer, delta},
    world::{World, ask, options, start},
};

async fn node(server: &ModelServer, slots: u32, queue: u32) -> World {
    let options = LlmOptions {
        engine_url: Some(server.url.clone()),
        model: Some("big".to_owned()),
        slots,
        queue,
        ..options()
    };
    start(options).await.unwrap()
}

#[tokio::test]
async fn only_the_orchestrator_may_ask() {
    let server = ModelServer::start(answer(&["x"])).await;
    let world = node(&server, 1, 1).await;
    let stranger = Client::new(&world.node.url, None).unwrap();
    let reason = stranger.post::<_, ReasonReply>("/v1/reason", &ask("hi")).await.unwrap_err();
    let embeddings = stranger
        .post::<_, Value>("/v1/embeddings", &json!({ "model": "x", "input": "y" }))
        .await
        .unwrap_err();
    let models = stranger.get::<Value>("/v1/models").await.unwrap_err();
    for problem in [reason, embeddings, models] {
        assert_eq!(problem.code, ErrorCode::OrchestratorOnly);
    }
    let document: Value = stranger.get("/openapi.json").await.unwrap();
    for path in ["/v1/reason", "/v1/embeddings", "/v1/models", "/health"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(document, serde_json::to_value(kamil_llm::openapi()).unwrap());
}

#[tokio::test]
async fn what_is_not_valid_is_refused_before_anything_is_done() {
    let mut server = ModelServer::start(answer(&["x"])).await;
    let world = node(&server, 1, 1).await;
    let problem =
        world.reason(&ReasonRequest { model: Some("other".to_owned()), ..ask("hi") }).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ModelUnknown);
    assert!(problem.detail.contains("`other`") && problem.detail.contains("`big`"), "{}", problem.detail);
    let problem = world.stream(&ReasonRequest { messages: Vec::new(), ..ask("") }).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ValidationFailed);
    let problem = world.client.post::<_, Value>("/v1/reason", &json!({ "mesages": [] })).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::UnknownField);
    let request = EmbeddingsRequest { model: "all-minilm:l6-v2".to_owned(), input: json!("x") };
    let problem = world.client.post::<_, EmbeddingsReply>("/v1/embeddings", &request).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ModelUnknown, "no embedding model is installed");
    assert!(server.seen.try_recv().is_err(), "the model server was not asked");
}

#[tokio::test]
async fn a_full_node_refuses_and_a_caller_that_goes_away_makes_room() {
    let mut server = ModelServer::start(Script::Hang(delta("one"))).await;
    let world = node(&server, 1, 1).await;
    let request = ReasonRequest { stream: true, ..ask("first") };
    let mut first = world.client.stream(Method::POST, "/v1/reason", Some(&request), &[]).await.unwrap();
    assert!(first.next().await.unwrap().unwrap().data.contains("one"));
    server.asked().await;

    let waiting = tokio::spawn({
        let client = world.client.clone();
        async move { client.post::<_, ReasonReply>("/v1/reason", &ask("second")).await }
    });
    // The second one is in the queue as soon as a third is refused.
    let begun = Instant::now();
    let request = ask("third");
    let refused = loop {
        let third = tokio::time::timeout(Duration::from_millis(100), world.reason(&request));
        match third.await {
            Ok(refused) => break refused.unwrap_err(),
            Err(_) => assert!(begun.elapsed() < crate::world::DEADLINE),
        }
    };
    assert_eq!((refused.code, refused.status), (ErrorCode::Busy, 429));
    assert!(refused.retry_after_ms.unwrap() >= 200);
    let about: Value = world.client.get("/capabilities").await.unwrap();
    assert_eq!((&about["load"]["running"], &about["load"]["queued"]), (&json!(1), &json!(1)));

    server.now(answer(&["two"]));
    drop(first);
    assert!(matches!(server.next().await, Seen::Gone), "the model server is told to stop");
    assert_eq!(waiting.await.unwrap().unwrap().text, "two");
}

#[tokio::test]
async fn a_deadline_ends_a_request_that_waits_and_one_that_writes() {
    let mut server = ModelServer::start(Script::Silence).await;
    let world = node(&server, 1, 0).await;
    let short = |deadline_ms| ReasonRequest { deadline_ms: Some(deadline_ms), ..ask("hi") };
    let problem = world.reason(&short(1_000)).await.unwrap_err();
    assert_eq!((problem.code, problem.status), (ErrorCode::DeadlineExceeded, 504));
    server.asked().await;
    assert!(matches!(server.next().await, Seen::Gone), "the model server is told to stop");

    // A stream is refused with a status if the time is over at once, and else with an event.
    assert_eq!(world.stream(&short(1)).await.unwrap_err().code, ErrorCode::DeadlineExceeded);
    let late = world.stream(&short(3_000)).await.unwrap();
    assert_eq!(late.end.unwrap_err().code, ErrorCode::DeadlineExceeded);

    // On a busy machine it takes a while until the first text is there.
    server.now(Script::Hang(delta("one")));
    let mut ended = None;
    for deadline_ms in [500, 5_000, 50_000] {
        ended = world.stream(&short(deadline_ms)).await.ok().filter(|streamed| streamed.text == "one");
        if ended.is_some() {
            break;
        }
    }
    assert_eq!(ended.unwrap().end.unwrap_err().code, ErrorCode::DeadlineExceeded);
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    for (options, word) in [
        (LlmOptions { slots: 0, ..options() }, "slots"),
        (LlmOptions { slots: 65, ..options() }, "slots"),
        (LlmOptions { context_tokens: Some(8), ..options() }, "context"),
        (LlmOptions { engine_url: Some("ftp://x".to_owned()), ..options() }, "ftp://x"),
    ] {
        let error = start(options).await.err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}
