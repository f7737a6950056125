//! A call's way: schema, permission, idempotency key, a free slot, the tool, the report.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use kamil_protocol::{
    ErrorCode, MAX_OUTPUT_BYTES, Problem, digest,
    task::{Labels, Trust},
    tool::{ExecuteReply, ExecuteRequest},
};
use kamil_sandbox::CancelToken;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    permission::{self, Rules},
    receipts::{Known, Outcome, Receipts},
    registry::Registry,
    tool::{Call, Product, Tool},
};

/// Calls that may wait, for each that may run.
const QUEUED_PER_SLOT: u32 = 16;
/// When to try a full node again.
const RETRY_AFTER_MS: u64 = 250;
/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// Runs tools.
pub(crate) struct Executor {
    registry: Registry,
    rules: Rules,
    receipts: Arc<Receipts>,
    slots: Arc<Semaphore>,
    running: AtomicU32,
    queued: AtomicU32,
    queue_limit: u32,
    flights: Mutex<HashMap<String, Flight>>,
    shutdown: CancellationToken,
}

/// A call with a key that is under way.
struct Flight {
    digest: String,
    interest: Weak<Interest>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// Held by everyone who waits for a call: when the last one goes, what runs for it is killed.
struct Interest(CancelToken);

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A call that may run.
struct Permitted {
    tool: Arc<Tool>,
    arguments: Value,
    labels: Labels,
    policy: String,
    deadline: Instant,
}

impl Executor {
    pub(crate) fn new(
        registry: Registry,
        rules: Rules,
        receipts: Receipts,
        slots: u32,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            registry,
            rules,
            receipts: Arc::new(receipts),
            slots: Arc::new(Semaphore::new(slots as usize)),
            running: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            queue_limit: slots.saturating_mul(QUEUED_PER_SLOT),
            flights: Mutex::new(HashMap::new()),
            shutdown,
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Calls that run and calls that wait.
    pub(crate) fn load(&self) -> (u32, u32) {
        (self.running.load(Ordering::Relaxed), self.queued.load(Ordering::Relaxed))
    }

    /// Runs a call, or answers it from the record. Dropping the future kills what runs for it.
    pub(crate) async fn execute(self: &Arc<Self>, request: ExecuteRequest) -> Outcome {
        let tool = Arc::clone(self.registry.get(&request.tool)?);
        tool.validate(&request.arguments)?;
        let policy = permission::decide(
            &self.rules,
            &tool,
            &request.arguments,
            &request.labels,
            request.approval.as_deref(),
        )?;
        let limit = request.deadline_ms.unwrap_or(u64::MAX).min(tool.descriptor.timeout_ms);
        let keyed = tool.needs_receipt();
        let permitted = Permitted {
            tool,
            arguments: request.arguments,
            labels: request.labels,
            policy,
            deadline: Instant::now() + Duration::from_millis(limit),
        };
        if keyed {
            return self.execute_once(request.idempotency_key, permitted).await;
        }
        let interest = Interest(CancelToken::new());
        let slot = self.admit(permitted.deadline).await?;
        match self.run(permitted, slot, interest.0.clone()).await {
            // It may be repeated, and another node can do it.
            Err(problem) if problem.code == ErrorCode::Cancelled && self.shutdown.is_cancelled() => {
                Err(stopping())
            }
            outcome => outcome,
        }
    }

    /// Runs a call whose repetition would matter: once for each key.
    async fn execute_once(self: &Arc<Self>, key: String, permitted: Permitted) -> Outcome {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Problem::new(ErrorCode::ValidationFailed, "`idempotency_key` must have 1–256 bytes"));
        }
        let digest = digest::of_call(permitted.tool.name(), &permitted.arguments);
        let (mut outcome, interest, first) = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) if flight.digest != digest => return Err(mismatch(&key)),
                Some(flight) => (flight.outcome.clone(), flight.interest.upgrade(), None),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    let interest = Arc::new(Interest(CancelToken::new()));
                    let flight = Flight {
                        digest: digest.clone(),
                        interest: Arc::downgrade(&interest),
                        outcome: receiver.clone(),
                    };
                    flights.insert(key.clone(), flight);
                    (receiver, Some(interest), Some(sender))
                }
            }
        };
        let repeated = first.is_none();
        if let (Some(sender), Some(interest)) = (first, &interest) {
            // Apart from the caller, so that what has been started is recorded to its end even if the caller goes.
            let (executor, cancel) = (Arc::clone(self), interest.0.clone());
            tokio::spawn(async move {
                let outcome = executor.run_recorded(&key, &digest, permitted, cancel).await;
                sender.send_replace(Some(outcome));
                executor.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            });
        }
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        drop(interest);
        let outcome = ended.unwrap_or_else(|| Err(Problem::new(ErrorCode::Internal, "the call was lost")));
        outcome.map(|reply| ExecuteReply { repeated: reply.repeated || repeated, ..reply })
    }

    async fn run_recorded(
        &self,
        key: &str,
        digest: &str,
        permitted: Permitted,
        cancel: CancelToken,
    ) -> Outcome {
        match self.with_receipts(key, digest, |receipts, key, digest| receipts.look_up(key, digest)).await? {
            Known::New => {}
            Known::Mismatch => return Err(mismatch(key)),
            Known::Ended(outcome) => return outcome.map(|reply| ExecuteReply { repeated: true, ..reply }),
            Known::Begun => return Err(unknown(permitted.tool.name(), "the node went down while it ran")),
        }
        let name = permitted.tool.name().to_owned();
        let slot = tokio::select! {
            slot = self.admit(permitted.deadline) => slot?,
            () = self.shutdown.cancelled() => return Err(stopping()),
        };
        if cancel.is_cancelled() {
            return Err(Problem::new(
                ErrorCode::Cancelled,
                "the caller went away before the tool was started",
            ));
        }
        self.with_receipts(key, digest, |receipts, key, digest| receipts.begin(key, digest)).await?;
        let outcome = match self.run(permitted, slot, cancel).await {
            // It had begun, and what it had done by then stays done.
            Err(problem) if matches!(problem.code, ErrorCode::Cancelled | ErrorCode::Internal) => {
                Err(unknown(&name, &problem.detail))
            }
            outcome => outcome,
        };
        let (receipts, key, recorded) = (Arc::clone(&self.receipts), key.to_owned(), outcome.clone());
        let record = move || match &recorded {
            // Nothing has run, so that the call may be tried again when the machine has been set right.
            Err(problem) if problem.code == ErrorCode::LayerUnavailable => receipts.forget(&key),
            outcome => receipts.end(&key, outcome),
        };
        blocking(record).await?.map_err(|error| record_fault(&error))?;
        outcome
    }

    async fn with_receipts<R: Send + 'static>(
        &self,
        key: &str,
        digest: &str,
        work: impl FnOnce(&Receipts, &str, &str) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Problem> {
        let (receipts, key, digest) = (Arc::clone(&self.receipts), key.to_owned(), digest.to_owned());
        blocking(move || work(&receipts, &key, &digest)).await?.map_err(|error| record_fault(&error))
    }

    /// Waits for a slot, unless too many wait already or the deadline comes first.
    async fn admit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Counted::enter(&self.queued, self.queue_limit).ok_or_else(|| {
            Problem::new(
                ErrorCode::Busy,
                format!("{} calls are waiting for a free slot already", self.queue_limit),
            )
            .next("Try again, or let another tool node do it.")
            .retry_after_ms(RETRY_AFTER_MS)
        })?;
        match tokio::time::timeout_at(deadline.into(), Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => {
                Err(Problem::new(ErrorCode::DeadlineExceeded, "the time limit passed before a slot was free")
                    .next("Try again later, or let another tool node do it."))
            }
        }
    }

    /// Runs the tool on a thread of its own; the slot is given back when that thread is done, whoever still waits.
    async fn run(&self, permitted: Permitted, slot: OwnedSemaphorePermit, cancel: CancelToken) -> Outcome {
        let Permitted { tool, arguments, labels, policy, deadline } = permitted;
        let Some(_running) = Counted::enter(&self.running, u32::MAX) else { return Err(stopping()) };
        let began = Instant::now();
        let limit = deadline.saturating_duration_since(began);
        let stop = cancel.clone();
        let span = tracing::Span::current();
        let work = blocking(move || {
            let _slot = slot;
            let _entered = span.enter();
            tool.run(arguments, &Call::new(limit, cancel))
        });
        tokio::pin!(work);
        let product = tokio::select! {
            product = &mut work => product?,
            () = self.shutdown.cancelled() => {
                stop.cancel();
                work.await?
            }
        }
        .map_err(Problem::from)?;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        report(product, &labels, policy, duration_ms)
    }
}

