//! The handle to a loaded generating model.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kamil_models::gguf::GgufHeader;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::backend::backend;
use crate::constraint::Constraints;
use crate::engine::{Command, Engine, Limits};
use crate::error::InferenceError;
use crate::job::Prepared;
use crate::request::GenerateRequest;
use crate::sampling::Sampler;
use crate::stats::Stats;
use crate::stream::GenerateStream;
use crate::template::ChatTemplate;
use crate::threads::{physical_cores, waits_passively};

/// How a model is loaded and run.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The GGUF file.
    pub model_path: PathBuf,
    /// Tokens one request may use, prompt and output together. Default 8192; the model's own limit if that is lower.
    pub context_tokens: u32,
    /// Requests that run at the same time, 1 to 64. Default 4.
    pub parallel_sequences: u32,
    /// Tokens that all sequences together keep, active or warm. Default twice `context_tokens`.
    pub cache_tokens: Option<u32>,
    /// Threads. Default: the physical cores.
    pub threads: u32,
    /// Requests that may wait beside the running ones, at least 1. Default 16.
    pub queue_limit: usize,
    /// Tokens decoded in one batch. Larger is faster for long prompts; a cancellation waits for the batch. Default 256.
    pub batch_tokens: u32,
    /// Prompt tokens per batch while other requests are producing output. Default 64.
    pub shared_prefill_tokens: u32,
    /// Layers to put on a GPU, if this build has one. Default: all.
    pub gpu_layers: u32,
}

impl EngineOptions {
    /// The defaults for the model at `model_path`.
    pub fn new(model_path: impl Into<PathBuf>) -> Self {
        Self {
            model_path: model_path.into(),
            context_tokens: 8192,
            parallel_sequences: 4,
            cache_tokens: None,
            threads: physical_cores(),
            queue_limit: 16,
            batch_tokens: 256,
            shared_prefill_tokens: 64,
            gpu_layers: 999,
        }
    }
}

/// What a loaded model is, and what has been measured of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInfo {
    /// The name in the file, else the file's name.
    pub name: String,
    /// Number of parameters.
    pub n_params: u64,
    /// Tokens one request may use.
    pub context_tokens: u32,
    /// Size of the weights.
    pub bytes: u64,
    /// Requests that run at the same time.
    pub parallel_sequences: u32,
    /// Requests running now.
    pub active: usize,
    /// Requests waiting now.
    pub queued: usize,
    /// Prompt tokens per second so far.
    pub prefill_tokens_per_s: Option<f64>,
    /// Output tokens per second so far, over all sequences.
    pub decode_tokens_per_s: Option<f64>,
}

/// A loaded generating model; clones share it. The engine ends when the last clone and the last stream are gone.
#[derive(Clone)]
pub struct Generator {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
}

struct Shared {
    model: Arc<LlamaModel>,
    name: String,
    template: Option<ChatTemplate>,
    constraints: Constraints,
    stats: Arc<Stats>,
    context_tokens: u32,
    parallel_sequences: u32,
    adds_bos: bool,
    bos_text: String,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Generator").field("model", &self.shared.name).finish_non_exhaustive()
    }
}

