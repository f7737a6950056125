//! Simulated nodes: what each role does with a request, what survives its death, and its life.

pub(crate) mod life;
pub(crate) mod llm;
pub(crate) mod memory;
pub(crate) mod tool;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::future::BoxFuture;
use kamil_node::Client;
use kamil_orchestrator::{Link, Network, NodeCall, NodeReply, NodeRequest};
use kamil_protocol::{
    ErrorCode, InstanceId, NodeId, Problem, StepId, TaskId,
    node::{RegisterNode, Role},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    flaw::Flaw,
    oracle::Oracle,
    random::Random,
    wire::{Way, Wire},
};

/// Pieces of an answer that may be under way.
const UNDER_WAY: usize = 64;
/// Requests that a node works on at once.
const SLOTS: u32 = 3;

/// One run of a node.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) instance: InstanceId,
    /// Cancelled when the node dies.
    pub(crate) stop: CancellationToken,
    running: Arc<AtomicU32>,
    flights: tool::Flights,
}

/// What is on a node's disk.
#[derive(Debug)]
enum Store {
    Nothing,
    Receipts(tool::Receipts),
    Memories(memory::Memories),
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) role: Role,
    pub(crate) name: String,
    random: Random,
    wire: Arc<Wire>,
    oracle: Arc<Oracle>,
    weather: crate::weather::Weather,
    flaw: Option<Flaw>,
    tools: Vec<&'static tool::SimulatedTool>,
    store: Store,
    run: Mutex<Option<Run>>,
}

/// What all nodes of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) wire: Arc<Wire>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) weather: crate::weather::Weather,
    pub(crate) flaw: Option<Flaw>,
}

/// A piece of an answer.
enum Piece {
    Text(String),
    End(Box<Result<NodeReply, Problem>>),
}

/// A request as it arrives.
#[derive(Clone, Debug)]
struct Arrived {
    task: TaskId,
    step: StepId,
    request: NodeRequest,
    /// Cancelled when the caller has hung up and the node has noticed.
    hung_up: CancellationToken,
}

impl Node {
    pub(crate) fn new(
        place: usize,
        role: Role,
        tools: Vec<&'static tool::SimulatedTool>,
        random: Random,
        around: &Surroundings,
    ) -> Arc<Self> {
        let store = match role {
            Role::Tool => Store::Receipts(tool::Receipts::default()),
            Role::Memory => Store::Memories(memory::Memories::default()),
            Role::Llm | Role::Orchestrator => Store::Nothing,
        };
        let Surroundings { wire, oracle, weather, flaw } = around.clone();
        Arc::new(Self {
            id: NodeId::from_uuid(uuid::Uuid::from_bytes(random.bytes())),
            role,
            name: format!("node-{place}"),
            random,
            wire,
            oracle,
            weather,
            flaw,
            tools,
            store,
            run: Mutex::new(None),
        })
    }

