//! Starting the LLM node.

use std::sync::Arc;

use kamil_models::ModelsDir;
use kamil_node::{Listener, Metrics, NodeOptions, RunningNode, Service, orchestrator_only};
use kamil_protocol::node::Role;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    choice::{Choice, Place, choose, installed_embedder},
    desk::Desk,
    embeddings::Embeddings,
    endpoints::{openapi, router},
    engine::{
        Engine,
        llama::{LlamaEngine, LlamaSetup},
        openai::OpenAiEngine,
    },
    error::StartError,
    residence::Residence,
};

const MAX_SLOTS: u32 = 64;
const MAX_QUEUE: u32 = 1_024;
const LEAST_CONTEXT_TOKENS: u32 = 256;

/// What an LLM node runs, and how much of it at once.
#[derive(Clone, Debug)]
pub struct LlmOptions {
    /// A name of the catalogue, a `.gguf` file, or a model of a local Ollama. Without one: the largest of the catalogue that is installed and
    /// fits into the free memory; with an engine URL, the first model there.
    pub model: Option<String>,
    /// What it is good at; empty: what the catalogue says, else `general`.
    pub specializations: Vec<String>,
    /// Tokens that one request may use, 256 or more; default: what the catalogue says, else 8192.
    pub context_tokens: Option<u32>,
    /// Requests that run at once, 1–64; default 2.
    pub slots: u32,
    /// Requests that may wait, up to 1024; default 8.
    pub queue: u32,
    /// An OpenAI-compatible server that runs the model. `/v1` is added where the address has no path.
    pub engine_url: Option<String>,
    /// Its key.
    pub engine_key: Option<String>,
    /// Where to look for a local Ollama; default `http://127.0.0.1:11434`.
    pub ollama_url: String,
}

impl Default for LlmOptions {
    fn default() -> Self {
        Self {
            model: None,
            specializations: Vec::new(),
            context_tokens: None,
            slots: 2,
            queue: 8,
            engine_url: None,
            engine_key: None,
            ollama_url: "http://127.0.0.1:11434".to_owned(),
        }
    }
}

/// Starts an LLM node. It serves and registers at once, and loads its model meanwhile: until then the model is offered as not
/// resident, and requests wait for it. A model that cannot be loaded is not offered any more, and requests get `model_unusable`.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    node: NodeOptions,
    options: LlmOptions,
    shutdown: CancellationToken,
) -> Result<RunningNode, StartError> {
    check(&options)?;
    let listener = Listener::bind(&node, Role::Llm).await?;
    let models = ModelsDir::new(node.home.models());
    let Choice { offer, place } = choose(&models, &options, listener.hardware().ram_available_bytes).await?;
    tracing::info!(model = offer.name, engine = offer.engine, ?place, "the model of this node");
    let context_tokens = offer.context_tokens;
    let (residence, file) = match place {
        Place::Here(path) => (Residence::loading(), Some(path)),
        Place::Server(url) => {
            let engine = OpenAiEngine::new(&url, options.engine_key.as_deref(), offer.name.clone());
            (Residence::ready(Arc::new(engine.map_err(|source| StartError::Engine { source })?)), None)
        }
    };
    let metrics = Metrics::new();
    let embeddings = installed_embedder(&models).map(|(entry, path)| Embeddings::new(entry, path));
    let admission = Admission::new(options.slots, options.queue);
    let desk = Arc::new(Desk::new(offer, options.slots, residence, admission.clone(), embeddings, &metrics));
    match file {
        Some(path) => {
            let setup = LlamaSetup {
                path,
                context_tokens: Some(context_tokens),
                slots: options.slots,
                queue: options.queue,
            };
            load_in_background(&desk, setup);
        }
        None => desk.refresh(None),
    }
    let service = Service {
        role: Role::Llm,
        router: orchestrator_only(router(Arc::clone(&desk)), listener.token()),
        openapi: openapi(),
        capabilities: desk.capabilities(),
        load: Arc::new(move || admission.load()),
        metrics,
    };
    Ok(listener.start(service, shutdown))
}

fn check(options: &LlmOptions) -> Result<(), StartError> {
    let within = |holds: bool, broken: String| if holds { Ok(()) } else { Err(StartError::Option(broken)) };
    within(
        (1..=MAX_SLOTS).contains(&options.slots),
        format!("{} slots were asked for; 1 to {MAX_SLOTS} are possible", options.slots),
    )?;
    within(
        options.queue <= MAX_QUEUE,
        format!("A queue of {} was asked for; up to {MAX_QUEUE} is possible", options.queue),
    )?;
    let context = options.context_tokens.unwrap_or(LEAST_CONTEXT_TOKENS);
    within(
        context >= LEAST_CONTEXT_TOKENS,
        format!("A context of {context} tokens was asked for; at least {LEAST_CONTEXT_TOKENS} are needed"),
    )
}

/// The runtime waits for it when the process ends: a library that is unloaded while it still loads a model may crash.
fn load_in_background(desk: &Arc<Desk>, setup: LlamaSetup) {
    let loading = Arc::clone(desk);
    let load = move || {
        let begun = std::time::Instant::now();
        let loaded = LlamaEngine::load(&setup);
        let context_tokens = loaded.as_ref().ok().map(LlamaEngine::context_tokens);
        match &loaded {
            Ok(_) => tracing::info!(
                model = loading.model_name(),
                took_ms = begun.elapsed().as_millis(),
                "the model is loaded"
            ),
            Err(problem) => {
                tracing::error!(model = loading.model_name(), %problem, "the model cannot be loaded")
            }
        }
        loading.residence.settle(loaded.map(|engine| Arc::new(engine) as Arc<dyn Engine>));
        loading.refresh(context_tokens);
    };
    drop(tokio::task::spawn_blocking(load));
}
