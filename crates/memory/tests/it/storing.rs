//! What was acknowledged is there.

use kamil_memory::{SqliteStore, store::StoreError};
use kamil_protocol::{
    MemoryId, SessionId, TaskId,
    label::{Labels, Source, Trust},
    memory::{MemoryKind, Origin, Provenance},
};

use crate::world::{World, at, fact, memory, now, passage, turn};

#[tokio::test]
async fn every_kind_comes_back_as_it_went_in() {
    let world = World::new();
    let mut full =
        memory(MemoryKind::Episodic, "Trained a tree\0 on iris: ✓ 97 %", "2026-11-20T08:30:00.123456Z");
    full.session = Some(SessionId::generate());
    full.source = Provenance {
        origin: Origin::Tool,
        task: Some(TaskId::generate()),
        step: Some("s1.train".parse().unwrap()),
        labels: Some(Labels { sources: vec![Source::Tool, Source::File], trust: Trust::Untrusted }),
    };
    let mut labelled = fact("Anna", "works in", "Split", "2026-11-20T08:00:00Z");
    labelled.source.labels = Some(Labels { sources: vec![Source::Person], trust: Trust::Trusted });
    let all = [
        turn(SessionId::generate(), "Hello", "2026-11-20T08:00:00Z"),
        passage("A passage"),
        full,
        fact("Anna", "lives in", "Split", "2026-11-20T08:00:00Z"),
        labelled,
    ];
    world.keep(&all).await;
    for written in all {
        let read = world.store.get(written.id).await.unwrap();
        assert_eq!((read.kind, read.text, read.fact), (written.kind, written.text, written.fact));
        assert_eq!((read.session, read.source), (written.session, written.source));
        assert_eq!((read.occurred_at, read.created_at), (written.occurred_at, now()));
        assert_eq!(read.superseded_by, None);
    }
    let stats = world.store.stats().await.unwrap();
    assert_eq!(stats.total, 5);
    assert!(stats.by_kind.values().all(|count| *count >= 1), "{stats:?}");
    assert!(stats.bytes > 0);
}

