//! Tool nodes, by the rules of the real ones: a key is recorded before the tool starts and completed when it has ended; a
//! repeat is answered from the record; a key that was begun and not completed is `outcome_unknown`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kamil_protocol::{
    ErrorCode, Problem,
    task::{ApprovalRequest, Labels, Source, Trust},
    tool::{ExecuteReply, ExecuteRequest, SideEffect, ToolDescriptor},
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Arrived, Node, Run, Store, wrong_role};
use crate::flaw::Flaw;

/// Longest time of a simulated tool.
const LIMIT_MS: u64 = 10_000;

/// A tool of the simulation.
#[derive(Debug)]
pub(crate) struct SimulatedTool {
    pub(crate) name: &'static str,
    side_effect: SideEffect,
    idempotent: bool,
    asks: bool,
    fails_per_mille: u64,
    most_ms: u64,
}

const fn simulated(
    name: &'static str,
    side_effect: SideEffect,
    idempotent: bool,
    most_ms: u64,
) -> SimulatedTool {
    SimulatedTool { name, side_effect, idempotent, asks: false, fails_per_mille: 0, most_ms }
}

/// Every tool there is.
pub(crate) static TOOLS: [SimulatedTool; 8] = [
    simulated("sums.add", SideEffect::Pure, true, 20),
    simulated("notes.read", SideEffect::Read, true, 100),
    SimulatedTool { fails_per_mille: 900, ..simulated("notes.missing", SideEffect::Read, true, 30) },
    simulated("notes.put", SideEffect::Write, true, 300),
    simulated("notes.append", SideEffect::Write, false, 300),
    simulated("notes.move", SideEffect::Write, false, 6_000),
    SimulatedTool { fails_per_mille: 400, ..simulated("notes.try", SideEffect::Write, false, 200) },
    SimulatedTool { asks: true, ..simulated("mail.send", SideEffect::External, false, 800) },
];

/// The tool of this name.
pub(crate) fn known(name: &str) -> Option<&'static SimulatedTool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl SimulatedTool {
    /// Whether its effects are counted, since there may be one only.
    pub(crate) const fn is_counted(&self) -> bool {
        !self.idempotent && matches!(self.side_effect, SideEffect::Write | SideEffect::External)
    }

    pub(crate) fn descriptor(&self) -> ToolDescriptor {
        let number = json!({"type": "integer"});
        let (properties, required) = if self.name == "sums.add" {
            (json!({"a": number, "b": number}), json!(["a", "b"]))
        } else {
            (json!({"text": {"type": "string"}, "n": number}), json!([]))
        };
        ToolDescriptor {
            name: self.name.to_owned(),
            description: format!("Simulated: {}.", self.name.replace('.', " ")),
            arguments: json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}),
            result: json!({"type": "object"}),
            side_effect: self.side_effect,
            idempotent: self.idempotent,
            timeout_ms: LIMIT_MS,
            examples: Vec::new(),
        }
    }
}

type Outcome = Result<ExecuteReply, Problem>;

/// The durable record of keys: the digest of the call, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Mutex<BTreeMap<String, (String, Option<Outcome>)>>);

impl Receipts {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, (String, Option<Outcome>)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn forget_all(&self) {
        self.with(BTreeMap::clear);
    }
}

/// Calls with a key that are under way in this run of the node.
pub(crate) type Flights = Arc<Mutex<BTreeMap<String, Flight>>>;

/// A call under way: those who wait for it hold the interest; when the last one goes, the tool is killed.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    digest: String,
    interest: std::sync::Weak<DropGuard>,
    landing: Arc<Landing>,
}

/// How a call under way ended, for all who wait for it. Not a `watch`, which wakes them in random order.
#[derive(Debug, Default)]
struct Landing {
    outcome: Mutex<Option<Outcome>>,
    landed: Notify,
}

impl Landing {
    fn land(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.landed.notify_waiters();
    }

    async fn outcome(&self) -> Outcome {
        loop {
            let landed = self.landed.notified();
            let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match outcome {
                Some(outcome) => return outcome,
                None => landed.await,
            }
        }
    }
}

impl Node {
    pub(super) async fn execute(
        self: &Arc<Self>,
        run: &Run,
        arrived: &Arrived,
        request: &ExecuteRequest,
    ) -> Outcome {
        let offered = self.tools.iter().find(|tool| tool.name == request.tool);
        let tool = *offered.ok_or_else(|| Problem::new(ErrorCode::ToolUnknown, "There is no such tool."))?;
        let digest = digest_of(request);
        if tool.asks && request.approval.as_ref() != Some(&digest) {
            return Err(approval_required(request, digest));
        }
        if !tool.is_counted() {
            let work = async {
                let _place = self.enter(run)?;
                self.act(tool, request, None).await
            };
            let gone = || Err(Problem::new(ErrorCode::Cancelled, "The caller went away."));
            return arrived.hung_up.run_until_cancelled(work).await.unwrap_or_else(gone);
        }
        self.execute_once(run, arrived, request, tool, digest).await
    }

