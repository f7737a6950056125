//! Sentence embeddings: a loaded embedding model behind one thread.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use kamil_models::gguf::GgufHeader;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::oneshot;

use crate::backend::backend;
use crate::error::InferenceError;
use crate::threads::physical_cores;

/// Texts in one batch.
const BATCH_TEXTS: usize = 16;

/// How an embedding model is loaded and run.
#[derive(Debug, Clone)]
pub struct EmbedderOptions {
    /// The GGUF file.
    pub model_path: PathBuf,
    /// Longer texts are cut to this many tokens. Default 256, what MiniLM was trained for.
    pub max_tokens: u32,
    /// Threads. Default: the physical cores.
    pub threads: u32,
    /// Calls that may wait, at least 1. Default 64.
    pub queue_limit: usize,
}

impl EmbedderOptions {
    /// The defaults for the model at `model_path`.
    pub fn new(model_path: impl Into<PathBuf>) -> Self {
        Self { model_path: model_path.into(), max_tokens: 256, threads: physical_cores(), queue_limit: 64 }
    }
}

type Vectors = Result<Vec<Vec<f32>>, InferenceError>;

struct Call {
    texts: Vec<Vec<LlamaToken>>,
    reply: oneshot::Sender<Vectors>,
}

/// A loaded embedding model; clones share it. Its thread ends with the last clone.
#[derive(Clone)]
pub struct Embedder {
    calls: SyncSender<Call>,
    model: Arc<LlamaModel>,
    dims: usize,
    max_tokens: usize,
    queue_limit: usize,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedder").field("dims", &self.dims).finish_non_exhaustive()
    }
}

impl Embedder {
    /// Loads the model at `path` with the default options.
    ///
    /// # Errors
    /// As [`Self::load_with`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, InferenceError> {
        Self::load_with(&EmbedderOptions::new(path.as_ref()))
    }

    /// Loads a model and starts its thread. Blocks for as long as that takes (tens of milliseconds for MiniLM).
    ///
    /// # Errors
    /// [`InferenceError::Model`] for a missing or damaged file, [`InferenceError::Options`] for a model that is not an
    /// embedding model, [`InferenceError::Load`] if llama.cpp refuses it.
    pub fn load_with(options: &EmbedderOptions) -> Result<Self, InferenceError> {
        let header = GgufHeader::open(&options.model_path)?;
        if !header.is_embedding_model() {
            return Err(refused(format!("{} is not an embedding model", options.model_path.display())));
        }
        let model = Arc::new(load_model(&options.model_path)?);
        let max_tokens = options.max_tokens.min(model.n_ctx_train()).max(2);
        let dims = usize::try_from(model.n_embd_out()).unwrap_or(0);
        let queue_limit = options.queue_limit.max(1);
        let (calls, receiver) = sync_channel(queue_limit);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let worker = {
            let (model, threads) = (Arc::clone(&model), options.threads);
            move || match Worker::new(&model, threads, max_tokens) {
                Ok(worker) => {
                    let _ = ready.send(Ok(()));
                    worker.run(&receiver);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        thread::Builder::new()
            .name("embedding".into())
            .spawn(worker)
            .map_err(|error| refused(format!("no thread can be started: {error}")))?;
        is_ready.recv().map_err(|_| InferenceError::Stopped)??;
        Ok(Self { calls, model, dims, max_tokens: max_tokens as usize, queue_limit })
    }

    /// Length of each vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// One vector of length 1 (Euclidean) for each text, in order: the mean over its tokens. Their scalar product is
    /// the cosine similarity.
    ///
    /// # Errors
    /// [`InferenceError::Busy`] if too many calls wait, [`InferenceError::Decode`] if llama.cpp fails,
    /// [`InferenceError::Stopped`] if the thread has ended.
    pub async fn embed(&self, texts: impl AsRef<[String]>) -> Vectors {
        self.submit(texts.as_ref())?.await.map_err(|_| InferenceError::Stopped)?
    }

    /// As [`Self::embed`], for threads without a runtime.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn blocking_embed(&self, texts: impl AsRef<[String]>) -> Vectors {
        self.submit(texts.as_ref())?.blocking_recv().map_err(|_| InferenceError::Stopped)?
    }

    fn submit(&self, texts: &[String]) -> Result<oneshot::Receiver<Vectors>, InferenceError> {
        let texts = texts.iter().map(|text| self.tokens(text)).collect();
        let (reply, answer) = oneshot::channel();
        self.calls.try_send(Call { texts, reply }).map_err(|error| match error {
            TrySendError::Full(_) => InferenceError::Busy { queued: self.queue_limit },
            TrySendError::Disconnected(_) => InferenceError::Stopped,
        })?;
        Ok(answer)
    }

    /// Control tokens in the text are text. A text cut short keeps the closing token it was trained with.
    fn tokens(&self, text: &str) -> Vec<LlamaToken> {
        let mut tokens = self.model.vocab().tokenize(text.as_bytes(), true, false);
        if tokens.len() > self.max_tokens {
            let closing = tokens.last().copied();
            tokens.truncate(self.max_tokens - 1);
            tokens.extend(closing);
        }
        tokens
    }
}

struct Worker<'model> {
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    batch_tokens: usize,
}