/// The reply to a call that has ended well.
fn report(product: Product<Value>, labels: &Labels, policy: String, duration_ms: u64) -> Outcome {
    let Product { output, sources, trust, enforced } = product;
    let size = output.to_string().len();
    if size > MAX_OUTPUT_BYTES {
        return Err(Problem::new(
            ErrorCode::ToolFailed,
            format!("the result has {size} bytes; at most {MAX_OUTPUT_BYTES} can be returned"),
        )
        .next("Ask for less at once."));
    }
    let mut sources = [labels.sources.as_slice(), sources].concat();
    sources.sort_unstable();
    sources.dedup();
    let trust = if labels.is_trusted() { trust } else { Trust::Untrusted };
    Ok(ExecuteReply {
        output,
        labels: Labels { sources, trust },
        enforced,
        policy,
        duration_ms,
        repeated: false,
    })
}

/// A place in a bounded count, given back when dropped.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicU32, limit: u32) -> Option<Self> {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then(|| count + 1))
            .ok()
            .map(|_| Self(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a tool's thread broke");
        Problem::new(ErrorCode::Internal, "the tool broke; the log of the node says more")
    })
}

fn record_fault(error: &rusqlite::Error) -> Problem {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Problem::new(
            ErrorCode::StorageFull,
            "the idempotency key cannot be recorded: no space is left on the disk",
        )
        .next("Free some space, then try again."),
        _ => {
            Problem::new(ErrorCode::Internal, format!("the record of idempotency keys is unusable: {error}"))
        }
    }
}

fn mismatch(key: &str) -> Problem {
    Problem::new(
        ErrorCode::IdempotencyMismatch,
        format!("the idempotency key `{key}` was used for a call with another tool or other arguments"),
    )
    .next("Use a new key for a new call.")
}

fn unknown(tool: &str, why: &str) -> Problem {
    Problem::new(
        ErrorCode::OutcomeUnknown,
        format!(
            "{tool} was started under this key and did not end by itself ({why}); it may have changed files"
        ),
    )
    .next("Look at the workspace; to run it again, use a new key.")
}

fn stopping() -> Problem {
    Problem::new(ErrorCode::Busy, "the node is shutting down").retry_after_ms(RETRY_AFTER_MS)
}