impl Generator {
    /// Loads a model and starts its thread. Blocks for as long as that takes (a second, or a few from a cold disk).
    ///
    /// # Errors
    /// [`InferenceError::Model`] for a missing, damaged or embedding model file, [`InferenceError::Load`] if llama.cpp
    /// refuses it, [`InferenceError::Options`] for impossible options.
    pub fn load(options: EngineOptions) -> Result<Self, InferenceError> {
        let header = GgufHeader::open(&options.model_path)?;
        if header.is_embedding_model() {
            return Err(refused(format!("{} is an embedding model", options.model_path.display())));
        }
        if options.threads > 1 && !waits_passively() {
            tracing::warn!(
                "OMP_WAIT_POLICY is not passive: beside other busy processes the model will be slow"
            );
        }
        let name = model_name(&header, &options);
        let model = Arc::new(load_model(&options)?);
        let context_tokens = options.context_tokens.min(model.n_ctx_train()).max(64);
        let limits = limits(&options, context_tokens)?;
        let constraints = Constraints::new(&model)?;
        let (template, bos_text) = chat_template(&model, &header, &name)?;
        let stats = Arc::new(Stats::default());
        let (commands, receiver) = sync_channel(options.queue_limit.max(1));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let parallel_sequences = options.parallel_sequences;
        let thread = {
            let (model, stats) = (Arc::clone(&model), Arc::clone(&stats));
            thread::Builder::new()
                .name("inference".into())
                .spawn(move || {
                    let context = match new_context(&model, &options, limits) {
                        Ok(context) => context,
                        Err(error) => {
                            let _ = ready.send(Err(error));
                            return;
                        }
                    };
                    let _ = ready.send(Ok(()));
                    let sequences = options.parallel_sequences as usize;
                    Engine::new(&model, context, sequences, limits, stats).run(&receiver);
                })
                .map_err(|error| refused(format!("no thread can be started: {error}")))?
        };
        is_ready.recv().map_err(|_| InferenceError::Stopped)??;
        let shared = Shared {
            adds_bos: model.vocab().should_add_bos(),
            model,
            name,
            template,
            constraints,
            stats,
            context_tokens,
            parallel_sequences,
            bos_text,
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { shared: Arc::new(shared), commands })
    }

    /// What the model is and what has been measured.
    pub fn info(&self) -> ModelInfo {
        let shared = &self.shared;
        ModelInfo {
            name: shared.name.clone(),
            n_params: shared.model.n_params(),
            context_tokens: shared.context_tokens,
            bytes: shared.model.size(),
            parallel_sequences: shared.parallel_sequences,
            active: shared.stats.active(),
            queued: shared.stats.queued(),
            prefill_tokens_per_s: shared.stats.prefill_tokens_per_s(),
            decode_tokens_per_s: shared.stats.decode_tokens_per_s(),
        }
    }

    /// Number of tokens of `text` as part of a prompt.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.shared.model.vocab().tokenize(text.as_bytes(), false, true).len()
    }

    /// Submits a request. Renders, tokenizes and compiles on the calling thread (milliseconds), then returns at once;
    /// the stream yields what the engine produces. Dropping the stream cancels between tokens.
    ///
    /// # Errors
    /// [`InferenceError::Busy`] if the queue is full, [`InferenceError::ContextExceeded`] if prompt and `max_tokens` do
    /// not fit, [`InferenceError::Template`], [`InferenceError::Constraint`] if these cannot be used,
    /// [`InferenceError::Stopped`] after a shutdown.
    pub fn generate(&self, request: &GenerateRequest) -> Result<GenerateStream, InferenceError> {
        let mut prompt = self.shared.prompt(request)?;
        let produced = match request.continue_from.as_deref() {
            Some(text) => self.shared.model.vocab().tokenize(text.as_bytes(), false, false),
            None => Vec::new(),
        };
        prompt.extend_from_slice(&produced);
        let needed = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(request.max_tokens);
        let available = self.shared.context_tokens;
        if needed > available || request.max_tokens == 0 {
            return Err(InferenceError::ContextExceeded { needed: needed.max(1), available });
        }
        let mut constraint =
            request.constraint.as_ref().map(|wanted| self.shared.constraints.compile(wanted)).transpose()?;
        if let Some(constraint) = &mut constraint {
            constraint.advance(&produced)?;
        }
        // Every event carries at least one token, but for the rest of the text, the end, and an error.
        let (sink, events) = mpsc::channel(request.max_tokens as usize + 3);
        let prepared = Prepared {
            prompt,
            constraint,
            sampler: Sampler::new(request.temperature, request.top_p, request.seed),
            stops: request.stop.clone(),
            max_tokens: request.max_tokens,
            sink,
            submitted: Instant::now(),
        };
        self.shared.stats.entered_queue();
        self.commands.try_send(Command::Generate(Box::new(prepared))).map_err(|error| {
            self.shared.stats.left_queue();
            match error {
                TrySendError::Full(_) => InferenceError::Busy { queued: self.shared.stats.queued() },
                TrySendError::Disconnected(_) => InferenceError::Stopped,
            }
        })?;
        Ok(GenerateStream::new(events))
    }

    /// Ends the engine: running requests finish as cancelled, waiting ones end without a word. Blocks until the thread
    /// is gone (one batch at most).
    pub fn shutdown(&self) {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn prompt(&self, request: &GenerateRequest) -> Result<Vec<LlamaToken>, InferenceError> {
        let failed = |reason| InferenceError::Template { model: self.name.clone(), reason };
        let template =
            self.template.as_ref().ok_or_else(|| failed("the model file carries no chat template".into()))?;
        let pieces = template.render(&request.messages, request.tools.as_deref()).map_err(failed)?;
        let mut tokens = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let own_bos = !self.bos_text.is_empty() && piece.starts_with(&self.bos_text);
            let add_bos = index == 0 && self.adds_bos && !own_bos;
            self.model.vocab().tokenize_into(piece.as_bytes(), &mut tokens, add_bos, true);
        }
        Ok(tokens)
    }
}