    fn run_slot(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node's present run, while it lives.
    pub(crate) fn run(&self) -> Option<Run> {
        self.run_slot().clone()
    }

    /// Starts the node.
    fn begin(&self) -> Run {
        let run = Run {
            instance: InstanceId::from_uuid(uuid::Uuid::from_bytes(self.random.bytes())),
            stop: CancellationToken::new(),
            running: Arc::default(),
            flights: tool::Flights::default(),
        };
        *self.run_slot() = Some(run.clone());
        run
    }

    /// The node dies: what it was working on ends where it is, what is on its disk stays.
    pub(crate) fn die(&self) {
        if let Some(run) = self.run_slot().take() {
            self.oracle.note(&format!("{} dies", self.name));
            run.stop.cancel();
            match (&self.store, self.flaw) {
                (Store::Receipts(receipts), Some(Flaw::ForgetfulLedger)) => receipts.forget_all(),
                (Store::Memories(memories), Some(Flaw::ForgetfulMemory)) => {
                    memories.forget_all(|id| self.oracle.forgotten(id));
                }
                _ => {}
            }
        }
    }

    /// Works on a request. Answers come in pieces; a node that dies leaves off.
    async fn serve(self: Arc<Self>, run: Run, arrived: Arrived, pieces: mpsc::Sender<Piece>) {
        let answer = match &arrived.request {
            NodeRequest::Execute(request) => {
                let outcome = self.execute(&run, &arrived, request).await;
                outcome.map(|reply| NodeReply::Executed(Box::new(reply)))
            }
            other => {
                let work = async {
                    match other {
                        NodeRequest::Reason(request) => self.reason(&run, &arrived, request, &pieces).await,
                        NodeRequest::Recall(request) => self.recall(request).await,
                        NodeRequest::Remember(request) => self.remember(request).await,
                        NodeRequest::Execute(_) => Err(wrong_role()),
                    }
                };
                match arrived.hung_up.run_until_cancelled(work).await {
                    Some(answer) => answer,
                    None => return,
                }
            }
        };
        // Nobody listens any more if the caller has gone.
        let _ = pieces.send(Piece::End(Box::new(answer))).await;
    }

    /// A place to work in, or the refusal of a node that is full.
    fn enter(&self, run: &Run) -> Result<Place, Problem> {
        let place = Place::enter(&run.running);
        let full = place.others >= SLOTS * 4;
        if full || self.wire.mishap(self.weather.refusals_per_mille) {
            let problem = Problem::new(ErrorCode::Busy, format!("{} is full.", self.name));
            return Err(if self.random.per_mille(500) { problem.retry_after_ms(250) } else { problem });
        }
        Ok(place)
    }

    /// Whether the node fails by its own fault now.
    fn fault(&self) -> Result<(), Problem> {
        if self.wire.mishap(self.weather.faults_per_mille) {
            return Err(Problem::new(ErrorCode::Internal, format!("Something in {} broke.", self.name)));
        }
        Ok(())
    }

    async fn takes(&self, least_ms: u64, most_ms: u64) {
        tokio::time::sleep(self.random.millis(least_ms, most_ms)).await;
    }
}

fn wrong_role() -> Problem {
    Problem::new(ErrorCode::NotFound, "This node does not do that.")
}

/// A request that a node works on.
struct Place {
    running: Arc<AtomicU32>,
    others: u32,
}

impl Place {
    fn enter(running: &Arc<AtomicU32>) -> Self {
        Self { running: Arc::clone(running), others: running.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The nodes of a run, reached over the simulated wire.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Arc<Node>>,
    by_id: BTreeMap<NodeId, usize>,
}

impl Fleet {
    pub(crate) fn new(nodes: Vec<Arc<Node>>) -> Arc<Self> {
        let by_id = nodes.iter().enumerate().map(|(place, node)| (node.id, place)).collect();
        Arc::new(Self { nodes, by_id })
    }
}

impl Network for Fleet {
    fn connect(&self, node: &RegisterNode) -> Result<Arc<dyn Link>, Problem> {
        let found = self.by_id.get(&node.id).and_then(|place| self.nodes.get(*place));
        let found =
            found.ok_or_else(|| Problem::new(ErrorCode::InvalidParameter, "There is no such node."))?;
        Ok(Arc::new(SimulatedLink { node: Arc::clone(found), instance: node.instance }))
    }
}

/// The way to one run of a node.
struct SimulatedLink {
    node: Arc<Node>,
    instance: InstanceId,
}

impl fmt::Debug for SimulatedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedLink").field("node", &self.node.name).finish_non_exhaustive()
    }
}

/// Hangs up when the caller goes, which a node notices unless the way to it is silent.
struct Caller<'a> {
    node: &'a Node,
    hung_up: CancellationToken,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let unseen = self.node.wire.way(self.node.id) == Way::Silent || self.node.wire.mishap(100);
        if !unseen {
            self.hung_up.cancel();
        }
    }
}

impl SimulatedLink {
    async fn ask(&self, call: NodeCall<'_>, write: &(dyn Fn(&str) + Sync)) -> Result<NodeReply, Problem> {
        let node = &self.node;
        node.oracle.sent(&call, node.id);
        self.pass().await?;
        let run = node.run().ok_or_else(unreachable)?;
        if run.instance != self.instance {
            return Err(Problem::new(ErrorCode::OrchestratorOnly, "This is the secret of an earlier run."));
        }
        let caller = Caller { node, hung_up: CancellationToken::new() };
        let arrived = Arrived {
            task: call.task,
            step: call.step.clone(),
            request: call.request.clone(),
            hung_up: caller.hung_up.clone(),
        };
        let (pieces, mut heard) = mpsc::channel(UNDER_WAY);
        let serving = Arc::clone(node).serve(run.clone(), arrived, pieces);
        tokio::spawn(run.stop.run_until_cancelled_owned(serving));
        let mut streamed = 0;
        loop {
            let piece = heard.recv().await;
            self.pass().await?;
            match piece {
                Some(Piece::Text(text)) => {
                    streamed += text.len();
                    write(&text);
                }
                Some(Piece::End(answer)) => {
                    let reply = (*answer)?;
                    if let (NodeReply::Reasoned(reply), NodeRequest::Reason(request)) = (&reply, call.request)
                        && request.stream
                    {
                        write(reply.text.get(streamed..).unwrap_or_default());
                    }
                    return Ok(reply);
                }
                None => return Err(unreachable()),
            }
        }
    }

    async fn pass(&self) -> Result<(), Problem> {
        self.node.wire.pass(self.node.id).await.map_err(|_| unreachable())
    }
}

fn unreachable() -> Problem {
    Problem::new(ErrorCode::NodeUnreachable, "The connection broke.")
}

impl Link for SimulatedLink {
    fn send<'a>(
        &'a self,
        call: NodeCall<'a>,
        write: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Result<NodeReply, Problem>> {
        Box::pin(self.ask(call, write))
    }

    fn alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            self.pass().await.is_ok() && self.node.run().is_some() && self.pass().await.is_ok()
        })
    }

    fn client(&self) -> Option<&Client> {
        None
    }
}
