//! The OpenAI-compatible surface.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use kamil_node::Method;
use kamil_protocol::{
    ErrorCode, Page,
    openai::{ChatCompletion, ChatCompletionChunk, ModelList},
    reason::{Constraint, ReasonRequest},
    task::TaskSummary,
};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, PATIENCE},
    stand_in::{Boxed, StandIn, says},
};

async fn model(hub: &Hub, asked: &Arc<Mutex<Vec<ReasonRequest>>>) -> StandIn {
    let asked = Arc::clone(asked);
    let reason = move |request: ReasonRequest| -> Boxed<_> {
        asked.lock().unwrap().push(request);
        Box::pin(async { Ok(says("Blue and wide.")) })
    };
    StandIn::llm(&hub.url, "qwen", reason).await
}

#[tokio::test]
async fn a_completion_is_a_task_with_the_callers_conversation() {
    let hub = Hub::start().await;
    let asked = Arc::default();
    let _llm = model(&hub, &asked).await;
    let body = json!({
        "model": "qwen", "max_tokens": 9, "temperature": 0.5, "stop": ["END"], "user": "someone",
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": [{"type": "text", "text": "The sky?"}]},
        ],
    });
    let reply: ChatCompletion = hub.client.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(reply.choices[0].message.content, json!("Blue and wide."));
    assert_eq!((reply.model.as_str(), reply.usage.total_tokens), ("qwen", 15));
    assert_eq!(reply.choices[0].finish_reason, "stop");
    let asked = asked.lock().unwrap().clone();
    let contents: Vec<_> = asked[0].messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["Be brief.", "Hi", "Hello", "The sky?"]);
    assert_eq!((asked[0].sampling.max_tokens, asked[0].sampling.stop.len()), (Some(9), 1));
    assert!(matches!(asked[0].constraint, Some(Constraint::JsonSchema { .. })));
    let tasks: Page<TaskSummary> = hub.client.get("/v1/tasks").await.unwrap();
    assert_eq!(format!("chatcmpl-{}", tasks.items[0].id), reply.id);
}

#[tokio::test]
async fn a_streamed_completion_comes_in_chunks() {
    let hub = Hub::start().await;
    let asked = Arc::default();
    let _llm = model(&hub, &asked).await;
    let body = json!({
        "model": "kamil", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "The sky?"}],
    });
    let stream = hub.client.stream(Method::POST, "/v1/chat/completions", Some(&body), &[]).await.unwrap();
    let events: Vec<_> = tokio::time::timeout(PATIENCE, stream.collect::<Vec<_>>()).await.unwrap();
    let mut data: Vec<String> = events.into_iter().map(|event| event.unwrap().data).collect();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<ChatCompletionChunk> =
        data.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let text: String = chunks
        .iter()
        .flat_map(|chunk| &chunk.choices)
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect();
    assert_eq!(text, "Blue and wide.");
    assert_eq!(chunks[0].choices[0].delta.role.as_deref(), Some("assistant"));
    let last = chunks.last().unwrap();
    assert_eq!(last.usage.as_ref().unwrap().prompt_tokens, 12);
    let finished =
        chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.finish_reason.as_deref());
    assert_eq!(finished.collect::<Vec<_>>(), ["stop"]);
}

#[tokio::test]
async fn models_are_listed_and_wrong_ones_refused() {
    let hub = Hub::start().await;
    let asked = Arc::default();
    let _llm = model(&hub, &asked).await;
    let models: ModelList = hub.client.get("/v1/models").await.unwrap();
    let names: Vec<_> = models.data.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(names, ["kamil", "qwen"]);
    for (body, code) in [
        (json!({"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]}), ErrorCode::ModelUnknown),
        (json!({"model": "qwen", "messages": []}), ErrorCode::ValidationFailed),
        (
            json!({"model": "qwen", "messages": [{"role": "king", "content": "x"}]}),
            ErrorCode::ValidationFailed,
        ),
        (json!({"model": "qwen"}), ErrorCode::MalformedBody),
    ] {
        let problem = hub.client.post::<_, Value>("/v1/chat/completions", &body).await.unwrap_err();
        assert_eq!(problem.code, code, "{problem}");
    }
    let body = json!({"model": "kamil", "input": "x"});
    let problem = hub.client.post::<_, Value>("/v1/embeddings", &body).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ModelUnknown);
    let problem =
        hub.client.post::<_, Value>("/v1/memories/search", &json!({"query": "x"})).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::NoNode);
}
