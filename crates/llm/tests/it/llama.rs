//! The engine in this process, with a real model: the one in `$KAMIL_TEST_MODELS`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kamil_llm::LlmOptions;
use kamil_models::ModelsDir;
use kamil_protocol::{
    ErrorCode,
    openai::{EmbeddingsReply, EmbeddingsRequest},
    reason::{ChatMessage, Constraint, Finish, ReasonRequest, Sampling, Speaker},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{World, ask, options, start_in};

const SMALL: &str = "smollm2:135m";
const EMBEDDER: &str = "all-minilm:l6-v2";

/// A home whose models folder holds links to these models, which are fetched once for all tests.
async fn home_with(models: &[&str]) -> TempDir {
    let shared = std::env::var_os("KAMIL_TEST_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/test-models"),
        PathBuf::from,
    );
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("models");
    fs::create_dir_all(&place).unwrap();
    for model in models {
        let file = ModelsDir::new(&shared).pull(model, |_| {}).await.unwrap().path;
        link(&fs::canonicalize(&file).unwrap(), &place.join(file.file_name().unwrap()));
    }
    folder
}

#[cfg(unix)]
fn link(file: &Path, place: &Path) {
    std::os::unix::fs::symlink(file, place).unwrap();
}

#[cfg(not(unix))]
fn link(file: &Path, place: &Path) {
    fs::copy(file, place).unwrap();
}

async fn smollm() -> World {
    let options =
        LlmOptions { model: Some("smollm2:135m".to_owned()), context_tokens: Some(1_024), ..options() };
    start_in(home_with(&[SMALL]).await, options).await.unwrap()
}

fn limited(text: &str, max_tokens: u32) -> ReasonRequest {
    ReasonRequest { sampling: Sampling { max_tokens: Some(max_tokens), ..Sampling::default() }, ..ask(text) }
}

#[tokio::test]
async fn a_real_model_answers_and_is_measured() {
    let world = smollm().await;
    // The node does not wait for the model: a request does.
    let request = limited("Write one sentence about the sea.", 40);
    let streamed = world.stream(&request).await.unwrap();
    let reply = streamed.end.unwrap();
    assert!(streamed.deltas > 3, "it came in pieces: {streamed_text}", streamed_text = streamed.text);
    assert_eq!(reply.text, streamed.text);
    assert_eq!(reply.model, "smollm2:135m");
    assert!(reply.usage.tokens_in > 10 && reply.usage.tokens_out > 3, "{:?}", reply.usage);

    let again = world.reason(&request).await.unwrap();
    assert_eq!(again.text, reply.text, "the likeliest tokens are always the same");
    assert!(again.usage.tokens_cached > 0, "{:?}", again.usage);

    let told = world
        .told(|offers| {
            offers.models.iter().any(|model| model.resident && model.decode_tokens_per_s.is_some())
        })
        .await;
    let model = &told.models[0];
    assert_eq!(
        (model.name.as_str(), model.engine.as_str(), model.context_tokens),
        ("smollm2:135m", "llama.cpp", 1_024)
    );
    assert!(model.decode_tokens_per_s.unwrap() > 0.5, "{model:?}");
}