fn refused(reason: String) -> InferenceError {
    InferenceError::Options { reason }
}

fn model_name(header: &GgufHeader, options: &EngineOptions) -> String {
    let file = || options.model_path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    header.name().map(str::to_owned).or_else(file).unwrap_or_default()
}

fn load_model(options: &EngineOptions) -> Result<LlamaModel, InferenceError> {
    let params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
    LlamaModel::load_from_file(backend()?, &options.model_path, &params)
        .map_err(|error| InferenceError::Load { path: options.model_path.clone(), reason: error.to_string() })
}

fn limits(options: &EngineOptions, context_tokens: u32) -> Result<Limits, InferenceError> {
    if !(1..=64).contains(&options.parallel_sequences) {
        return Err(refused(format!("parallel_sequences is {}, not 1 to 64", options.parallel_sequences)));
    }
    let cache = options.cache_tokens.unwrap_or(context_tokens.saturating_mul(2)).max(context_tokens);
    let batch = options.batch_tokens.clamp(8, 4096);
    Ok(Limits {
        cache_tokens: cache as usize,
        batch_tokens: batch as usize,
        shared_prefill_tokens: options.shared_prefill_tokens.clamp(1, batch) as usize,
    })
}

fn new_context<'model>(
    model: &'model LlamaModel,
    options: &EngineOptions,
    limits: Limits,
) -> Result<llama_cpp_2::context::LlamaContext<'model>, InferenceError> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let threads = i32::try_from(options.threads.max(1)).unwrap_or(i32::MAX);
    let backend = backend()?;
    let params = LlamaContextParams::default()
        .with_n_ctx(std::num::NonZeroU32::new(number(limits.cache_tokens)))
        .with_n_batch(number(limits.batch_tokens))
        .with_n_ubatch(number(limits.batch_tokens))
        .with_n_seq_max(options.parallel_sequences)
        .with_kv_unified(true)
        .with_flash_attention_policy(flash_attention(backend))
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true);
    model
        .new_context(backend, params)
        .map_err(|error| refused(format!("no context of {} tokens: {error}", limits.cache_tokens)))
}

/// On a CPU, llama.cpp's flash attention adds up in 16 bits, and what a request answers comes to depend on which others
/// share its batches. Without it outputs repeat, for 6 % of the prefill rate at 1,000 tokens.
fn flash_attention(backend: &LlamaBackend) -> i32 {
    const AUTOMATIC: i32 = -1;
    const DISABLED: i32 = 0;
    if backend.supports_gpu_offload() { AUTOMATIC } else { DISABLED }
}

fn chat_template(
    model: &LlamaModel,
    header: &GgufHeader,
    name: &str,
) -> Result<(Option<ChatTemplate>, String), InferenceError> {
    let vocab = model.vocab();
    let piece = |token: LlamaToken| {
        if token.0 < 0 {
            String::new()
        } else {
            String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
        }
    };
    let bos = piece(vocab.bos());
    let Some(source) = header.chat_template() else { return Ok((None, bos)) };
    let control =
        vocab.tokens().filter(|token| vocab.is_control(*token)).map(piece).filter(|text| !text.is_empty());
    let template = ChatTemplate::new(source, &bos, &piece(vocab.eos()), control.collect())
        .map_err(|reason| InferenceError::Template { model: name.to_owned(), reason })?;
    Ok((Some(template), bos))
}