    async fn execute_once(
        self: &Arc<Self>,
        run: &Run,
        arrived: &Arrived,
        request: &ExecuteRequest,
        tool: &'static SimulatedTool,
        digest: String,
    ) -> Outcome {
        let (landing, interest, repeated) = {
            let mut flights = run.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&request.idempotency_key) {
                Some(flight) if flight.digest != digest => return Err(mismatch()),
                Some(flight) => (Arc::clone(&flight.landing), flight.interest.upgrade(), true),
                None => {
                    let landing = Arc::new(Landing::default());
                    let landed = Arc::clone(&landing);
                    let cancel = CancellationToken::new();
                    let interest = Arc::new(cancel.clone().drop_guard());
                    let flight = Flight {
                        digest: digest.clone(),
                        interest: Arc::downgrade(&interest),
                        landing: Arc::clone(&landing),
                    };
                    flights.insert(request.idempotency_key.clone(), flight);
                    let (node, run, request) = (Arc::clone(self), run.clone(), request.clone());
                    let stop = run.stop.clone();
                    tokio::spawn(stop.run_until_cancelled_owned(async move {
                        let outcome = node.run_recorded(&run, &request, tool, digest, &cancel).await;
                        landed.land(outcome);
                        let mut flights = run.flights.lock().unwrap_or_else(PoisonError::into_inner);
                        flights.remove(&request.idempotency_key);
                    }));
                    (landing, Some(interest), false)
                }
            }
        };
        let ended = arrived.hung_up.run_until_cancelled(landing.outcome()).await;
        drop(interest);
        let gone = || Err(Problem::new(ErrorCode::Cancelled, "The caller went away."));
        let reply = ended.unwrap_or_else(gone)?;
        Ok(ExecuteReply { repeated: reply.repeated || repeated, ..reply })
    }

    async fn run_recorded(
        &self,
        run: &Run,
        request: &ExecuteRequest,
        tool: &SimulatedTool,
        digest: String,
        cancel: &CancellationToken,
    ) -> Outcome {
        let Store::Receipts(receipts) = &self.store else { return Err(wrong_role()) };
        let key = &request.idempotency_key;
        self.takes(0, 3).await;
        match receipts.with(|rows| rows.get(key).cloned()) {
            None => {}
            Some((other, _)) if other != digest => return Err(mismatch()),
            Some((_, Some(outcome))) => {
                return outcome.map(|reply| ExecuteReply { repeated: true, ..reply });
            }
            Some((_, None)) => return Err(unknown(tool, "the node went down while it ran")),
        }
        let _place = self.enter(run)?;
        self.takes(0, 20).await;
        if cancel.is_cancelled() {
            return Err(Problem::new(ErrorCode::Cancelled, "The caller went away before the tool started."));
        }
        if self.flaw == Some(Flaw::EagerTool) {
            self.oracle.effect(request.task, &request.step, key, self.id);
            self.takes(0, 20).await;
        }
        receipts.with(|rows| rows.insert(key.clone(), (digest.clone(), None)));
        let killed = || Err(unknown(tool, "the caller went away"));
        let work = self.act(tool, request, Some(key));
        let outcome = cancel.run_until_cancelled(work).await.unwrap_or_else(killed);
        self.takes(0, 3).await;
        receipts.with(|rows| match &outcome {
            // Nothing has run.
            Err(problem) if problem.code == ErrorCode::LayerUnavailable => rows.remove(key),
            _ => rows.insert(key.clone(), (digest, Some(outcome.clone()))),
        });
        outcome
    }

    /// The tool itself. It fails before its effect, or not at all.
    async fn act(&self, tool: &SimulatedTool, request: &ExecuteRequest, key: Option<&str>) -> Outcome {
        if self.wire.mishap(self.weather.faults_per_mille) {
            return Err(Problem::new(ErrorCode::LayerUnavailable, "A layer is not there; nothing was run."));
        }
        self.takes(0, tool.most_ms / 2).await;
        if self.random.per_mille(tool.fails_per_mille) {
            return Err(Problem::new(ErrorCode::ToolFailed, format!("{} failed.", tool.name)));
        }
        if let Some(key) = key
            && self.flaw != Some(Flaw::EagerTool)
        {
            self.oracle.effect(request.task, &request.step, key, self.id);
        }
        self.takes(0, tool.most_ms / 2).await;
        let number = |name| request.arguments.get(name).and_then(Value::as_i64).unwrap_or(1);
        let mut sources = request.labels.sources.clone();
        sources.push(Source::Tool);
        sources.sort_unstable();
        sources.dedup();
        Ok(ExecuteReply {
            output: json!({"value": number("a") + number("b") + number("n"), "text": tool.name}),
            labels: Labels { sources, trust: Trust::Untrusted },
            enforced: Vec::new(),
            policy: "simulated".to_owned(),
            duration_ms: 1,
            repeated: false,
        })
    }
}

/// What an approval and a key are bound to.
fn digest_of(request: &ExecuteRequest) -> String {
    let call = json!({"arguments": request.arguments, "tool": request.tool});
    let text = kamil_ledger::canonical_json(&call);
    let fnv = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:064x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

fn approval_required(request: &ExecuteRequest, digest: String) -> Problem {
    let asked = ApprovalRequest {
        tool: request.tool.clone(),
        arguments: request.arguments.clone(),
        command: None,
        reason: "it reaches beyond the workspace".to_owned(),
        spans: Vec::new(),
        digest,
    };
    let problem = Problem::new(ErrorCode::ApprovalRequired, "The person has to agree.");
    problem.data(serde_json::to_value(asked).unwrap_or_default())
}

fn mismatch() -> Problem {
    Problem::new(ErrorCode::IdempotencyMismatch, "The key was used for another call.")
}

fn unknown(tool: &SimulatedTool, why: &str) -> Problem {
    let detail = format!("{} was started under this key and did not end by itself ({why})", tool.name);
    Problem::new(ErrorCode::OutcomeUnknown, detail)
}
