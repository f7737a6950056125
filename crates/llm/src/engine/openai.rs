//! Any server that speaks OpenAI's chat completions: Ollama, llama-server, vLLM, SGLang, LM Studio…
//!
//! A JSON Schema is passed on as `response_format`. Grammars and regular expressions have no place in that interface: the model
//! then writes freely, and whoever asked has to check what it wrote, as Kamil's planner does with every plan.

mod answer;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use kamil_node::{Client, Method, SseStream};
use kamil_protocol::{
    ErrorCode, Problem,
    reason::{Constraint, ReasonRequest},
};
use serde_json::{Value, json};

use crate::{
    engine::{Engine, Piece, Pieces, Speed, llama::speaker},
    request::DEFAULT_MAX_TOKENS,
};
use answer::Answer;

/// How long a server may take to list its models.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than a request its connection may last.
const SLACK: Duration = Duration::from_secs(5);
/// Weight of the latest measurement in the speeds.
const LATEST: f32 = 0.3;
/// A speed is measured on no fewer tokens than this.
const LEAST_MEASURED_TOKENS: u32 = 8;

/// A model on another server.
#[derive(Debug)]
pub(crate) struct OpenAiEngine {
    client: Client,
    model: String,
    speed: std::sync::Arc<Mutex<Speed>>,
}

impl OpenAiEngine {
    /// A model on the server at this address. `/v1` is added where the address has no path.
    ///
    /// # Errors
    /// `invalid_parameter` if the address or the key cannot be used.
    pub(crate) fn new(url: &str, key: Option<&str>, model: String) -> Result<Self, Problem> {
        Ok(Self { client: client(url, key)?, model, speed: std::sync::Arc::default() })
    }

    /// What the failure of a call means for whoever asked this node. The server is not the node: that it cannot be reached does
    /// not mean that the node is gone.
    fn explain(&self, problem: &Problem) -> Problem {
        explain(problem, &self.model, self.client.base_url())
    }

    fn body(&self, request: &ReasonRequest) -> Value {
        let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
        let mut messages: Vec<Value> =
            request.messages.iter().map(|message| turn(speaker(message.role), &message.content)).collect();
        if let Some(begun) = request.continue_from.as_deref().filter(|begun| !begun.is_empty()) {
            messages.push(turn("assistant", begun));
        }
        let sampling = &request.sampling;
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": sampling.temperature.unwrap_or(0.0),
            "max_tokens": sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(fields)) = (value, body.as_object_mut()) {
                fields.insert(name.to_owned(), value);
            }
        };
        set("top_p", sampling.top_p.map(Value::from));
        set("seed", sampling.seed.map(Value::from));
        // OpenAI's interface takes at most four.
        set("stop", (!sampling.stop.is_empty()).then(|| sampling.stop.iter().take(4).cloned().collect()));
        set("tools", (!request.tools.is_empty()).then(|| request.tools.clone().into()));
        if let Some(Constraint::JsonSchema { schema }) = &request.constraint {
            let format = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } });
            set("response_format", Some(format));
        }
        body
    }
}

