//! What the node offers, and everything that a handler needs.

use std::sync::Arc;

use kamil_node::{Counter, Histogram, Metrics};
use kamil_protocol::{
    ErrorCode, Problem,
    node::{Capabilities, ModelOffer},
    reason::{ReasonRequest, Usage},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    admission::{Admission, Ticket},
    embeddings::Embeddings,
    engine::Speed,
    residence::Residence,
    writing::{Writing, late, ms},
};

/// A speed that has changed by less than this share is not worth telling the orchestrator.
const WORTH_TELLING: f32 = 0.1;

/// The state behind the endpoints.
pub(crate) struct Desk {
    pub(crate) residence: Residence,
    pub(crate) admission: Admission,
    pub(crate) embeddings: Option<Embeddings>,
    model: String,
    offers: watch::Sender<Capabilities>,
    counts: Counts,
}

struct Counts {
    metrics: Arc<Metrics>,
    tokens_in: Counter,
    tokens_cached: Counter,
    tokens_out: Counter,
    tokens_forced: Counter,
    prefill: Histogram,
    decode: Histogram,
}

impl Desk {
    /// A desk that offers this model, and embeddings if there are any.
    pub(crate) fn new(
        model: ModelOffer,
        slots: u32,
        residence: Residence,
        admission: Admission,
        embeddings: Option<Embeddings>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let name = model.name.clone();
        let mut models = vec![model];
        models.extend(embeddings.as_ref().map(Embeddings::offer));
        let offers = watch::Sender::new(Capabilities { models, slots, ..Capabilities::default() });
        let counts = Counts {
            metrics: Arc::clone(metrics),
            tokens_in: metrics.counter("kamil_llm_tokens_in_total", "Tokens of prompts."),
            tokens_cached: metrics
                .counter("kamil_llm_tokens_cached_total", "Tokens of prompts that were in the cache."),
            tokens_out: metrics.counter("kamil_llm_tokens_out_total", "Tokens written."),
            tokens_forced: metrics
                .counter("kamil_llm_tokens_forced_total", "Tokens that a constraint forced."),
            prefill: metrics.histogram("kamil_llm_prefill_ms", "Time to read a prompt."),
            decode: metrics.histogram("kamil_llm_decode_ms", "Time to write an answer."),
        };
        Self { residence, admission, embeddings, model: name, offers, counts }
    }

    /// The model that writes.
    pub(crate) fn model_name(&self) -> &str {
        &self.model
    }

    /// What the node offers, now and whenever it changes.
    pub(crate) fn capabilities(&self) -> watch::Receiver<Capabilities> {
        self.offers.subscribe()
    }

    /// The models it has.
    pub(crate) fn models(&self) -> Vec<ModelOffer> {
        self.offers.borrow().models.clone()
    }

    /// Refuses a model that the node does not have.
    ///
    /// # Errors
    /// `model_unknown`, naming those that it has.
    pub(crate) fn check_model(&self, wanted: Option<&str>) -> Result<(), Problem> {
        match wanted {
            Some(wanted) if wanted != self.model => Err(self.unknown(wanted)),
            _ => Ok(()),
        }
    }

    /// The refusal of a model.
    pub(crate) fn unknown(&self, wanted: &str) -> Problem {
        let wanted: String = wanted.chars().take(100).collect();
        let mut has = vec![format!("`{}` for text", self.model)];
        has.extend(
            self.embeddings.as_ref().map(|embeddings| format!("`{}` for embeddings", embeddings.name())),
        );
        let detail = format!("This node has no model `{wanted}`; it has {}.", has.join(" and "));
        Problem::new(ErrorCode::ModelUnknown, detail)
            .next("GET /v1/models lists them; `kamil models list` those that could be had.")
    }

