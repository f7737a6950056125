//! The one queue of all steps that wait for a slot: a slot that comes free goes to the first who can use it.
//!
//! A driver that finds every node full hands its step in and gets a [`Ticket`]. Whenever a slot comes free, a node comes or
//! changes, or one that said it is full may be asked again, the dispatcher goes through the queue in its order, takes the
//! slot for whom it is, and tells that driver where. The slot is held from that moment on, so nobody else can take it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use kamil_placement::{Avoid, Decision, Policy, fleet::role_for};
use kamil_protocol::{
    NodeId, StepId, TaskId,
    node::Role,
    placement::StepNeeds,
    task::{Priority, QueuePlace},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    measures::Measures,
    queue::{Queue, Rank, Standing},
    registry::{Busy, Handle, Registry},
};

/// So many steps with the same needs may find no slot worth having before the others like them are passed over.
const TRIES_ALIKE: u32 = 32;

/// A step that waits for a slot.
pub(crate) struct Waiter {
    pub(crate) task: TaskId,
    pub(crate) step: StepId,
    pub(crate) needs: StepNeeds,
    /// Nodes where an attempt failed: taken only if there is no other.
    pub(crate) failed_on: Vec<NodeId>,
    /// The only node that may be asked.
    pub(crate) only: Option<NodeId>,
    pub(crate) reply: mpsc::Sender<Box<Grant>>,
}

/// What a waiter gets.
pub(crate) struct Grant {
    pub(crate) step: StepId,
    pub(crate) decision: Decision,
    /// The node and the slot on it; `None` if no node could run the step any more, full or not.
    pub(crate) slot: Option<(Handle, Busy)>,
}

/// A place in the queue, given up when dropped.
pub(crate) struct Ticket {
    dispatcher: Arc<Dispatcher>,
    role: Role,
    rank: Rank,
}

impl Ticket {
    /// The place at this moment; `None` once a slot is on its way.
    pub(crate) fn place(&self) -> Option<QueuePlace> {
        self.dispatcher.lock().get(&self.role)?.standing(self.rank).map(place)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.dispatcher.leave(self.role, self.rank);
    }
}

fn place(standing: Standing) -> QueuePlace {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    QueuePlace { position: number(standing.position), of: number(standing.of) }
}

type Queues = BTreeMap<Role, Queue<Waiter>>;

/// The queues, one for each kind of node.
pub(crate) struct Dispatcher {
    queues: Mutex<Queues>,
    registry: Arc<Registry>,
    waiting: kamil_node::Gauge,
    begun: Instant,
}

