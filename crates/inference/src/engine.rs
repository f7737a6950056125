//! The loop that owns a model's context: one batch after another over all active sequences.
//!
//! Continuous batching (Yu et al., Orca, OSDI 2022): every step decodes one batch with the next tokens of all jobs
//! that produce output, filled up with pieces of prompts. Sequences keep their tokens after a job, so that the next
//! request with the same beginning is prefilled only from where it differs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::error::InferenceError;
use crate::job::{Job, Prepared};
use crate::prefix::{Candidate, Choice, choose};
use crate::request::Finish;
use crate::stats::Stats;

/// What the handle sends to the loop.
pub(crate) enum Command {
    Generate(Box<Prepared>),
    Stop,
}

/// Bounds of one engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens all sequences together may keep.
    pub(crate) cache_tokens: usize,
    /// Tokens decoded in one batch.
    pub(crate) batch_tokens: usize,
    /// Prompt tokens in a batch while other jobs wait for their next token.
    pub(crate) shared_prefill_tokens: usize,
}

struct Slot {
    /// What the cache holds for this sequence.
    tokens: Vec<LlamaToken>,
    last_used: u64,
    job: Option<Job>,
}

pub(crate) struct Engine<'model> {
    model: &'model LlamaModel,
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    slots: Vec<Slot>,
    limits: Limits,
    stats: Arc<Stats>,
    clock: u64,
    /// Recurrent models cannot forget a tail.
    truncates: bool,
    /// The head of the queue, while there is no room for it beside the active jobs.
    held: Option<Box<Prepared>>,
}

impl<'model> Engine<'model> {
    pub(crate) fn new(
        model: &'model LlamaModel,
        context: LlamaContext<'model>,
        sequences: usize,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> Self {
        let slots = (0..sequences).map(|_| Slot { tokens: Vec::new(), last_used: 0, job: None }).collect();
        let batch = LlamaBatch::new(limits.batch_tokens, 1);
        let truncates = !model.is_recurrent() && !model.is_hybrid();
        Self { model, context, batch, slots, limits, stats, clock: 0, truncates, held: None }
    }

    /// Runs until told to stop, or until every handle is gone and every job done.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        let mut open = true;
        while open || self.active() > 0 || self.held.is_some() {
            self.drop_abandoned();
            while let Some(command) = self.next_command(commands, &mut open) {
                match command {
                    Command::Generate(prepared) if self.has_room_for(&prepared) => self.admit(*prepared),
                    Command::Generate(prepared) => {
                        self.held = Some(prepared);
                        break;
                    }
                    Command::Stop => return self.cancel_all(),
                }
            }
            self.stats.set_active(self.active());
            self.advance();
            self.stats.set_active(self.active());
        }
    }