#[tokio::test]
async fn constraints_lengths_and_continuations_hold() {
    let world = smollm().await;
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 20 }, "big": { "type": "boolean" } },
        "required": ["city", "big"], "additionalProperties": false });
    let request =
        ReasonRequest { constraint: Some(Constraint::JsonSchema { schema }), ..limited("Name a city.", 60) };
    let reply = world.reason(&request).await.unwrap();
    let answer: Value = serde_json::from_str(&reply.text).unwrap();
    assert!(answer["city"].is_string() && answer["big"].is_boolean(), "{answer}");
    assert!(reply.usage.tokens_forced > 0, "{:?}", reply.usage);

    let grammar = Constraint::Lark { grammar: "start: \"yes\" | \"no\"".to_owned() };
    let reply = world
        .reason(&ReasonRequest { constraint: Some(grammar), ..limited("Is water wet?", 8) })
        .await
        .unwrap();
    assert!(["yes", "no"].contains(&reply.text.as_str()), "{}", reply.text);

    let whole = world.reason(&limited("Count from one to ten in words.", 24)).await.unwrap();
    assert_eq!((whole.finish, whole.usage.tokens_out), (Finish::Length, 24));
    let begun: String = whole.text.chars().take(whole.text.chars().count() / 2).collect();
    let request =
        ReasonRequest { continue_from: Some(begun.clone()), ..limited("Count from one to ten in words.", 4) };
    let rest = world.reason(&request).await.unwrap();
    assert!(!rest.text.is_empty() && !rest.text.starts_with(&begun), "only what is new: {}", rest.text);

    let refused = Constraint::Lark { grammar: "start: undefined_rule".to_owned() };
    let problem = world.stream(&ReasonRequest { constraint: Some(refused), ..ask("hi") }).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ValidationFailed, "{problem}");
}

#[tokio::test]
async fn an_answer_is_as_long_as_there_is_room_and_a_prompt_that_does_not_fit_is_refused() {
    let world = smollm().await;
    let prompt = "word ".repeat(900);
    let reply = world
        .reason(&ReasonRequest {
            messages: vec![ChatMessage::new(Speaker::User, prompt)],
            ..limited("", 500)
        })
        .await
        .unwrap();
    assert!(reply.usage.tokens_in + reply.usage.tokens_out <= 1_024, "{:?}", reply.usage);
    let problem = world.reason(&ask(&"word ".repeat(1_100))).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ContextExceeded);
    assert!(problem.detail.contains("1024"), "{}", problem.detail);
    assert_eq!(
        world.stream(&ask(&"word ".repeat(1_100))).await.unwrap_err().code,
        ErrorCode::ContextExceeded
    );
}

#[tokio::test]
async fn a_broken_model_file_is_told_and_the_node_lives_on() {
    let whole = fs::read(home_with(&[SMALL]).await.path().join("models/smollm2-135m.gguf")).unwrap();
    for (name, content) in [
        ("not-a-model", b"GGUF, but not really".as_slice()),
        ("cut", &whole[..whole.len() / 2]),
        ("empty", b""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{name}.gguf"));
        fs::write(&file, content).unwrap();
        let world = start_in(folder, LlmOptions { model: Some(file.display().to_string()), ..options() })
            .await
            .unwrap();
        let problem = world.reason(&ask("hi")).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::ModelUnusable, "{name}: {problem}");
        assert!(problem.detail.contains(&file.display().to_string()), "{}", problem.detail);
        assert!(problem.next_step.is_some());
        world.told(|offers| offers.models.is_empty()).await;
        assert!(world.models().await.is_empty(), "what cannot be used is not offered");
    }
}

#[tokio::test]
async fn embeddings_are_made_by_the_model_that_is_installed() {
    let options = LlmOptions { model: Some("smollm2:135m".to_owned()), ..options() };
    let world = start_in(home_with(&[SMALL, EMBEDDER]).await, options).await.unwrap();
    let models = world.models().await;
    assert!(models.iter().any(|model| model.name == "all-minilm:l6-v2" && !model.generates), "{models:?}");
    let texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Interest rates rose sharply."];
    let request = EmbeddingsRequest { model: "all-minilm:l6-v2".to_owned(), input: json!(texts) };
    let reply: EmbeddingsReply = world.client.post("/v1/embeddings", &request).await.unwrap();
    assert_eq!(reply.data.iter().map(|entry| entry.index).collect::<Vec<_>>(), [0, 1, 2]);
    let dot = |a: usize, b: usize| -> f32 {
        reply.data[a].embedding.iter().zip(&reply.data[b].embedding).map(|(x, y)| x * y).sum()
    };
    assert!((dot(0, 0) - 1.0).abs() < 1e-3, "vectors have length 1");
    assert!(dot(0, 1) > dot(0, 2) + 0.2, "{} {}", dot(0, 1), dot(0, 2));
}
