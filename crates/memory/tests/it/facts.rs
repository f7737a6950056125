//! Facts take each other's place, visibly.

use kamil_memory::store::StoreError;

use crate::world::{World, at, fact};

#[tokio::test]
async fn a_newer_fact_takes_the_place_of_the_older() {
    let world = World::new();
    let old = fact("Anna", "lives in", "Zagreb", "2025-03-01T00:00:00Z");
    let new = fact("anna", "Lives  in", "Split", "2026-06-01T00:00:00Z");
    let other = fact("Anna", "works in", "Zagreb", "2025-03-01T00:00:00Z");
    world.keep(&[old.clone(), new.clone(), other.clone()]).await;
    let read = world.store.get(old.id).await.unwrap();
    assert_eq!(read.superseded_by, Some(new.id));
    assert_eq!(read.fact.unwrap().valid_to, Some(at("2026-06-01T00:00:00Z")));
    for current in [&new, &other] {
        let read = world.store.get(current.id).await.unwrap();
        assert_eq!((read.superseded_by, read.fact.unwrap().valid_to), (None, None));
    }
    let found = world.found("Where does Anna live?").await;
    assert_eq!(found[0], "anna Lives  in Split");
    assert!(!found.contains(&old.text), "what no longer holds does not come up: {found:?}");
    assert_eq!(world.found("Where did Anna live in May 2025?").await[0], "Anna lives in Zagreb");
}

#[tokio::test]
async fn a_fact_about_the_past_does_not_take_the_place_of_the_present_one() {
    let world = World::new();
    let new = fact("Anna", "lives in", "Split", "2026-06-01T00:00:00Z");
    let old = fact("Anna", "lives in", "Zagreb", "2025-03-01T00:00:00Z");
    world.keep(std::slice::from_ref(&new)).await;
    world.keep(std::slice::from_ref(&old)).await;
    assert_eq!(world.store.get(new.id).await.unwrap().superseded_by, None);
    assert_eq!(world.store.get(old.id).await.unwrap().superseded_by, Some(new.id));
}

#[tokio::test]
async fn forgetting_a_fact_brings_the_one_before_back() {
    let world = World::new();
    let steps: Vec<_> = [("Zagreb", "2024"), ("Split", "2025"), ("Osijek", "2026")]
        .map(|(town, year)| fact("Anna", "lives in", town, &format!("{year}-01-01T00:00:00Z")))
        .to_vec();
    world.keep(&steps).await;
    world.store.forget(steps[1].id).await.unwrap();
    assert_eq!(world.store.get(steps[0].id).await.unwrap().superseded_by, Some(steps[2].id));
    world.store.forget(steps[2].id).await.unwrap();
    let read = world.store.get(steps[0].id).await.unwrap();
    assert_eq!((read.superseded_by, read.fact.unwrap().valid_to), (None, None));
}

#[tokio::test]
async fn the_text_of_a_fact_alone_is_not_edited() {
    let world = World::new();
    let kept = fact("Anna", "lives in", "Zagreb", "2025-03-01T00:00:00Z");
    world.keep(std::slice::from_ref(&kept)).await;
    let refused = world.store.edit(kept.id, "Anna lives in Rome".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::FactNotEdited(_))));
    assert!(world.found("Rome").await.is_empty());
}
