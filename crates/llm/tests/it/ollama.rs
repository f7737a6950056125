//! Models that a local Ollama has.

use axum::{Json, Router, routing::get};
use kamil_llm::LlmOptions;
use serde_json::json;

use crate::{
    model_server::{ModelServer, answer},
    world::{ask, options, start},
};

async fn ollama() -> ModelServer {
    let tags = async || {
        Json(json!({ "models": [
            { "name": "llama3.2:3b", "model": "llama3.2:3b", "size": 2_019_393_189_u64 },
            { "name": "mistral:latest", "model": "mistral:latest", "size": 4_113_301_824_u64 },
        ] }))
    };
    ModelServer::with_more(answer(&["Bonjour"]), Router::new().route("/api/tags", get(tags))).await
}

#[tokio::test]
async fn a_name_that_the_catalogue_does_not_have_is_found_at_the_local_ollama() {
    let mut ollama = ollama().await;
    for name in ["mistral:latest", "mistral"] {
        let world = start(LlmOptions {
            model: Some(name.to_owned()),
            ollama_url: format!("{}/", ollama.url),
            ..options()
        })
        .await
        .unwrap();
        let model = world.models().await.remove(0);
        assert_eq!(
            (model.name.as_str(), model.engine.as_str(), model.bytes),
            ("mistral:latest", "openai", 4_113_301_824)
        );
        assert_eq!(model.specializations, ["general"]);
        assert_eq!(world.reason(&ask("hi")).await.unwrap().text, "Bonjour");
        let (key, body) = ollama.asked().await;
        assert_eq!((key, &body["model"]), (None, &json!("mistral:latest")));
        world.shutdown.cancel();
        world.node.stopped().await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_refused_with_all_that_can_be_done() {
    let ollama = ollama().await;
    let options =
        LlmOptions { model: Some("mixtral:latest".to_owned()), ollama_url: ollama.url.clone(), ..options() };
    let error = start(options).await.err().unwrap().to_string();
    for part in [
        "`mixtral:latest`",
        "does not have it (it has llama3.2:3b, mistral:latest)",
        "kamil models list",
        ".gguf",
        "--engine-url",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
