//! What is forgotten is gone from the files.

use std::path::Path;

use kamil_memory::store::StoreError;

use crate::world::{World, asking, fact, now, passage};

const CANARIES: [&str; 3] = ["qxzjvkcanary", "wypfhbirdsong", "Mzrtgksecret"];

/// Whether the bytes stand anywhere in the store's files.
fn stands(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
    })
}

#[tokio::test]
async fn nothing_of_a_forgotten_memory_stays_in_the_files() {
    let world = World::new();
    let others: Vec<_> = (0..40).map(|number| passage(&format!("Ordinary text number {number}"))).collect();
    world.keep(&others).await;
    let secret = passage(&format!("The {} sings {} near {}", CANARIES[0], CANARIES[1], CANARIES[2]));
    let secret_fact = fact(CANARIES[0], "knows", CANARIES[1], "2026-11-01T00:00:00Z");
    world.keep(&[secret.clone(), secret_fact.clone()]).await;
    let vector = [0.123_456_78_f32, -0.987_654_3];
    let vector_bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    let pending = world.store.unembedded("m".to_owned(), 2).await.unwrap();
    world
        .store
        .embed("m".to_owned(), pending.into_iter().map(|m| (m, vector.to_vec())).collect())
        .await
        .unwrap();

    let folder = world.folder.path();
    for canary in CANARIES {
        assert!(stands(folder, canary.as_bytes()), "{canary} must be findable before");
    }
    assert!(stands(folder, &vector_bytes));
    assert_eq!(world.found(CANARIES[0]).await.len(), 2);

    world.store.forget(secret.id).await.unwrap();
    world.store.forget(secret_fact.id).await.unwrap();
    for canary in CANARIES {
        assert!(!stands(folder, canary.as_bytes()), "{canary} is still in a file");
        // The index cuts off what a word shares with the one before.
        assert!(!stands(folder, &canary.as_bytes()[3..]), "the rest of {canary} is still in a file");
    }
    assert!(!stands(folder, &vector_bytes), "an embedding is still in a file");
    assert!(world.found(CANARIES[0]).await.is_empty());
    assert!(world.recall(asking("Ordinary text number 7")).await.hits[0].memory.text.ends_with(" 7"));
    assert_eq!(world.store.stats().await.unwrap().embedded, 0);
}

#[tokio::test]
async fn the_old_text_of_an_edit_goes_too() {
    let world = World::new();
    let edited = passage(&format!("Call {} tomorrow", CANARIES[0]));
    world.keep(std::slice::from_ref(&edited)).await;
    assert!(stands(world.folder.path(), CANARIES[0].as_bytes()));
    world.store.edit(edited.id, "Call nobody".to_owned()).await.unwrap();
    assert!(!stands(world.folder.path(), &CANARIES[0].as_bytes()[3..]));
}

#[tokio::test]
async fn forgotten_stays_forgotten() {
    let world = World::new();
    let secret = passage("A secret about Vesuvius");
    world.keep(std::slice::from_ref(&secret)).await;
    world.store.forget(secret.id).await.unwrap();
    assert!(matches!(world.store.forget(secret.id).await, Err(StoreError::Unknown(id)) if id == secret.id));
    let reply = world.store.remember(vec![secret.clone()], now()).await.unwrap();
    assert_eq!((reply.stored, reply.known), (vec![], vec![secret.id]));
    assert!(world.found("Vesuvius").await.is_empty());
}
