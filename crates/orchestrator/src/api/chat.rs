//! `/v1/chat/completions`: a chat completion is a task like any other.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response, sse::Event},
};
use futures::stream;
use jiff::Timestamp;
use kamil_node::{ApiResult, Json, event_stream};
use kamil_protocol::{
    ErrorCode, Problem, TaskId,
    event::TaskEvent,
    openai::{
        ChatCompletion, ChatCompletionChunk, ChatCompletionRequest, Choice, ChunkChoice, ChunkDelta,
        OpenAiMessage, OpenAiUsage,
    },
    reason::{ChatMessage, Sampling, Speaker},
    task::TaskRequest,
};
use serde_json::{Value, json};

use super::{App, events::Watcher, models::ANY_MODEL};
use crate::{feed::News, hub::Command};

/// Answers a conversation. `kamil` plans, uses tools and remembers as for any request; a model's name answers at once with
/// that model.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatCompletionRequest, responses(
    (status = 200, description = "In one piece, or with `stream` as chunks ended by `[DONE]`",
        content((ChatCompletion = "application/json"), (ChatCompletionChunk = "text/event-stream"))),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "`malformed_body`"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "`model_unknown`"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "`validation_failed`"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "`busy`"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "`no_node`")))]
pub(super) async fn chat_completions(
    State(app): State<App>,
    Json(request): Json<ChatCompletionRequest>,
) -> ApiResult<Response> {
    let task = task_request(&request)?;
    let accepted = app.hub.create(task, None).await?;
    let feed = app.hub.feed(accepted.id).await?;
    let watcher = Watcher::new(Arc::clone(&app.hub), feed.follow(None));
    let created = app.hub.now();
    let guard = Abandonment { app, task: accepted.id, answered: false };
    let completion = Completion::new(&request, accepted.id, created, watcher, guard);
    if request.stream {
        return Ok(event_stream(stream::unfold(Some(completion), |completion| async move {
            let mut completion = completion?;
            let event = completion.next_event().await?;
            Some((event, Some(completion)))
        })));
    }
    Ok(Json(completion.whole().await?).into_response())
}

/// A client that goes away before its answer came has no use for it.
struct Abandonment {
    app: App,
    task: TaskId,
    answered: bool,
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (hub, task) = (Arc::clone(&self.app.hub), self.task);
        let reason = "the caller went away".to_owned();
        tokio::spawn(async move {
            // A task that has ended meanwhile needs no cancelling.
            let _ = hub.command(task, |reply| Command::Cancel { reason, reply }).await;
        });
    }
}

struct Completion {
    id: String,
    created: i64,
    model: String,
    watcher: Watcher,
    guard: Abandonment,
    usage: OpenAiUsage,
    limit: Option<u32>,
    wants_usage: bool,
    answer: Option<String>,
    sent_role: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    Finished,
    UsageSent,
    Done,
}

/// What a completion reads from the task's events.
enum Heard {
    Text(String),
    Answered,
    Failed(Box<Problem>),
}

impl Completion {
    fn new(
        request: &ChatCompletionRequest,
        task: TaskId,
        created: Timestamp,
        watcher: Watcher,
        guard: Abandonment,
    ) -> Self {
        let wants_usage = request.stream_options.as_ref().and_then(|options| options.get("include_usage"));
        Self {
            id: format!("chatcmpl-{task}"),
            created: created.as_second(),
            model: request.model.clone(),
            watcher,
            guard,
            usage: OpenAiUsage::default(),
            limit: request.max_completion_tokens.or(request.max_tokens),
            wants_usage: wants_usage.and_then(Value::as_bool).unwrap_or(false),
            answer: None,
            sent_role: false,
            stage: Stage::Writing,
        }
    }

    async fn hear(&mut self) -> Heard {
        loop {
            match self.watcher.follower.next().await {
                Some(News::Delta(delta)) => return Heard::Text(delta.text),
                Some(News::Record(record)) => {
                    if let Some(heard) = self.read(&record.event) {
                        return heard;
                    }
                }
                Some(News::End(_)) | None => {
                    let detail = "The task ended without an answer.";
                    return Heard::Failed(Box::new(Problem::new(ErrorCode::Internal, detail)));
                }
            }
        }
    }

    fn read(&mut self, event: &TaskEvent) -> Option<Heard> {
        match event {
            TaskEvent::StepStarted { step, model: Some(model), .. } if step.as_str() == "answer" => {
                self.model.clone_from(model);
                None
            }
            TaskEvent::StepSucceeded { step, output, tokens_in, tokens_out, .. } => {
                let (read, written) = (tokens_in.unwrap_or(0), tokens_out.unwrap_or(0));
                self.usage.prompt_tokens += read;
                self.usage.completion_tokens += written;
                self.usage.total_tokens += read + written;
                if step.as_str() != "answer" {
                    return None;
                }
                self.answer = output.as_str().map(str::to_owned);
                // What is left (remembering) needs nobody to wait.
                self.guard.answered = true;
                Some(Heard::Answered)
            }
            TaskEvent::TaskCompleted { error, .. } => {
                self.guard.answered = true;
                let problem = match error {
                    Some(error) => {
                        let problem = Problem::new(error.code, error.detail.clone());
                        match &error.next_step {
                            Some(next) => problem.next(next.clone()),
                            None => problem,
                        }
                    }
                    None => Problem::new(ErrorCode::Internal, "The task ended without an answer."),
                };
                Some(Heard::Failed(Box::new(problem)))
            }
            _ => None,
        }
    }