    /// Waits for a slot and the model, and begins to write.
    ///
    /// # Errors
    /// `deadline_exceeded`, why the model is not there, and what the engine refuses.
    pub(crate) async fn begin(
        self: Arc<Self>,
        request: ReasonRequest,
        mut ticket: Ticket,
        deadline: Instant,
    ) -> Result<Writing, Problem> {
        let came = Instant::now();
        let begun = async {
            ticket.slot().await;
            let engine = self.residence.engine().await?;
            let waited = came.elapsed();
            let pieces = engine.write(request, deadline.saturating_duration_since(Instant::now())).await?;
            Ok((pieces, waited))
        };
        let begun =
            timeout_at(deadline, begun).await.unwrap_or_else(|_| Err(late("The answer was not begun")));
        match begun {
            Ok((pieces, waited)) => Ok(Writing::new(pieces, Arc::clone(&self), ticket, waited, deadline)),
            Err(problem) => {
                self.wrote(Err(&problem), ms(came.elapsed()));
                Err(problem)
            }
        }
    }

    /// An answer has ended.
    pub(crate) fn wrote(&self, outcome: Result<&Usage, &Problem>, took_ms: u64) {
        let word = outcome.err().map_or("ok", |problem| problem.code.as_str());
        self.counts
            .metrics
            .counter_with("kamil_llm_answers_total", "Answers, by how they ended.", &[("outcome", word)])
            .inc();
        match outcome {
            Ok(usage) => {
                self.admission.took_ms(took_ms);
                self.counts.add(usage);
                tracing::info!(
                    model = self.model,
                    tokens_in = usage.tokens_in,
                    tokens_cached = usage.tokens_cached,
                    tokens_out = usage.tokens_out,
                    queue_ms = usage.queue_ms,
                    prefill_ms = usage.prefill_ms,
                    decode_ms = usage.decode_ms,
                    "wrote an answer"
                );
                self.refresh(None);
            }
            Err(problem) => tracing::warn!(model = self.model, %problem, "an answer failed"),
        }
    }

    /// Brings the offer up to date: whether the model is loaded, its context, its speed.
    pub(crate) fn refresh(&self, context_tokens: Option<u32>) {
        let engine = self.residence.loaded();
        let speed = engine.as_ref().map(|engine| engine.speed()).unwrap_or_default();
        let failed = self.residence.has_failed();
        self.offers.send_if_modified(|offers| {
            let before = offers.models.len();
            // What cannot be loaded is not offered.
            offers.models.retain(|offer| !(failed && offer.generates));
            let mut changed = offers.models.len() != before;
            for offer in offers.models.iter_mut().filter(|offer| offer.generates) {
                changed |= offer.resident != engine.is_some();
                offer.resident = engine.is_some();
                if let Some(tokens) = context_tokens {
                    changed |= offer.context_tokens != tokens;
                    offer.context_tokens = tokens;
                }
                changed |= follow(offer, speed);
            }
            changed
        });
    }
}

fn follow(offer: &mut ModelOffer, speed: Speed) -> bool {
    let worth_telling = |old: Option<f32>, new: Option<f32>| match (old, new) {
        (Some(old), Some(new)) => (new - old).abs() > old * WORTH_TELLING,
        (None, Some(_)) => true,
        _ => false,
    };
    let changed = worth_telling(offer.prefill_tokens_per_s, speed.prefill)
        || worth_telling(offer.decode_tokens_per_s, speed.decode);
    if changed {
        offer.prefill_tokens_per_s = speed.prefill.or(offer.prefill_tokens_per_s);
        offer.decode_tokens_per_s = speed.decode.or(offer.decode_tokens_per_s);
    }
    changed
}

impl Counts {
    fn add(&self, usage: &Usage) {
        self.tokens_in.add(usage.tokens_in.into());
        self.tokens_cached.add(usage.tokens_cached.into());
        self.tokens_out.add(usage.tokens_out.into());
        self.tokens_forced.add(usage.tokens_forced.into());
        self.prefill.observe(std::time::Duration::from_millis(usage.prefill_ms));
        self.decode.observe(std::time::Duration::from_millis(usage.decode_ms));
    }
}