impl<'model> Worker<'model> {
    fn new(model: &'model LlamaModel, threads: u32, max_tokens: u32) -> Result<Self, InferenceError> {
        // Attention sees both ways, so a text must be in one batch as a whole.
        let batch_tokens = max_tokens.max(512);
        let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(batch_tokens))
            .with_n_batch(batch_tokens)
            .with_n_ubatch(batch_tokens)
            .with_n_seq_max(u32::try_from(BATCH_TEXTS).unwrap_or(1))
            .with_kv_unified(true)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_embeddings(true)
            .with_no_perf(true);
        let context = model
            .new_context(backend()?, params)
            .map_err(|error| refused(format!("no context of {batch_tokens} tokens: {error}")))?;
        let batch_tokens = batch_tokens as usize;
        Ok(Self { context, batch: LlamaBatch::new(batch_tokens, 1), batch_tokens })
    }

    fn run(mut self, calls: &Receiver<Call>) {
        while let Ok(call) = calls.recv() {
            if !call.reply.is_closed() {
                let vectors = self.embed(&call.texts);
                let _ = call.reply.send(vectors);
            }
        }
    }

    fn embed(&mut self, texts: &[Vec<LlamaToken>]) -> Vectors {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take(BATCH_TEXTS).take_while(|text| {
                tokens += text.len();
                tokens <= self.batch_tokens
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            self.embed_batch(now, &mut vectors)?;
            rest = later;
        }
        Ok(vectors)
    }

    fn embed_batch(
        &mut self,
        texts: &[Vec<LlamaToken>],
        vectors: &mut Vec<Vec<f32>>,
    ) -> Result<(), InferenceError> {
        self.batch.clear();
        for (sequence, text) in (0_i32..).zip(texts) {
            for (position, token) in (0_i32..).zip(text) {
                self.batch.add(*token, position, &[sequence], true).map_err(failed)?;
            }
        }
        self.context.encode(&mut self.batch).map_err(failed)?;
        for (sequence, _) in (0_i32..).zip(texts) {
            vectors.push(normalized(self.context.embeddings_seq_ith(sequence).map_err(failed)?));
        }
        Ok(())
    }
}

fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "back to the precision of the model")]
    let scale = if length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
    vector.iter().map(|x| x * scale).collect()
}

fn load_model(path: &Path) -> Result<LlamaModel, InferenceError> {
    LlamaModel::load_from_file(backend()?, path, &LlamaModelParams::default())
        .map_err(|error| InferenceError::Load { path: path.to_path_buf(), reason: error.to_string() })
}

fn refused(reason: String) -> InferenceError {
    InferenceError::Options { reason }
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err, which hands the error over")]
fn failed(error: impl ToString) -> InferenceError {
    InferenceError::Decode { reason: error.to_string() }
}
