//! One generation under way: what is still to be fed, what has come out, when it ends.

use std::time::{Duration, Instant};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::mpsc;

use crate::constraint::TokenConstraint;
use crate::error::InferenceError;
use crate::request::{Event, Finish, Usage};
use crate::sampling::Sampler;
use crate::text::TextAssembler;

/// Where a job's events go. Its capacity covers every event the job can send, so sending never waits.
pub(crate) type Sink = mpsc::Sender<Result<Event, InferenceError>>;

/// A request that has been parsed, tokenized and checked, waiting for a sequence.
pub(crate) struct Prepared {
    pub(crate) prompt: Vec<LlamaToken>,
    pub(crate) constraint: Option<TokenConstraint>,
    pub(crate) sampler: Sampler,
    pub(crate) stops: Vec<String>,
    pub(crate) max_tokens: u32,
    pub(crate) sink: Sink,
    pub(crate) submitted: Instant,
}

impl Prepared {
    /// Most tokens the job can come to keep in the cache.
    pub(crate) fn course_tokens(&self) -> usize {
        self.prompt.len() + self.max_tokens as usize
    }
}

/// A request that has a sequence.
pub(crate) struct Job {
    constraint: Option<TokenConstraint>,
    sampler: Sampler,
    text: TextAssembler,
    max_tokens: u32,
    sink: Sink,
    /// Tokens not yet in the cache.
    pending: Vec<LlamaToken>,
    fed: usize,
    tokens_in: u32,
    tokens_cached: u32,
    tokens_out: u32,
    tokens_forced: u32,
    queued: Duration,
    started: Instant,
    first_token: Option<Instant>,
}

impl Job {
    /// Starts `prepared`, of whose prompt `cached` tokens are in the cache already.
    pub(crate) fn start(prepared: Prepared, cached: usize) -> Self {
        let started = Instant::now();
        let mut prompt = prepared.prompt;
        let tokens_in = count(prompt.len());
        prompt.drain(..cached.min(prompt.len()));
        Self {
            constraint: prepared.constraint,
            sampler: prepared.sampler,
            text: TextAssembler::new(&prepared.stops),
            max_tokens: prepared.max_tokens,
            sink: prepared.sink,
            tokens_in,
            tokens_cached: count(cached),
            pending: prompt,
            fed: 0,
            tokens_out: 0,
            tokens_forced: 0,
            queued: started.duration_since(prepared.submitted),
            started,
            first_token: None,
        }
    }

    /// Most tokens the job can still add to the cache.
    pub(crate) fn outstanding_tokens(&self) -> usize {
        self.unfed().len() + self.max_tokens.saturating_sub(self.tokens_out) as usize
    }

    /// Whether the receiver is gone.
    pub(crate) fn abandoned(&self) -> bool {
        self.sink.is_closed()
    }

    /// Whether the first token is out, so that the job waits for single steps and not for its prompt.
    pub(crate) fn decoding(&self) -> bool {
        self.first_token.is_some()
    }

    /// The tokens that are to be decoded next.
    pub(crate) fn unfed(&self) -> &[LlamaToken] {
        &self.pending[self.fed..]
    }

    /// Notes that `count` more tokens are in the cache; returns them.
    pub(crate) fn take(&mut self, count: usize) -> &[LlamaToken] {
        let from = self.fed;
        self.fed = (from + count).min(self.pending.len());
        &self.pending[from..self.fed]
    }

    /// Tokens forced from the very beginning of the output; they join the prompt's last batch.
    pub(crate) fn force_opening(&mut self, model: &LlamaModel) -> Result<Option<Finish>, InferenceError> {
        self.force(model)
    }

    /// Samples from `logits` and takes what the constraint forces after it.
    pub(crate) fn step(
        &mut self,
        logits: &[f32],
        model: &LlamaModel,
    ) -> Result<Option<Finish>, InferenceError> {
        self.first_token.get_or_insert_with(Instant::now);
        let mask = self.constraint.as_mut().map(TokenConstraint::mask).transpose()?;
        let token = self.sampler.pick(logits, mask.as_ref()).ok_or_else(|| InferenceError::Constraint {
            reason: "no token of the vocabulary can continue the output".into(),
        })?;
        if model.vocab().is_eog(token) {
            return Ok(Some(Finish::Stop));
        }
        self.pending.clear();
        self.fed = 0;
        if let Some(constraint) = &mut self.constraint {
            constraint.advance(&[token])?;
        }
        if let Some(finish) = self.emit(token, model) {
            return Ok(Some(finish));
        }
        self.force(model)
    }

    fn force(&mut self, model: &LlamaModel) -> Result<Option<Finish>, InferenceError> {
        let Some(constraint) = &mut self.constraint else { return Ok(None) };
        let forced = constraint.forced();
        let complete = constraint.complete();
        for token in forced {
            self.tokens_forced += 1;
            if let Some(finish) = self.emit(token, model) {
                return Ok(Some(finish));
            }
        }
        Ok(complete.then_some(Finish::Stop))
    }

    fn emit(&mut self, token: LlamaToken, model: &LlamaModel) -> Option<Finish> {
        self.tokens_out += 1;
        self.pending.push(token);
        let text = self.text.push(&model.vocab().token_to_piece(token, false, None));
        self.send(text);
        if self.text.stopped() {
            Some(Finish::Stop)
        } else {
            (self.tokens_out >= self.max_tokens).then_some(Finish::Length)
        }
    }

    fn send(&self, text: String) {
        if !text.is_empty() {
            // The channel holds every event of the job; the only failure is a receiver that is gone, and the loop
            // looks for that between tokens.
            let _ = self.sink.try_send(Ok(Event::Delta(text)));
        }
    }

    /// Sends what remains and the usage.
    pub(crate) fn finish(mut self, finish: Finish) -> Usage {
        let rest = self.text.finish();
        self.send(rest);
        let usage = self.usage(finish);
        let _ = self.sink.try_send(Ok(Event::Done(usage)));
        usage
    }

    /// Sends the error that ended the job.
    pub(crate) fn fail(self, error: InferenceError) {
        let _ = self.sink.try_send(Err(error));
    }

    fn usage(&self, finish: Finish) -> Usage {
        let first = self.first_token.unwrap_or_else(Instant::now);
        Usage {
            tokens_in: self.tokens_in,
            tokens_cached: self.tokens_cached,
            tokens_out: self.tokens_out,
            tokens_forced: self.tokens_forced,
            queue_ms: millis(self.queued),
            prefill_ms: millis(first.duration_since(self.started)),
            decode_ms: millis(first.elapsed()),
            finish,
        }
    }
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
