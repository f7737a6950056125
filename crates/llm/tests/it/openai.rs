//! The engine over an OpenAI-compatible server.

use axum::http::StatusCode;
use kamil_llm::LlmOptions;
use kamil_protocol::{
    ErrorCode,
    reason::{Constraint, Finish, ReasonRequest},
};
use serde_json::json;

use crate::{
    model_server::{ModelServer, Script, answer, delta, end},
    world::{World, ask, options, start},
};

async fn node(server: &ModelServer) -> World {
    start(LlmOptions {
        engine_url: Some(server.url.clone()),
        engine_key: Some("sesame".to_owned()),
        model: Some("big".to_owned()),
        ..options()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_answer_comes_as_a_stream_or_in_one_piece() {
    let mut server = ModelServer::start(answer(&["Hel", "lo ", "wörld"])).await;
    let world = node(&server).await;
    let streamed = world.stream(&ask("hi")).await.unwrap();
    assert_eq!((streamed.text.as_str(), streamed.deltas), ("Hello wörld", 3));
    let reply = streamed.end.unwrap();
    assert_eq!(
        (reply.model.as_str(), reply.text.as_str(), reply.finish),
        ("big", "Hello wörld", Finish::Stop)
    );
    assert_eq!((reply.usage.tokens_in, reply.usage.tokens_out), (10, 20));
    let (key, body) = server.asked().await;
    assert_eq!(key.as_deref(), Some("Bearer sesame"));
    assert_eq!(
        (&body["model"], &body["messages"][0]),
        (&json!("big"), &json!({ "role": "user", "content": "hi" }))
    );

    server.now(Script::Events(delta("cut") + &end("length", 3, 4)));
    let schema = json!({ "type": "object" });
    let request = ReasonRequest {
        constraint: Some(Constraint::JsonSchema { schema: schema.clone() }),
        model: Some("big".to_owned()),
        ..ask("hi")
    };
    let reply = world.reason(&request).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.finish), ("cut", Finish::Length));
    assert_eq!(server.asked().await.1["response_format"]["json_schema"]["schema"], schema);

    let metrics = world.client.get_text("/metrics").await.unwrap();
    assert!(
        metrics.contains("kamil_llm_tokens_in_total 13")
            && metrics.contains("kamil_llm_answers_total{outcome=\"ok\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_answer_goes_on_where_it_was_broken_off() {
    let begun = "Once upon a time there was";
    let mut server = ModelServer::start(answer(&["Once upon a time", " there was a", " fox."])).await;
    let world = node(&server).await;
    let request = ReasonRequest { continue_from: Some(begun.to_owned()), ..ask("a story") };
    let streamed = world.stream(&request).await.unwrap();
    assert_eq!(streamed.text, " a fox.", "what the server repeats is left out");
    let (_, body) = server.asked().await;
    assert_eq!(body["messages"][1], json!({ "role": "assistant", "content": begun }));
}

#[tokio::test]
async fn broken_streams_and_garbage_end_with_an_error() {
    let server = ModelServer::start(Script::Silence).await;
    let world = node(&server).await;
    let cases = [
        (Script::Break(delta("one")), "failed"),
        (Script::Events(delta("one")), "in the middle of the answer"),
        (Script::Events(delta("one") + "data: [DONE]\n\n"), "in the middle of the answer"),
        (Script::Events(delta("one") + "data: <html>\n\n"), "not JSON"),
        (Script::Events(delta("one") + "data: {\"x\":1}\n\n"), "not a chat completion"),
        (
            Script::Events(delta("one") + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"),
            "out of memory",
        ),
    ];
    for (script, why) in cases {
        server.now(script);
        let streamed = world.stream(&ask("hi")).await.unwrap();
        assert_eq!(streamed.text, "one", "what came before the fault is kept");
        let problem = streamed.end.unwrap_err();
        assert_eq!(problem.code, ErrorCode::BadGateway, "{why}");
        assert!(problem.detail.contains(why) && problem.detail.contains(&server.url), "{}", problem.detail);
        assert_eq!(world.reason(&ask("hi")).await.unwrap_err().code, ErrorCode::BadGateway, "{why}");
    }
    server.now(answer(&["fine"]));
    assert_eq!(world.reason(&ask("hi")).await.unwrap().text, "fine", "the node goes on");
}

#[tokio::test]
async fn refusals_of_the_server_are_explained() {
    let server = ModelServer::start(Script::Silence).await;
    let world = node(&server).await;
    let openai_error = |text: &str| json!({ "error": { "message": text, "type": "x" } }).to_string();
    let json_type = ("content-type", "application/json");
    let cases = [
        (
            StatusCode::NOT_FOUND,
            json_type,
            openai_error("model 'big' not found"),
            ErrorCode::ModelUnusable,
            "model 'big' not found",
        ),
        (
            StatusCode::UNAUTHORIZED,
            json_type,
            openai_error("bad key"),
            ErrorCode::ModelUnusable,
            "refuses the key: bad key",
        ),
        (StatusCode::TOO_MANY_REQUESTS, ("retry-after", "7"), String::new(), ErrorCode::Busy, "is full"),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json_type,
            openai_error("Loading model"),
            ErrorCode::Busy,
            "Loading model",
        ),
        (
            StatusCode::BAD_REQUEST,
            json_type,
            openai_error("This model's maximum context length is 4096 tokens."),
            ErrorCode::ContextExceeded,
            "4096",
        ),
        (
            StatusCode::BAD_REQUEST,
            json_type,
            openai_error("bad schema"),
            ErrorCode::BadGateway,
            "answered 400: bad schema",
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            ("content-type", "text/html"),
            "<h1>".to_owned(),
            ErrorCode::BadGateway,
            "answered 500",
        ),
        (StatusCode::OK, json_type, "{}".to_owned(), ErrorCode::BadGateway, "instead of a stream"),
    ];
    for (status, (name, value), body, code, why) in cases {
        server.now(Script::Refuse(status, name, value, body));
        for problem in
            [world.reason(&ask("hi")).await.unwrap_err(), world.stream(&ask("hi")).await.unwrap_err()]
        {
            assert_eq!(problem.code, code, "{status}: {problem}");
            assert!(problem.detail.contains(why), "{status}: {}", problem.detail);
            assert!(problem.data.is_none(), "what a server says is not passed on unchecked");
        }
    }
    server.now(Script::Refuse(StatusCode::TOO_MANY_REQUESTS, "retry-after", "7", String::new()));
    assert_eq!(world.reason(&ask("hi")).await.unwrap_err().retry_after_ms, Some(7_000));
}

#[tokio::test]
async fn a_server_that_is_not_there_does_not_make_the_node_look_gone() {
    let options =
        LlmOptions { engine_url: Some("127.0.0.1:9".to_owned()), model: Some("big".to_owned()), ..options() };
    let world = start(options.clone()).await.unwrap();
    let problem = world.reason(&ask("hi")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::BadGateway);
    assert!(problem.detail.contains("http://127.0.0.1:9/v1"), "{}", problem.detail);
    assert_eq!(world.models().await.len(), 1);

    let error = start(LlmOptions { model: None, ..options }).await.err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("Check that it runs"), "{error}");
}

#[tokio::test]
async fn without_a_name_the_servers_first_model_is_used() {
    let server = ModelServer::start(answer(&["x"])).await;
    let options = LlmOptions {
        engine_url: Some(format!("{}/v1/", server.url)),
        specializations: vec!["coding".to_owned()],
        ..options()
    };
    let world = start(options).await.unwrap();
    let models = world.models().await;
    assert_eq!(
        (models[0].name.as_str(), models[0].engine.as_str(), models[0].resident),
        ("first", "openai", true)
    );
    assert_eq!(models[0].specializations, ["coding"]);
}
