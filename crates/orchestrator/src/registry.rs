//! The nodes that are registered: what they offer, whether they live, what they are busy with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use kamil_node::Client;
use kamil_placement::{CostModel, Decision, FleetNode, Policy};
use kamil_protocol::{
    ErrorCode, InstanceId, NodeId, Problem,
    node::{Heartbeat, NodeDoc, NodeStatus, RegisterNode, Role},
    placement::StepNeeds,
    tool::ToolDescriptor,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    link::{Link, Network},
    signal::{Changes, Signal},
    tool_set::ToolSet,
};

/// Most nodes that may be registered.
const MAX_NODES: usize = 1_024;
/// A node that has been dead for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Tools of a node that has gone silent are planned with for this long: it may be back before they are needed.
const TOOLS_LINGER: Duration = Duration::from_secs(10);
/// How long a node whose connection broke may take to show that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_millis(400);

/// What is predicted of requests that a node is working on: the moments at which they should end.
type InFlight = Arc<Mutex<BTreeMap<u64, Instant>>>;

struct Member {
    doc: NodeDoc,
    instance: InstanceId,
    link: Arc<dyn Link>,
    heard: Instant,
    /// Cancelled when this run of the node is over.
    gone: CancellationToken,
    in_flight: InFlight,
}

/// A node that was chosen, with all that is needed to call it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) gone: CancellationToken,
    in_flight: InFlight,
}

impl Handle {
    /// The client of a node that calls are forwarded to as they are.
    pub(crate) fn client(&self) -> Result<&Client, Problem> {
        self.link.client().ok_or_else(|| {
            let detail = format!("Node `{}` is not reached over HTTP.", self.name);
            Problem::new(ErrorCode::NoNode, detail)
        })
    }
}

/// A request that a node is working on; ends when dropped.
pub(crate) struct Busy {
    in_flight: InFlight,
    number: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[derive(Default)]
struct Members {
    nodes: BTreeMap<NodeId, Member>,
    tools: Arc<ToolSet>,
}

impl Members {
    fn refresh_tools(&mut self) {
        let mut tools: Vec<ToolDescriptor> = Vec::new();
        let counts = |member: &&Member| {
            member.doc.status == NodeStatus::Alive || member.heard.elapsed() < TOOLS_LINGER
        };
        for member in self.nodes.values().filter(counts) {
            for tool in &member.doc.capabilities.tools {
                if !tools.iter().any(|known| known.name == tool.name) {
                    tools.push(tool.clone());
                }
            }
        }
        tools.sort_by(|left, right| left.name.cmp(&right.name));
        if tools != **self.tools {
            self.tools = Arc::new(ToolSet::new(tools));
        }
    }
}

/// The fleet.
pub(crate) struct Registry {
    members: RwLock<Members>,
    costs: Mutex<CostModel>,
    changed: Arc<Signal>,
    network: Arc<dyn Network>,
    requests: AtomicU64,
    timeout: Duration,
}

impl Registry {
    pub(crate) fn new(network: Arc<dyn Network>, timeout: Duration) -> Self {
        Self {
            members: RwLock::default(),
            costs: Mutex::new(CostModel::new()),
            changed: Arc::default(),
            network,
            requests: AtomicU64::new(0),
            timeout,
        }
    }

    /// Tells when a node came, went, or changed what it offers.
    pub(crate) fn changes(&self) -> Changes {
        self.changed.listen()
    }