#[tokio::test]
async fn a_repeat_changes_nothing() {
    let world = World::new();
    let first = passage("The first text");
    world.keep(std::slice::from_ref(&first)).await;
    let mut repeat = first.clone();
    repeat.text = "Another text".to_owned();
    let fresh = passage("New");
    let reply = world.store.remember(vec![repeat, fresh.clone(), fresh.clone()], now()).await.unwrap();
    assert_eq!((reply.stored, reply.known), (vec![fresh.id], vec![first.id, fresh.id]));
    assert_eq!(world.store.get(first.id).await.unwrap().text, "The first text");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let world = World::new();
    let kept: Vec<_> =
        (0..50).map(|number| passage(&format!("Passage number {number} on volcanoes"))).collect();
    world.keep(&kept).await;
    // The files as a crash would leave them: nothing was closed, the log was not written back.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["memory.db", "memory.db-wal"] {
        std::fs::copy(world.folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    assert!(std::fs::metadata(crashed.path().join("memory.db-wal")).unwrap().len() > 0);
    let store = SqliteStore::open(&crashed.path().join("memory.db")).unwrap();
    for memory in kept {
        assert_eq!(store.get(memory.id).await.unwrap().text, memory.text);
    }
    let crashed_world = World { folder: crashed, store };
    assert_eq!(crashed_world.found("volcanoes").await.len(), 8);
}

#[tokio::test]
async fn writers_at_the_same_time_all_get_their_answer() {
    let world = World::new();
    let writes = (0..200).map(|number| {
        let store = world.store.clone();
        tokio::spawn(async move {
            store.remember(vec![passage(&format!("Number {number}"))], now()).await.unwrap().stored.len()
        })
    });
    let writes: Vec<_> = writes.collect();
    let mut stored = 0;
    for write in writes {
        stored += write.await.unwrap();
    }
    assert_eq!(stored, 200);
    assert_eq!(world.store.stats().await.unwrap().total, 200);
}

#[tokio::test]
async fn pages_hold_everything_once_newest_first() {
    let world = World::new();
    let all: Vec<_> = (0..25).map(|number| passage(&format!("Number {number}"))).collect();
    world.keep(&all).await;
    world.keep(&[memory(MemoryKind::Episodic, "apart", "2026-11-01T00:00:00Z")]).await;
    let mut seen: Vec<MemoryId> = Vec::new();
    let mut before = None;
    loop {
        let (items, next) = world.store.list(Some(MemoryKind::Semantic), before, 10).await.unwrap();
        seen.extend(items.iter().map(|memory| memory.id));
        let Some(next) = next else { break };
        assert_eq!(items.len(), 10);
        before = Some(next);
    }
    let newest_first: Vec<MemoryId> = all.iter().rev().map(|memory| memory.id).collect();
    assert_eq!(seen, newest_first);
    assert_eq!(world.store.list(None, None, 1).await.unwrap().0[0].text, "apart");
}

#[tokio::test]
async fn embeddings_are_kept_and_read_again_at_the_next_start() {
    let world = World::new();
    world.keep(&[passage("one"), passage("two")]).await;
    world.keep(&[turn(SessionId::generate(), "a turn", "2026-11-01T00:00:00Z")]).await;
    let pending = world.store.unembedded("m".to_owned(), 10).await.unwrap();
    assert_eq!(pending.iter().map(|memory| memory.text.as_str()).collect::<Vec<_>>(), ["two", "one"]);
    let embeddings = pending.into_iter().map(|memory| (memory, vec![1.0, 0.0])).collect();
    world.store.embed("m".to_owned(), embeddings).await.unwrap();
    assert_eq!(world.store.stats().await.unwrap().embedded, 2);
    assert_eq!(world.store.count_unembedded("m".to_owned()).await.unwrap(), 0);
    assert_eq!(world.store.count_unembedded("another".to_owned()).await.unwrap(), 2);

    let copy = tempfile::tempdir().unwrap();
    for name in ["memory.db", "memory.db-wal"] {
        std::fs::copy(world.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = SqliteStore::open(&copy.path().join("memory.db")).unwrap();
    assert_eq!(store.stats().await.unwrap().embedded, 2);
}

#[tokio::test]
async fn an_edit_replaces_words_and_embedding() {
    let world = World::new();
    let edited = passage("The meeting is in Zagreb");
    world.keep(std::slice::from_ref(&edited)).await;
    let pending = world.store.unembedded("m".to_owned(), 10).await.unwrap();
    let stale = pending.clone();
    world
        .store
        .embed("m".to_owned(), pending.into_iter().map(|m| (m, vec![1.0, 0.0])).collect())
        .await
        .unwrap();
    let after = world.store.edit(edited.id, "The meeting is in Rijeka".to_owned()).await.unwrap();
    assert_eq!(after.text, "The meeting is in Rijeka");
    assert!(world.found("Zagreb").await.is_empty());
    assert_eq!(world.found("Rijeka").await.len(), 1);
    assert_eq!(world.store.stats().await.unwrap().embedded, 0);
    // An embedding of the old text that comes late is not taken.
    world
        .store
        .embed("m".to_owned(), stale.into_iter().map(|m| (m, vec![1.0, 0.0])).collect())
        .await
        .unwrap();
    assert_eq!(world.store.stats().await.unwrap().embedded, 0);
    assert!(matches!(
        world.store.edit(MemoryId::generate(), "x".to_owned()).await,
        Err(StoreError::Unknown(_))
    ));
}

#[tokio::test]
async fn a_second_node_on_the_same_file_is_refused() {
    let world = World::new();
    let path = world.folder.path().join("memory.db");
    let refused = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
}

#[tokio::test]
async fn files_that_are_no_store_or_a_newer_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    std::fs::write(&path, vec![b'x'; 8_192]).unwrap();
    let refused = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(refused.contains("cannot be opened") && refused.contains("memory.db"), "{refused}");
    let newer = folder.path().join("newer.db");
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = SqliteStore::open(&newer).unwrap_err().to_string();
    assert!(refused.contains("version 99"), "{refused}");
    assert_eq!(at("2026-11-22T12:00:00Z"), now());
}