impl Dispatcher {
    pub(crate) fn new(registry: Arc<Registry>, measures: &Measures) -> Arc<Self> {
        let waiting = measures.waiting_steps.clone();
        Arc::new(Self { queues: Mutex::default(), registry, waiting, begun: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot at once, which nobody may do while others wait for that kind of node.
    pub(crate) fn slot_now(&self, role: Role, node: &Handle, predicted_ms: u64) -> Option<Busy> {
        let anybody = self.registry.relief().waiting.load(Ordering::SeqCst) > 0;
        if anybody && self.lock().get(&role).is_some_and(|queue| queue.len() > 0) {
            return None;
        }
        self.registry.occupy(node, predicted_ms)
    }

    /// Takes in a step that began to wait at `since`.
    pub(crate) fn join(self: &Arc<Self>, priority: Priority, since: Instant, waiter: Waiter) -> Ticket {
        let role = role_for(waiter.needs.kind);
        let since_ms = since.saturating_duration_since(self.begun).as_millis();
        let since_ms = u64::try_from(since_ms).unwrap_or(u64::MAX);
        let relief = self.registry.relief();
        relief.waiting.fetch_add(1, Ordering::SeqCst);
        self.waiting.add(1);
        let rank = self.lock().entry(role).or_default().join(priority, since_ms, waiter);
        // A slot may have come free before the step was in the queue.
        relief.freed.notify_one();
        Ticket { dispatcher: Arc::clone(self), role, rank }
    }

    /// The places of all who wait, or of the steps of one task.
    pub(crate) fn places(&self, only: Option<TaskId>) -> BTreeMap<(TaskId, StepId), QueuePlace> {
        let queues = self.lock();
        let of_queue = queues.values().flat_map(|queue| {
            let of = queue.len();
            let waiters = queue.iter().enumerate();
            let waiters = waiters.filter(move |(_, (_, waiter))| only.is_none_or(|only| only == waiter.task));
            waiters.map(move |(before, (_, waiter))| {
                let standing = Standing { position: before + 1, of };
                ((waiter.task, waiter.step.clone()), place(standing))
            })
        });
        of_queue.collect()
    }

    fn leave(&self, role: Role, rank: Rank) {
        let left = self.lock().get_mut(&role).and_then(|queue| queue.leave(rank));
        if left.is_some() {
            self.gone();
        }
    }

    fn gone(&self) {
        self.registry.relief().waiting.fetch_sub(1, Ordering::SeqCst);
        self.waiting.add(-1);
    }

    /// Gives out slots as they come free, until the shutdown.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let relief = Arc::clone(self.registry.relief());
        let mut changes = self.registry.changes();
        let mut fleet_changed = false;
        loop {
            let anybody = relief.waiting.load(Ordering::SeqCst) > 0;
            if anybody {
                self.give_out(fleet_changed);
            }
            let look_at = if anybody { self.registry.next_relief() } else { None };
            fleet_changed = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = changes.changed() => true,
                () = relief.freed.notified() => false,
                () = until(look_at) => false,
            };
        }
    }

    fn give_out(&self, fleet_changed: bool) {
        for role in [Role::Llm, Role::Tool, Role::Memory] {
            let grants = {
                let mut queues = self.lock();
                match queues.get_mut(&role) {
                    Some(queue) if queue.len() > 0 => self.choose(role, queue, fleet_changed),
                    _ => continue,
                }
            };
            for (waiter, grant) in grants {
                self.gone();
                // There is room for every step of the task; a driver that has ended needs nothing, and its slot is free again.
                let _ = waiter.reply.try_send(grant);
            }
        }
    }

    /// Goes through the queue in its order: whom a free slot suits best takes it, whom a busy node suits better stays.
    ///
    /// After a change of the fleet everybody is looked at, since what they need may have gone altogether.
    fn choose(
        &self,
        role: Role,
        queue: &mut Queue<Waiter>,
        fleet_changed: bool,
    ) -> Vec<(Waiter, Box<Grant>)> {
        let mut free = self.registry.free_slots(role);
        let mut ahead: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        let mut alike: BTreeMap<_, u32> = BTreeMap::new();
        let mut chosen = Vec::new();
        for (rank, waiter) in queue.iter() {
            if free == 0 && !fleet_changed {
                break;
            }
            let needs = &waiter.needs;
            let tries = alike.entry((&needs.tool, &needs.model, waiter.only)).or_default();
            if *tries >= if free == 0 { 1 } else { TRIES_ALIKE } {
                continue;
            }
            let decision = self.decide(waiter, &ahead);
            let Some(candidate) = decision.placement.chosen.clone() else {
                chosen.push((rank, decision, None));
                continue;
            };
            let handle = self.registry.handle(candidate.node);
            let slot = handle.and_then(|handle| {
                let busy = self.registry.occupy(&handle, candidate.predicted_ms)?;
                Some((handle, busy))
            });
            match slot {
                Some(slot) => {
                    free = free.saturating_sub(1);
                    chosen.push((rank, decision, Some(slot)));
                }
                None => {
                    *tries += 1;
                    let work_ms = candidate.predicted_ms.saturating_sub(decision.wait_ms);
                    ahead.entry(candidate.node).or_default().push(work_ms);
                }
            }
        }
        let grant = |(rank, decision, slot)| {
            let waiter = queue.leave(rank)?;
            let grant = Grant { step: waiter.step.clone(), decision, slot };
            Some((waiter, Box::new(grant)))
        };
        chosen.into_iter().filter_map(grant).collect()
    }

    fn decide(&self, waiter: &Waiter, ahead: &BTreeMap<NodeId, Vec<u64>>) -> Decision {
        let needs = std::slice::from_ref(&waiter.needs);
        let avoid = waiter.failed_on.iter().map(|node| Avoid {
            step: None,
            node: *node,
            reason: "an earlier attempt failed there".to_owned(),
        });
        let policy = Policy { avoid: avoid.collect(), ..Policy::default() };
        let place = |policy: &Policy| {
            self.registry.place_behind(ahead, needs, policy, waiter.only).pop().unwrap_or_default()
        };
        let decision = place(&policy);
        if decision.placement.chosen.is_some() || policy.avoid.is_empty() {
            return decision;
        }
        place(&Policy::default())
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
