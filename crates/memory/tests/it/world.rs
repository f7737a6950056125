//! Stores and memories to test with.

use jiff::Timestamp;
use kamil_memory::{Recalled, SqliteStore, recall};
use kamil_protocol::{
    MemoryId, SessionId,
    memory::{Fact, Hit, MemoryKind, NewMemory, Origin, Provenance, RecallRequest},
};
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: SqliteStore,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("memory.db")).unwrap();
        Self { folder, store }
    }

    pub(crate) async fn keep(&self, memories: &[NewMemory]) {
        let reply = self.store.remember(memories.to_vec(), now()).await.unwrap();
        assert_eq!(reply.stored.len(), memories.len());
    }

    pub(crate) async fn recall(&self, request: RecallRequest) -> Recalled {
        recall(&self.store, request, None, now()).await.unwrap()
    }

    pub(crate) async fn hits(&self, query: &str) -> Vec<Hit> {
        self.recall(asking(query)).await.hits
    }

    pub(crate) async fn found(&self, query: &str) -> Vec<String> {
        self.hits(query).await.into_iter().map(|hit| hit.memory.text).collect()
    }
}

pub(crate) fn now() -> Timestamp {
    at("2026-11-22T12:00:00Z")
}

pub(crate) fn at(moment: &str) -> Timestamp {
    moment.parse().unwrap()
}

pub(crate) fn asking(query: &str) -> RecallRequest {
    RecallRequest {
        query: query.to_owned(),
        limit: None,
        kinds: Vec::new(),
        session: None,
        conversation_tokens: None,
        now: None,
    }
}

pub(crate) fn memory(kind: MemoryKind, text: &str, occurred_at: &str) -> NewMemory {
    NewMemory {
        id: MemoryId::generate(),
        kind,
        text: text.to_owned(),
        fact: None,
        session: None,
        source: Provenance { origin: Origin::Person, task: None, step: None, labels: None },
        occurred_at: at(occurred_at),
    }
}

pub(crate) fn passage(text: &str) -> NewMemory {
    memory(MemoryKind::Semantic, text, "2026-11-01T12:00:00Z")
}

pub(crate) fn turn(session: SessionId, text: &str, occurred_at: &str) -> NewMemory {
    NewMemory { session: Some(session), ..memory(MemoryKind::Working, text, occurred_at) }
}

pub(crate) fn fact(subject: &str, predicate: &str, object: &str, occurred_at: &str) -> NewMemory {
    let fact = Fact {
        subject: subject.to_owned(),
        predicate: predicate.to_owned(),
        object: object.to_owned(),
        valid_from: None,
        valid_to: None,
    };
    let text = format!("{subject} {predicate} {object}");
    NewMemory { fact: Some(fact), ..memory(MemoryKind::Structured, &text, occurred_at) }
}