impl Engine for OpenAiEngine {
    fn write(&self, request: ReasonRequest, deadline: Duration) -> BoxFuture<'_, Result<Pieces, Problem>> {
        async move {
            let begun = Instant::now();
            // Servers need not keep their streams alive while a model is loading or reading. The node itself ends the request
            // at the deadline; the connection's own limits must not come first, since they mean something else.
            let limit = deadline + SLACK;
            let client = self.client.with_timeout(limit).with_idle_timeout(limit);
            let body = self.body(&request);
            let events = client
                .stream(Method::POST, "/chat/completions", Some(&body), &[])
                .await
                .map_err(|problem| self.explain(&problem))?;
            let answer = Answer::new(begun, &request);
            Ok(self.pieces(events, answer))
        }
        .boxed()
    }

    fn speed(&self) -> Speed {
        *self.speed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenAiEngine {
    fn pieces(&self, events: SseStream, answer: Answer) -> Pieces {
        struct State {
            events: SseStream,
            answer: Answer,
            ready: std::collections::VecDeque<Result<Piece, Problem>>,
            ended: bool,
        }
        let (model, server, speed) =
            (self.model.clone(), self.client.base_url().to_owned(), std::sync::Arc::clone(&self.speed));
        let state = State { events, answer, ready: std::collections::VecDeque::new(), ended: false };
        let pieces = futures::stream::unfold(state, move |mut state| {
            let (model, server, speed) = (model.clone(), server.clone(), std::sync::Arc::clone(&speed));
            async move {
                loop {
                    if let Some(piece) = state.ready.pop_front() {
                        return Some((piece, state));
                    }
                    if state.ended {
                        return None;
                    }
                    let broken = |reason: &str| {
                        Problem::new(ErrorCode::BadGateway, format!("The model server {server} {reason}."))
                    };
                    let understood = match state.events.next().await {
                        Some(Ok(event)) => state.answer.take(&event.data).map_err(|reason| broken(&reason)),
                        Some(Err(problem)) => Err(explain(&problem, &model, &server)),
                        None => state.answer.end().map_err(|reason| broken(&reason)),
                    };
                    match understood {
                        Ok(pieces) => {
                            for piece in pieces {
                                if let Piece::Done(_, usage) = &piece {
                                    state.ended = true;
                                    note(&speed, usage);
                                }
                                state.ready.push_back(Ok(piece));
                            }
                        }
                        Err(problem) => {
                            state.ended = true;
                            state.ready.push_back(Err(problem));
                        }
                    }
                }
            }
        });
        pieces.boxed()
    }
}

fn client(url: &str, key: Option<&str>) -> Result<Client, Problem> {
    let client = Client::new(url, None)?;
    let after_host = client.base_url().split("://").nth(1).unwrap_or_default();
    let client = if after_host.contains('/') {
        client
    } else {
        Client::new(&format!("{}/v1", client.base_url()), None)?
    };
    match key {
        Some(key) => client.with_bearer(key),
        None => Ok(client),
    }
}

/// The models that a server has.
///
/// # Errors
/// If it cannot be reached or does not answer as such servers do.
pub(crate) async fn list_models(url: &str, key: Option<&str>) -> Result<Vec<String>, Problem> {
    let client = client(url, key)?.with_timeout(LIST_TIMEOUT);
    let listed: Value =
        client.get("/models").await.map_err(|problem| explain(&problem, "", client.base_url()))?;
    let names = listed["data"]
        .as_array()
        .map(|models| models.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| {
        Problem::new(
            ErrorCode::BadGateway,
            format!("{}/models does not answer with a list of models.", client.base_url()),
        )
    })
}

fn explain(problem: &Problem, model: &str, server: &str) -> Problem {
    let answered = problem.data.as_ref().and_then(|data| data["status"].as_u64());
    let body = problem.data.as_ref().and_then(|data| data["body"].as_str()).unwrap_or_default();
    let said = server_message(body).map(|said| format!(": {said}")).unwrap_or_default();
    let (code, detail, next) = match (problem.code, answered) {
        (ErrorCode::DeadlineExceeded, _) => {
            (ErrorCode::DeadlineExceeded, format!("The model server {server} took too long."), None)
        }
        (_, Some(429 | 503)) => {
            let wait_ms = problem.retry_after_ms.unwrap_or(1_000);
            let busy = Problem::new(ErrorCode::Busy, format!("The model server {server} is full{said}."));
            return busy.retry_after_ms(wait_ms);
        }
        (_, Some(401 | 403)) => (
            ErrorCode::ModelUnusable,
            format!("The model server {server} refuses the key{said}."),
            Some("Set KAMIL_ENGINE_KEY to a key that it accepts.".to_owned()),
        ),
        (_, Some(404)) => (
            ErrorCode::ModelUnusable,
            format!(
                "The model server {server} does not have `{model}`, or no chat completions at this address{said}."
            ),
            Some(format!("{server}/models lists its models.")),
        ),
        (_, Some(400 | 413 | 422)) if is_about_context(body) => (
            ErrorCode::ContextExceeded,
            format!("The request does not fit into the context of `{model}` on {server}{said}."),
            Some("Shorten the request.".to_owned()),
        ),
        (_, Some(status)) => {
            (ErrorCode::BadGateway, format!("The model server {server} answered {status}{said}."), None)
        }
        _ => (
            ErrorCode::BadGateway,
            format!("The model server {server} failed: {}", problem.detail),
            Some("Check that it runs, and its address.".to_owned()),
        ),
    };
    let explained = Problem::new(code, detail);
    match next {
        Some(next) => explained.next(next),
        None => explained,
    }
}

fn server_message(body: &str) -> Option<String> {
    let parsed: Value = serde_json::from_str(body).ok()?;
    let error = parsed.get("error")?;
    let text = error.get("message").unwrap_or(error).as_str()?;
    Some(
        text.chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect::<String>()
            .trim_end_matches('.')
            .to_owned(),
    )
}

fn is_about_context(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    ["context length", "context_length", "context size", "context_size", "maximum context"]
        .iter()
        .any(|words| body.contains(words))
}

fn note(speed: &Mutex<Speed>, usage: &kamil_protocol::reason::Usage) {
    let mut speed = speed.lock().unwrap_or_else(PoisonError::into_inner);
    let read = usage.tokens_in.saturating_sub(usage.tokens_cached);
    blend(&mut speed.prefill, read, usage.prefill_ms);
    blend(&mut speed.decode, usage.tokens_out, usage.decode_ms);
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens and milliseconds are small")]
fn blend(speed: &mut Option<f32>, tokens: u32, ms: u64) {
    if tokens < LEAST_MEASURED_TOKENS || ms == 0 {
        return;
    }
    let latest = tokens as f32 * 1_000.0 / ms as f32;
    *speed = Some(speed.map_or(latest, |known| known.mul_add(1.0 - LATEST, latest * LATEST)));
}

#[cfg(test)]
mod tests {
    use kamil_protocol::reason::{ChatMessage, Sampling, Speaker};

    use super::*;

    #[test]
    fn an_address_without_a_path_gets_v1() {
        for (given, base) in [
            ("localhost:11434", "http://localhost:11434/v1"),
            ("http://localhost:8080/", "http://localhost:8080/v1"),
            ("https://models.home/api/v1/", "https://models.home/api/v1"),
        ] {
            assert_eq!(client(given, Some("k")).unwrap().base_url(), base);
        }
    }

    #[test]
    fn a_request_becomes_a_chat_completion() {
        let engine = OpenAiEngine::new("localhost:1", None, "m".to_owned()).unwrap();
        let request = ReasonRequest {
            model: None,
            messages: vec![
                ChatMessage::new(Speaker::System, "be brief"),
                ChatMessage::new(Speaker::User, "hi"),
            ],
            tools: Vec::new(),
            constraint: Some(Constraint::JsonSchema { schema: json!({ "type": "object" }) }),
            sampling: Sampling {
                top_p: Some(0.5),
                seed: Some(7),
                max_tokens: Some(9),
                stop: vec!["x".to_owned()],
                temperature: None,
            },
            continue_from: Some("{\"a\"".to_owned()),
            stream: true,
            deadline_ms: None,
        };
        let expected = json!({
            "model": "m",
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": "hi" },
                { "role": "assistant", "content": "{\"a\"" }
            ],
            "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": 0.0,
            "max_tokens": 9,
            "top_p": 0.5,
            "seed": 7,
            "stop": ["x"],
            "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "schema": { "type": "object" }, "strict": true } }
        });
        assert_eq!(engine.body(&request), expected);
    }

    #[test]
    fn speeds_follow_what_is_measured() {
        let speed = Mutex::new(Speed::default());
        let usage = |tokens_out, decode_ms| kamil_protocol::reason::Usage {
            tokens_out,
            decode_ms,
            ..Default::default()
        };
        note(&speed, &usage(4, 10));
        assert_eq!(*speed.lock().unwrap(), Speed::default(), "too few to tell");
        note(&speed, &usage(100, 1_000));
        assert_eq!(speed.lock().unwrap().decode, Some(100.0));
        note(&speed, &usage(200, 1_000));
        assert!((speed.lock().unwrap().decode.unwrap() - 130.0).abs() < 0.01);
    }
}
