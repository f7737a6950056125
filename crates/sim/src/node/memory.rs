//! Memory nodes: what they acknowledged stays.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use kamil_orchestrator::NodeReply;
use kamil_protocol::{
    MemoryId, Problem,
    memory::{Memory, MemoryKind, NewMemory, RecallReply, RecallRequest, RememberReply, RememberRequest},
};

use super::{Node, Store, wrong_role};

/// Turns of a conversation that are recalled at most.
const TURNS: usize = 8;

/// What is kept, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Memories(Mutex<BTreeMap<MemoryId, (usize, NewMemory)>>);

impl Memories {
    /// Keeps all of it at once.
    fn keep(&self, memories: &[NewMemory]) -> RememberReply {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut stored, mut known) = (Vec::new(), Vec::new());
        for memory in memories {
            let place = kept.len();
            match kept.entry(memory.id) {
                Entry::Occupied(_) => known.push(memory.id),
                Entry::Vacant(free) => {
                    free.insert((place, memory.clone()));
                    stored.push(memory.id);
                }
            }
        }
        RememberReply { stored, known }
    }

    fn conversation(&self, request: &RecallRequest) -> Vec<Memory> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turns: Vec<&(usize, NewMemory)> = kept
            .values()
            .filter(|(_, memory)| memory.kind == MemoryKind::Working && memory.session == request.session)
            .collect();
        turns.sort_by_key(|(place, _)| *place);
        let turns = turns.iter().rev().take(TURNS).rev();
        turns.map(|(_, memory)| as_recalled(memory)).collect()
    }

    pub(super) fn forget_all(&self, told: impl Fn(MemoryId)) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keys().for_each(|id| told(*id));
        kept.clear();
    }
}

fn as_recalled(memory: &NewMemory) -> Memory {
    Memory {
        id: memory.id,
        kind: memory.kind,
        text: memory.text.clone(),
        fact: memory.fact.clone(),
        superseded_by: None,
        session: memory.session,
        source: memory.source.clone(),
        occurred_at: memory.occurred_at,
        created_at: memory.occurred_at,
    }
}

impl Node {
    fn memories(&self) -> Result<&Memories, Problem> {
        match &self.store {
            Store::Memories(memories) => Ok(memories),
            _ => Err(wrong_role()),
        }
    }

    pub(super) async fn recall(&self, request: &RecallRequest) -> Result<NodeReply, Problem> {
        self.takes(1, 50).await;
        self.fault()?;
        let conversation =
            if request.session.is_some() { self.memories()?.conversation(request) } else { Vec::new() };
        let reply = RecallReply { hits: Vec::new(), conversation, took_ms: 1.0, degraded: Vec::new() };
        Ok(NodeReply::Recalled(Box::new(reply)))
    }

    pub(super) async fn remember(&self, request: &RememberRequest) -> Result<NodeReply, Problem> {
        self.takes(1, 30).await;
        self.fault()?;
        let reply = self.memories()?.keep(&request.memories);
        for id in &reply.stored {
            self.oracle.remembered(*id);
        }
        self.takes(1, 30).await;
        Ok(NodeReply::Remembered(reply))
    }
}
