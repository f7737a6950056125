//! The nodes that are registered: what they offer, whether they live, what they are busy with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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
use tokio::{sync::Notify, time::Instant};
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

/// Wait after the first refusal of a full node that does not say when to come back; doubled up to the longest.
const FIRST_BACKOFF_MS: u64 = 100;
const LONGEST_BACKOFF_MS: u64 = 5_000;

/// What is known of a node's slots.
#[derive(Debug, Default)]
struct Slots {
    /// Requests that the node is working on: the moments at which they should end, as predicted.
    in_flight: BTreeMap<u64, Instant>,
    /// The node said that it is full, and when to come back.
    full_until: Option<Instant>,
    /// How often in a row it said so.
    refusals: u32,
}

type SharedSlots = Arc<Mutex<Slots>>;

fn lock(slots: &SharedSlots) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the dispatcher that a slot came free, if anything waits for one.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    /// How many steps wait for a slot.
    pub(crate) waiting: AtomicUsize,
    pub(crate) freed: Notify,
}

impl Relief {
    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

struct Member {
    doc: NodeDoc,
    instance: InstanceId,
    link: Arc<dyn Link>,
    heard: Instant,
    /// Cancelled when this run of the node is over.
    gone: CancellationToken,
    slots: SharedSlots,
}

/// A node that was chosen, with all that is needed to call it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) gone: CancellationToken,
    slots: SharedSlots,
    /// How many requests it takes at once.
    capacity: usize,
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

/// A slot of a node, for one request; given back when dropped.
pub(crate) struct Busy {
    slots: SharedSlots,
    number: u64,
    relief: Arc<Relief>,
}

impl Busy {
    /// The node took the request: it is not full.
    pub(crate) fn taken(&self) {
        let mut slots = lock(&self.slots);
        (slots.refusals, slots.full_until) = (0, None);
    }

    /// The node answered that it is full. It is left alone for as long as it asks for, within bounds.
    pub(crate) fn refused(&self, retry_after_ms: Option<u64>) {
        let mut slots = lock(&self.slots);
        let backoff = (FIRST_BACKOFF_MS << slots.refusals.min(6)).min(LONGEST_BACKOFF_MS);
        let pause = retry_after_ms.map_or(backoff, |asked| asked.clamp(FIRST_BACKOFF_MS, backoff.max(1_000)));
        slots.refusals = slots.refusals.saturating_add(1);
        slots.full_until = Some(Instant::now() + Duration::from_millis(pause));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.slots).in_flight.remove(&self.number);
        self.relief.tell();
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
    relief: Arc<Relief>,
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
            relief: Arc::default(),
        }
    }

    /// What the dispatcher listens to.
    pub(crate) fn relief(&self) -> &Arc<Relief> {
        &self.relief
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
            let (gone, slots) = match before {
                Some(before) if before.instance == instance && !before.gone.is_cancelled() => {
                    (before.gone, before.slots)
                }
                Some(before) => {
                    before.gone.cancel();
                    Default::default()
                }
                None => Default::default(),
            };
            let member = Member { doc, instance, link, heard: Instant::now(), gone, slots };
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
        self.place_behind(&BTreeMap::new(), needs, policy, only)
    }

    /// The same, as if each of these nodes had this work too: what goes there first, in predicted milliseconds.
    pub(crate) fn place_behind(
        &self,
        ahead: &BTreeMap<NodeId, Vec<u64>>,
        needs: &[StepNeeds],
        policy: &Policy,
        only: Option<NodeId>,
    ) -> Vec<Decision> {
        let now = Instant::now();
        self.read(|members| {
            // In this order everywhere: the members first, then the costs.
            let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
            let considered =
                members.nodes.values().filter(|member| only.is_none_or(|only| only == member.doc.id));
            let node = |member| {
                let mut work = remaining(member, now);
                work.extend(ahead.get(&member.doc.id).into_iter().flatten());
                FleetNode::from_doc(&member.doc, work)
            };
            let fleet: Vec<FleetNode<'_>> = considered.map(node).collect();
            kamil_placement::place(&fleet, needs, &costs, policy)
        })
    }

    /// How many slots are free on the living nodes of a role.
    pub(crate) fn free_slots(&self, role: Role) -> usize {
        let now = Instant::now();
        self.read(|members| {
            let living = members
                .nodes
                .values()
                .filter(|member| member.doc.role == role && member.doc.status == NodeStatus::Alive);
            living.map(|member| lock(&member.slots).free(capacity(member), now)).sum()
        })
    }

    /// When the next of the nodes that said they are full may be asked again.
    pub(crate) fn next_relief(&self) -> Option<Instant> {
        let now = Instant::now();
        self.read(|members| {
            let until = members.nodes.values().filter_map(|member| lock(&member.slots).full_until);
            until.filter(|until| *until > now).min()
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
                role: member.doc.role,
                link: Arc::clone(&member.link),
                gone: member.gone.clone(),
                slots: Arc::clone(&member.slots),
                capacity: capacity(member),
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

    /// Takes a slot of a node, until the guard is dropped; `None` if all are taken or the node said it is full.
    pub(crate) fn occupy(&self, handle: &Handle, predicted_ms: u64) -> Option<Busy> {
        let now = Instant::now();
        let mut slots = lock(&handle.slots);
        if slots.free(handle.capacity, now) == 0 {
            return None;
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        slots.in_flight.insert(number, now + Duration::from_millis(predicted_ms.min(3_600_000)));
        Some(Busy { slots: Arc::clone(&handle.slots), number, relief: Arc::clone(&self.relief) })
    }
}

impl Slots {
    fn free(&self, capacity: usize, now: Instant) -> usize {
        if self.full_until.is_some_and(|until| until > now) {
            return 0;
        }
        capacity.saturating_sub(self.in_flight.len())
    }
}

/// A node takes this many requests at once.
fn capacity(member: &Member) -> usize {
    member.doc.capabilities.slots.max(1) as usize
}

fn bury(member: &mut Member, why: &str) {
    tracing::warn!(node = %member.doc.id, name = member.doc.name, why, "a node counts as dead");
    member.doc.status = NodeStatus::Dead;
    member.gone.cancel();
}

/// What is left of a node's work, in predicted milliseconds for each request.
fn remaining(member: &Member, now: Instant) -> Vec<u64> {
    let ms = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let slots = lock(&member.slots);
    // What takes longer than predicted is expected to take as long again as it is late.
    let left = |until: &Instant| ms((*until - now).max(now - *until));
    let mut work: Vec<u64> = slots.in_flight.values().map(left).collect();
    if let Some(until) = slots.full_until.filter(|until| *until > now) {
        let taken = capacity(member).saturating_sub(work.len());
        work.extend(std::iter::repeat_n(ms(until - now), taken));
    }
    work
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