    /// The next command to look at now. Waits only if there is nothing to compute.
    fn next_command(&mut self, commands: &Receiver<Command>, open: &mut bool) -> Option<Command> {
        if self.active() == self.slots.len() {
            return None;
        }
        if let Some(prepared) = self.held.take() {
            return Some(Command::Generate(prepared));
        }
        if !*open {
            return None;
        }
        let received = if self.active() == 0 {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        *open = !matches!(received, Err(TryRecvError::Disconnected));
        received.ok()
    }

    /// Whether the cache can hold the job's whole course beside those of the active ones.
    fn has_room_for(&self, prepared: &Prepared) -> bool {
        let promised: usize = self
            .slots
            .iter()
            .filter_map(|slot| Some(slot.tokens.len() + slot.job.as_ref()?.outstanding_tokens()))
            .sum();
        promised == 0 || promised + prepared.course_tokens() <= self.limits.cache_tokens
    }

    fn active(&self) -> usize {
        self.slots.iter().filter(|slot| slot.job.is_some()).count()
    }

    fn drop_abandoned(&mut self) {
        for slot in &mut self.slots {
            if slot.job.as_ref().is_some_and(Job::abandoned) {
                slot.job = None;
            }
        }
    }

    fn cancel_all(mut self) {
        for slot in &mut self.slots {
            if let Some(job) = slot.job.take() {
                job.finish(Finish::Cancelled);
            }
        }
    }

    fn admit(&mut self, prepared: Prepared) {
        self.stats.left_queue();
        if prepared.sink.is_closed() {
            return;
        }
        let candidates: Vec<_> = self
            .slots
            .iter()
            .map(|slot| Candidate {
                tokens: if self.truncates { &slot.tokens } else { &[] },
                busy: slot.job.is_some(),
                last_used: slot.last_used,
            })
            .collect();
        let Some(choice) = choose(&candidates, &prepared.prompt) else { return };
        let reused = self.reuse(&choice);
        self.clock += 1;
        let mut job = Job::start(prepared, reused);
        let opening = job.force_opening(self.model);
        let slot = &mut self.slots[choice.slot];
        slot.last_used = self.clock;
        match opening {
            Ok(None) => slot.job = Some(job),
            Ok(Some(finish)) => {
                job.finish(finish);
            }
            Err(error) => job.fail(error),
        }
    }

    /// Brings the chosen sequence to the state the choice promises; returns how many tokens are really there.
    fn reuse(&mut self, choice: &Choice) -> usize {
        let kept = match choice.copy_from {
            None => self.truncate(choice.slot, choice.reused),
            Some(source) => {
                self.truncate(choice.slot, 0);
                let end = u32::try_from(choice.reused).ok();
                let copied = end.is_some()
                    && self
                        .context
                        .copy_kv_cache_seq(sequence(source), sequence(choice.slot), Some(0), end)
                        .is_ok();
                if copied {
                    let tokens = self.slots[source].tokens[..choice.reused].to_vec();
                    self.slots[choice.slot].tokens = tokens;
                }
                copied
            }
        };
        if kept { choice.reused } else { 0 }
    }

    /// Forgets all but the first `keep` tokens of a sequence. If only all can be forgotten, all are, and the answer
    /// is `false`.
    fn truncate(&mut self, slot: usize, keep: usize) -> bool {
        let id = u32::try_from(slot).ok();
        let from = u32::try_from(keep).ok();
        let removed = matches!(self.context.clear_kv_cache_seq(id, from, None), Ok(true));
        if removed {
            self.slots[slot].tokens.truncate(keep);
        } else {
            // Removing a whole sequence always succeeds.
            let _ = self.context.clear_kv_cache_seq(id, None, None);
            self.slots[slot].tokens.clear();
        }
        removed
    }

    /// Decodes one batch and hands the logits to the jobs that were waiting for them.
    fn advance(&mut self) {
        let shares = self.fill_batch();
        let tokens: usize = shares.iter().map(|share| share.count).sum();
        if tokens == 0 {
            return;
        }
        let started = Instant::now();
        if let Err(error) = self.context.decode(&mut self.batch) {
            return self.fail_batch(&shares, &error.to_string());
        }
        self.context.synchronize();
        self.stats.note_batch(&shares, started.elapsed());
        for share in &shares {
            let slot = &mut self.slots[share.slot];
            let Some(job) = &mut slot.job else { continue };
            slot.tokens.extend_from_slice(job.take(share.count));
            let Some(index) = share.logits_at else { continue };
            let step = job.step(self.context.get_logits_ith(index), self.model);
            if matches!(step, Ok(None)) {
                continue;
            }
            let Some(job) = slot.job.take() else { continue };
            match step {
                Ok(finish) => {
                    job.finish(finish.unwrap_or(Finish::Stop));
                }
                Err(error) => job.fail(error),
            }
        }
    }

    fn fill_batch(&mut self) -> Vec<Share> {
        self.batch.clear();
        let any_decoding = self.slots.iter().any(|slot| slot.job.as_ref().is_some_and(Job::decoding));
        let prefill_room = if any_decoding {
            self.limits.shared_prefill_tokens.min(self.limits.batch_tokens)
        } else {
            self.limits.batch_tokens
        };
        let wanted: usize = self.slots.iter().filter_map(|slot| Some(slot.job.as_ref()?.unfed().len())).sum();
        self.make_room(wanted.min(self.limits.batch_tokens));
        let mut shares = Vec::new();
        self.share_out(&mut shares, true, self.limits.batch_tokens);
        self.share_out(&mut shares, false, prefill_room);
        shares
    }

    fn share_out(&mut self, shares: &mut Vec<Share>, decoding: bool, mut room: usize) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let Some(job) = slot.job.as_ref().filter(|job| job.decoding() == decoding) else { continue };
            let used = usize::try_from(self.batch.n_tokens()).unwrap_or(usize::MAX);
            let free = self.limits.batch_tokens.saturating_sub(used).min(room);
            let unfed = job.unfed();
            let count = unfed.len().min(free);
            let last = count == unfed.len();
            let mut added = 0;
            for (offset, token) in unfed[..count].iter().enumerate() {
                let Ok(position) = i32::try_from(slot.tokens.len() + offset) else { break };
                let wants_logits = last && offset + 1 == count;
                if self.batch.add(*token, position, &[sequence(index)], wants_logits).is_err() {
                    break;
                }
                added += 1;
            }
            if added > 0 {
                room -= added;
                let logits_at = (last && added == count).then(|| self.batch.n_tokens() - 1);
                shares.push(Share { slot: index, count: added, logits_at, prefill: !decoding });
            }
        }
    }

    /// Empties the least recently used idle sequences until `wanted` more tokens fit.
    fn make_room(&mut self, wanted: usize) {
        loop {
            let used: usize = self.slots.iter().map(|slot| slot.tokens.len()).sum();
            if used + wanted <= self.limits.cache_tokens {
                return;
            }
            let oldest = self
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| slot.job.is_none() && !slot.tokens.is_empty())
                .min_by_key(|(_, slot)| slot.last_used)
                .map(|(index, _)| index);
            let Some(index) = oldest else { return };
            self.truncate(index, 0);
        }
    }

    /// After a failed decode the cache of the sequences in the batch is unknown: they start from nothing.
    fn fail_batch(&mut self, shares: &[Share], reason: &str) {
        tracing::warn!(reason, "a batch could not be decoded");
        for share in shares {
            self.truncate(share.slot, 0);
            if let Some(job) = self.slots[share.slot].job.take() {
                job.fail(InferenceError::Decode { reason: reason.to_owned() });
            }
        }
    }
}

/// A job's part of a batch.
pub(crate) struct Share {
    pub(crate) slot: usize,
    /// Tokens in the batch.
    pub(crate) count: usize,
    /// Index in the batch of the token whose logits the job waits for.
    pub(crate) logits_at: Option<i32>,
    /// Whether these are tokens of a prompt.
    pub(crate) prefill: bool,
}

fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}
