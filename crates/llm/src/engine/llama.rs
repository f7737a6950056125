//! llama.cpp in this process.

use std::{path::PathBuf, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use kamil_inference::{EngineOptions, Event, GenerateRequest, Generator, InferenceError, Message};
use kamil_protocol::{
    ErrorCode, Problem,
    reason::{Constraint, Finish, ReasonRequest, Speaker, Usage},
};

use crate::{
    engine::{Engine, Piece, Pieces, Speed},
    request::DEFAULT_MAX_TOKENS,
};

/// With less room than this an answer is not worth beginning.
const LEAST_ROOM_TOKENS: u32 = 16;

/// A model file, and how it is to be run.
#[derive(Clone, Debug)]
pub(crate) struct LlamaSetup {
    pub(crate) path: PathBuf,
    pub(crate) context_tokens: Option<u32>,
    pub(crate) slots: u32,
    pub(crate) queue: u32,
}

/// A loaded model.
#[derive(Clone, Debug)]
pub(crate) struct LlamaEngine {
    generator: Generator,
}

impl LlamaEngine {
    /// Loads the model. Blocks for seconds.
    ///
    /// # Errors
    /// `model_unusable`.
    pub(crate) fn load(setup: &LlamaSetup) -> Result<Self, Problem> {
        let mut options = EngineOptions::new(&setup.path);
        options.parallel_sequences = setup.slots.clamp(1, 64);
        // A slot may come free a moment before the engine has noticed that its last request was dropped.
        options.queue_limit = (setup.slots + setup.queue) as usize;
        options.context_tokens = setup.context_tokens.unwrap_or(options.context_tokens);
        let generator = Generator::load(options).map_err(|error| {
            let detail =
                format!("The model file {} cannot be loaded: {}.", setup.path.display(), chain(&error));
            Problem::new(ErrorCode::ModelUnusable, detail).next(
                "Fetch the model again (`kamil models rm NAME`, `kamil models pull NAME`), or name another.",
            )
        })?;
        Ok(Self { generator })
    }

    pub(crate) fn context_tokens(&self) -> u32 {
        self.generator.info().context_tokens
    }
}

impl Engine for LlamaEngine {
    fn write(&self, request: ReasonRequest, _deadline: Duration) -> BoxFuture<'_, Result<Pieces, Problem>> {
        let generator = self.generator.clone();
        async move {
            // Rendering the template, reading the text as tokens and compiling the constraint take milliseconds of computing.
            let begun = tokio::task::spawn_blocking(move || begin(&generator, request)).await;
            let stream = begun.map_err(|error| {
                Problem::new(
                    ErrorCode::Internal,
                    format!("Preparing a request for llama.cpp failed: {error}."),
                )
            })??;
            let pieces = stream.map(|event| match event {
                Ok(Event::Delta(text)) => Ok(Piece::Text(text)),
                Ok(Event::Done(usage)) => done(usage),
                Err(error) => Err(problem(&error)),
            });
            Ok(pieces.boxed())
        }
        .boxed()
    }

    #[expect(clippy::cast_possible_truncation, reason = "a speed needs no more digits than f32 has")]
    fn speed(&self) -> Speed {
        let info = self.generator.info();
        Speed {
            prefill: info.prefill_tokens_per_s.map(|speed| speed as f32),
            decode: info.decode_tokens_per_s.map(|speed| speed as f32),
        }
    }
}

fn begin(generator: &Generator, request: ReasonRequest) -> Result<kamil_inference::GenerateStream, Problem> {
    let mut wanted = translate(request);
    match generator.generate(&wanted) {
        // `max_tokens` is a bound, and the context is another: the answer may be as long as there is room.
        Err(InferenceError::ContextExceeded { needed, available }) => {
            let prompt = needed.saturating_sub(wanted.max_tokens);
            let room = available.saturating_sub(prompt);
            if room < LEAST_ROOM_TOKENS || room >= wanted.max_tokens {
                return Err(too_long(prompt, available));
            }
            wanted.max_tokens = room;
            generator.generate(&wanted).map_err(|error| problem(&error))
        }
        begun => begun.map_err(|error| problem(&error)),
    }
}

fn translate(request: ReasonRequest) -> GenerateRequest {
    let ReasonRequest {
        model: _,
        messages,
        tools,
        constraint,
        sampling,
        continue_from,
        stream: _,
        deadline_ms: _,
    } = request;
    let messages =
        messages.into_iter().map(|message| Message::new(speaker(message.role), message.content)).collect();
    GenerateRequest {
        messages,
        tools: Some(tools).filter(|tools| !tools.is_empty()),
        constraint: constraint.map(|constraint| match constraint {
            Constraint::JsonSchema { schema } => kamil_inference::Constraint::JsonSchema(schema),
            Constraint::Lark { grammar } => kamil_inference::Constraint::Grammar(grammar),
            Constraint::Regex { pattern } => kamil_inference::Constraint::Regex(pattern),
        }),
        continue_from,
        max_tokens: sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        temperature: sampling.temperature.unwrap_or(0.0),
        top_p: sampling.top_p.unwrap_or(1.0),
        seed: sampling.seed.unwrap_or(0).into(),
        stop: sampling.stop,
    }
}

/// The word for a speaker in chat templates and in OpenAI's interface.
pub(crate) fn speaker(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
        Speaker::Tool => "tool",
    }
}

fn done(usage: kamil_inference::Usage) -> Result<Piece, Problem> {
    let finish = match usage.finish {
        kamil_inference::Finish::Stop => Finish::Stop,
        kamil_inference::Finish::Length => Finish::Length,
        kamil_inference::Finish::Cancelled => {
            return Err(Problem::new(ErrorCode::Cancelled, "The engine was shut down while it was writing."));
        }
    };
    let usage = Usage {
        tokens_in: usage.tokens_in,
        tokens_cached: usage.tokens_cached,
        tokens_out: usage.tokens_out,
        tokens_forced: usage.tokens_forced,
        queue_ms: usage.queue_ms,
        prefill_ms: usage.prefill_ms,
        decode_ms: usage.decode_ms,
    };
    Ok(Piece::Done(finish, usage))
}

fn too_long(prompt: u32, available: u32) -> Problem {
    let detail = format!("The prompt has {prompt} tokens; with the answer, {available} are available.");
    Problem::new(ErrorCode::ContextExceeded, detail)
        .next("Shorten the request, or start the node with a larger --context.")
}

/// What an error of the engine is for a caller.
pub(crate) fn problem(error: &InferenceError) -> Problem {
    let code = match error {
        InferenceError::ContextExceeded { needed, available } => return too_long(*needed, *available),
        InferenceError::Busy { .. } => ErrorCode::Busy,
        InferenceError::Constraint { .. } => ErrorCode::ValidationFailed,
        InferenceError::Template { .. }
        | InferenceError::Model(_)
        | InferenceError::Load { .. }
        | InferenceError::Options { .. } => ErrorCode::ModelUnusable,
        _ => ErrorCode::Internal,
    };
    let problem = Problem::new(code, format!("{}.", sentence(&chain(error))));
    if code == ErrorCode::Busy { problem.retry_after_ms(1_000) } else { problem }
}

/// The error and its causes: an error's text does not repeat its source's.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.trim_end_matches('.').to_owned()
}

/// With a capital at the beginning.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