    fn read<T>(&self, read: impl FnOnce(&Members) -> T) -> T {
        read(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Members) -> T) -> T {
        write(&mut self.members.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn announce(&self) {
        self.changed.tell();
    }

    /// Takes a node in, or takes it back after a restart.
    pub(crate) fn register(&self, node: RegisterNode, at: Timestamp) -> Result<(), Problem> {
        check(&node)?;
        let link = self.network.connect(&node)?;
        let RegisterNode { id, instance, name, role, url, token: _, version, capabilities, hardware } = node;
        let load = kamil_protocol::node::Load {
            ram_available_bytes: hardware.ram_available_bytes,
            ..kamil_protocol::node::Load::default()
        };
        let doc = NodeDoc {
            id,
            name,
            role,
            url,
            status: NodeStatus::Alive,
            version,
            capabilities,
            hardware,
            load,
            registered_at: at,
            last_seen_at: at,
        };
        self.write(|members| {
            let before = members.nodes.remove(&id);
            if before.is_none() && members.nodes.len() >= MAX_NODES {
                let detail = format!("{MAX_NODES} nodes are registered, which is the most.");
                return Err(Problem::new(ErrorCode::Busy, detail));
            }
            // The same run that registers again (it missed an answer) goes on with what it is working on.
            let (gone, in_flight) = match before {
                Some(before) if before.instance == instance && !before.gone.is_cancelled() => {
                    (before.gone, before.in_flight)
                }
                Some(before) => {
                    before.gone.cancel();
                    Default::default()
                }
                None => Default::default(),
            };
            let member = Member { doc, instance, link, heard: Instant::now(), gone, in_flight };
            members.nodes.insert(id, member);
            members.refresh_tools();
            Ok(())
        })?;
        self.announce();
        Ok(())
    }

    /// Takes a sign of life.
    pub(crate) fn heartbeat(&self, id: NodeId, beat: Heartbeat, at: Timestamp) -> Result<(), Problem> {
        let changed = self.write(|members| {
            let member = members.nodes.get_mut(&id).filter(|member| member.instance == beat.instance);
            let member = member.ok_or_else(|| unknown(id))?;
            let revived = member.doc.status == NodeStatus::Dead;
            if revived {
                member.doc.status = NodeStatus::Alive;
                member.gone = CancellationToken::new();
            }
            member.heard = Instant::now();
            member.doc.last_seen_at = at;
            member.doc.load = beat.load;
            if !beat.accelerators.is_empty() {
                member.doc.hardware.accelerators = beat.accelerators;
            }
            let offers = beat.capabilities.is_some();
            if let Some(capabilities) = beat.capabilities {
                member.doc.capabilities = capabilities;
            }
            if offers || revived {
                members.refresh_tools();
            }
            Ok::<_, Problem>(offers || revived)
        })?;
        if changed {
            self.announce();
        }
        Ok(())
    }

    /// A node says goodbye.
    pub(crate) fn remove(&self, id: NodeId) -> Result<(), Problem> {
        self.write(|members| {
            let member = members.nodes.remove(&id).ok_or_else(|| unknown(id))?;
            member.gone.cancel();
            members.refresh_tools();
            Ok::<_, Problem>(())
        })?;
        self.announce();
        Ok(())
    }

    /// Marks nodes that have not been heard of as dead, and forgets those that have been dead for long.
    pub(crate) fn sweep(&self) {
        let changed = self.write(|members| {
            let mut changed = false;
            for member in members.nodes.values_mut() {
                if member.doc.status == NodeStatus::Alive && member.heard.elapsed() > self.timeout {
                    bury(member, "no heartbeat");
                    changed = true;
                }
            }
            let known = members.nodes.len();
            members.nodes.retain(|_, member| {
                member.doc.status == NodeStatus::Alive || member.heard.elapsed() < FORGET_AFTER
            });
            if members.nodes.len() < known {
                let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
                costs.retain_nodes(|id| members.nodes.contains_key(&id));
            }
            if members.nodes.values().any(|member| member.doc.status == NodeStatus::Dead) {
                members.refresh_tools();
            }
            changed
        });
        if changed {
            self.announce();
        }
    }

    /// A connection to the node broke: it is asked at once whether it lives.
    pub(crate) async fn suspect(&self, id: NodeId) {
        let link = self.read(|members| {
            let member = members.nodes.get(&id).filter(|member| member.doc.status == NodeStatus::Alive)?;
            Some((Arc::clone(&member.link), member.instance))
        });
        let Some((link, instance)) = link else { return };
        if tokio::time::timeout(PROBE_TIMEOUT, link.alive()).await.unwrap_or(false) {
            return;
        }
        let buried = self.write(|members| {
            let member = members
                .nodes
                .get_mut(&id)
                .filter(|member| member.instance == instance && member.doc.status == NodeStatus::Alive);
            let Some(member) = member else { return false };
            bury(member, "its connection broke and it does not answer");
            members.refresh_tools();
            true
        });
        if buried {
            self.announce();
        }
    }

    /// All nodes, by role and name.
    pub(crate) fn nodes(&self) -> Vec<NodeDoc> {
        let mut nodes: Vec<NodeDoc> =
            self.read(|members| members.nodes.values().map(|member| member.doc.clone()).collect());
        nodes.sort_by(|left, right| {
            (left.role, &left.name, left.id).cmp(&(right.role, &right.name, right.id))
        });
        nodes
    }

    /// How many living nodes have this role.
    pub(crate) fn alive(&self, role: Role) -> usize {
        self.read(|members| {
            let living = |member: &&Member| member.doc.role == role && member.doc.status == NodeStatus::Alive;
            members.nodes.values().filter(living).count()
        })
    }

    /// Whether no node was ever heard of.
    pub(crate) fn is_empty(&self) -> bool {
        self.read(|members| members.nodes.is_empty())
    }

    /// Whether a node of this role is known, living or not.
    pub(crate) fn knows(&self, role: Role) -> bool {
        self.read(|members| members.nodes.values().any(|member| member.doc.role == role))
    }

    /// The tools of all living tool nodes, by name.
    pub(crate) fn tools(&self) -> Arc<ToolSet> {
        self.read(|members| Arc::clone(&members.tools))
    }

    /// Names of the models that write text, on living nodes.
    pub(crate) fn models(&self, generating: bool) -> Vec<String> {
        self.read(|members| {
            let mut names: Vec<String> = Vec::new();
            for member in members.nodes.values().filter(|member| member.doc.status == NodeStatus::Alive) {
                for model in
                    member.doc.capabilities.models.iter().filter(|model| model.generates == generating)
                {
                    if !names.contains(&model.name) {
                        names.push(model.name.clone());
                    }
                }
            }
            names.sort_unstable();
            names
        })
    }

    /// Decides where steps would run. With `only`, that node alone is considered.
    pub(crate) fn place(&self, needs: &[StepNeeds], policy: &Policy, only: Option<NodeId>) -> Vec<Decision> {
        let now = Instant::now();
        let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(|members| {
            let considered =
                members.nodes.values().filter(|member| only.is_none_or(|only| only == member.doc.id));
            let fleet: Vec<FleetNode<'_>> = considered
                .map(|member| FleetNode::from_doc(&member.doc, remaining(&member.in_flight, now)))
                .collect();
            kamil_placement::place(&fleet, needs, &costs, policy)
        })
    }

    /// Learns from an answer.
    pub(crate) fn learn(&self, learn: impl FnOnce(&mut CostModel)) {
        learn(&mut self.costs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All that is needed to call a living node.
    pub(crate) fn handle(&self, id: NodeId) -> Option<Handle> {
        self.read(|members| {
            let member = members.nodes.get(&id).filter(|member| member.doc.status == NodeStatus::Alive)?;
            Some(Handle {
                id,
                name: member.doc.name.clone(),
                link: Arc::clone(&member.link),
                gone: member.gone.clone(),
                in_flight: Arc::clone(&member.in_flight),
            })
        })
    }

    /// Any living node of a role, the least loaded one.
    pub(crate) fn any(&self, role: Role) -> Option<Handle> {
        let id = self.read(|members| {
            let living = |member: &&Member| member.doc.role == role && member.doc.status == NodeStatus::Alive;
            let nodes = members.nodes.values().filter(living);
            nodes.min_by_key(|member| member.doc.load.running).map(|member| member.doc.id)
        })?;
        self.handle(id)
    }

    /// A living node that offers an embedding model: that of this name, or any.
    pub(crate) fn embedder(&self, model: Option<&str>) -> Option<(Handle, String)> {
        let (id, name) = self.read(|members| {
            let living = members.nodes.values().filter(|member| member.doc.status == NodeStatus::Alive);
            let offers = living.flat_map(|member| {
                member.doc.capabilities.models.iter().map(move |offer| (member.doc.id, offer))
            });
            let mut fitting = offers
                .filter(|(_, offer)| !offer.generates && model.is_none_or(|wanted| wanted == offer.name));
            fitting.next().map(|(id, offer)| (id, offer.name.clone()))
        })?;
        Some((self.handle(id)?, name))
    }

    /// The descriptor of a tool on a node.
    pub(crate) fn tool(&self, node: NodeId, name: &str) -> Option<ToolDescriptor> {
        self.read(|members| {
            let tools = &members.nodes.get(&node)?.doc.capabilities.tools;
            tools.iter().find(|tool| tool.name == name).cloned()
        })
    }

    /// Counts a request against a node until the guard is dropped.
    pub(crate) fn occupy(&self, handle: &Handle, predicted_ms: u64) -> Busy {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + Duration::from_millis(predicted_ms.min(3_600_000));
        handle.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(number, until);
        Busy { in_flight: Arc::clone(&handle.in_flight), number }
    }
}

fn bury(member: &mut Member, why: &str) {
    tracing::warn!(node = %member.doc.id, name = member.doc.name, why, "a node counts as dead");
    member.doc.status = NodeStatus::Dead;
    member.gone.cancel();
}

fn remaining(in_flight: &InFlight, now: Instant) -> Vec<u64> {
    let in_flight = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
    let left =
        |until: &Instant| u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
    in_flight.values().map(left).collect()
}

fn unknown(id: NodeId) -> Problem {
    Problem::new(ErrorCode::NodeUnknown, format!("No node {id} is registered, or another run of it is."))
        .next("Register with POST /v1/nodes.")
}

fn check(node: &RegisterNode) -> Result<(), Problem> {
    let invalid = |detail: String| Err(Problem::new(ErrorCode::ValidationFailed, detail));
    let length = node.name.chars().count();
    if !(1..=64).contains(&length) || node.name.chars().any(char::is_control) {
        return invalid("A node's name has 1 to 64 printable characters.".to_owned());
    }
    if node.role == Role::Orchestrator {
        return invalid("An orchestrator does not register as a node.".to_owned());
    }
    if node.token.len() < 16 || node.token.len() > 256 {
        return invalid("A node's token has 16 to 256 characters.".to_owned());
    }
    let allowed = match node.role {
        Role::Tool => node.capabilities.models.is_empty() && node.capabilities.memory.is_none(),
        Role::Memory => node.capabilities.tools.is_empty(),
        Role::Llm => node.capabilities.tools.is_empty() && node.capabilities.memory.is_none(),
        Role::Orchestrator => false,
    };
    if allowed { Ok(()) } else { invalid("A node offers only what belongs to its role.".to_owned()) }
}