    fn finish_reason(&self) -> String {
        let cut = self.limit.is_some_and(|limit| self.usage.completion_tokens >= limit);
        if cut { "length" } else { "stop" }.to_owned()
    }

    async fn whole(mut self) -> Result<ChatCompletion, Problem> {
        loop {
            match self.hear().await {
                Heard::Text(_) => {}
                Heard::Failed(problem) => return Err(*problem),
                Heard::Answered => {
                    let content = Value::String(self.answer.take().unwrap_or_default());
                    let message = OpenAiMessage { role: "assistant".to_owned(), content };
                    let finish_reason = self.finish_reason();
                    return Ok(ChatCompletion {
                        id: self.id.clone(),
                        object: "chat.completion".to_owned(),
                        created: self.created,
                        model: self.model.clone(),
                        choices: vec![Choice { index: 0, message, finish_reason }],
                        usage: self.usage.clone(),
                    });
                }
            }
        }
    }

    async fn next_event(&mut self) -> Option<Event> {
        match self.stage {
            Stage::Writing => Some(match self.hear().await {
                Heard::Text(text) => {
                    let role = (!self.sent_role).then(|| "assistant".to_owned());
                    self.sent_role = true;
                    self.chunk(ChunkDelta { role, content: Some(text) }, None)
                }
                Heard::Answered => {
                    self.stage = Stage::Finished;
                    let reason = self.finish_reason();
                    self.chunk(ChunkDelta::default(), Some(reason))
                }
                Heard::Failed(problem) => {
                    self.stage = Stage::UsageSent;
                    let error = json!({"error": {
                        "message": problem.to_string(),
                        "type": problem.code.as_str(),
                        "code": problem.code.as_str(),
                    }});
                    Event::default().data(error.to_string())
                }
            }),
            Stage::Finished if self.wants_usage => {
                self.stage = Stage::UsageSent;
                let mut chunk = self.empty_chunk();
                chunk.usage = Some(self.usage.clone());
                Some(data(&chunk))
            }
            Stage::Finished | Stage::UsageSent => {
                self.stage = Stage::Done;
                Some(Event::default().data("[DONE]"))
            }
            Stage::Done => None,
        }
    }

    fn empty_chunk(&self) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
        }
    }

    fn chunk(&self, delta: ChunkDelta, finish_reason: Option<String>) -> Event {
        let mut chunk = self.empty_chunk();
        chunk.choices = vec![ChunkChoice { index: 0, delta, finish_reason }];
        data(&chunk)
    }
}

fn data(chunk: &ChatCompletionChunk) -> Event {
    Event::default().data(serde_json::to_string(chunk).unwrap_or_default())
}

fn task_request(request: &ChatCompletionRequest) -> Result<TaskRequest, Problem> {
    let invalid = |detail: &str| Problem::new(ErrorCode::ValidationFailed, detail);
    let mut history = request.messages.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let last = history.pop().filter(|last| last.role == Speaker::User);
    let last = last.ok_or_else(|| invalid("The last message is not the user's."))?;
    let model = (request.model != ANY_MODEL).then(|| request.model.clone());
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        max_tokens: request.max_completion_tokens.or(request.max_tokens),
        stop: stops(request.stop.as_ref())?,
    };
    Ok(TaskRequest {
        input: last.content,
        history,
        direct: model.is_some(),
        model,
        sampling: (sampling != Sampling::default()).then_some(sampling),
        answer_schema: answer_schema(request.response_format.as_ref())?,
        ..TaskRequest::default()
    })
}

fn message(message: &OpenAiMessage) -> Result<ChatMessage, Problem> {
    let role = match message.role.as_str() {
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        "tool" => Speaker::Tool,
        other => {
            let detail = format!("`{other}` is not the role of a message.");
            return Err(Problem::new(ErrorCode::ValidationFailed, detail));
        }
    };
    let content = match &message.content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> =
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    };
    Ok(ChatMessage::new(role, content))
}

fn stops(stop: Option<&Value>) -> Result<Vec<String>, Problem> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let stops = match stop {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(stops)) => stops.iter().map(text).collect(),
        Some(stop) => text(stop).map(|stop| vec![stop]),
    };
    stops.ok_or_else(|| Problem::new(ErrorCode::ValidationFailed, "`stop` is a string or a list of strings."))
}

fn answer_schema(format: Option<&Value>) -> Result<Option<Value>, Problem> {
    let kind = format.and_then(|format| format.get("type")).and_then(Value::as_str);
    match kind {
        None | Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "object"}))),
        Some("json_schema") => {
            let schema = format.and_then(|format| format.pointer("/json_schema/schema"));
            let missing = || {
                Problem::new(ErrorCode::ValidationFailed, "`response_format` has no `json_schema.schema`.")
            };
            schema.cloned().map(Some).ok_or_else(missing)
        }
        Some(other) => Err(Problem::new(
            ErrorCode::ValidationFailed,
            format!("`response_format` has the unknown type `{other}`."),
        )),
    }
}
