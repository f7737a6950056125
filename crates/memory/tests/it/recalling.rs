//! What recall finds, without a model; `meaning` has the rest.

use kamil_memory::recall;
use kamil_protocol::{
    SessionId,
    memory::{MemoryKind, RecallRequest, Signal},
};

use crate::world::{World, asking, memory, now, passage, turn};

fn episode(text: &str, occurred_at: &str) -> kamil_protocol::memory::NewMemory {
    memory(MemoryKind::Episodic, text, occurred_at)
}

#[tokio::test]
async fn no_text_of_a_person_is_query_syntax() {
    let world = World::new();
    world.keep(&[passage("plain text about rivers")]).await;
    for hostile in [
        "\"",
        "\"\"\"",
        "rivers\" OR \"",
        "NEAR(rivers, 2)",
        "text:rivers",
        "-rivers",
        "^rivers",
        "rivers*",
        "(rivers",
        "rivers AND",
        "AND OR NOT",
        "'; DROP TABLE entry; --",
        "\0rivers",
        "{rivers}",
        "rivers\\",
        "+",
        "💥 rivers 💥",
    ] {
        let recalled = recall(&world.store, asking(hostile), None, now()).await.unwrap();
        if hostile.contains("rivers") {
            assert_eq!(recalled.hits.len(), 1, "{hostile}");
        }
    }
    assert_eq!(world.found("What about the rivers?").await.len(), 1);
}

#[tokio::test]
async fn words_in_any_form_find_and_what_does_not_fit_stays_away() {
    let world = World::new();
    world
        .keep(&[
            passage("Trained a decision tree on the iris data; accuracy 0.97."),
            passage("The dentist appointment is on Monday at nine."),
            passage("Pasta with tomatoes and basil, twenty minutes."),
        ])
        .await;
    let hits = world.hits("Which model did I train on iris?").await;
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert!(hits[0].memory.text.starts_with("Trained"));
    let lexical = &hits[0].signals[0];
    assert_eq!(lexical.signal, Signal::Lexical);
    assert!(lexical.raw > 0.0 && lexical.contribution > 0.1);
    let sum: f32 = hits[0].signals.iter().map(|signal| signal.contribution).sum();
    assert!((hits[0].score - sum).abs() < 1e-6);
    assert!(world.found("Explain what a hash chain is in two sentences.").await.is_empty());
}

#[tokio::test]
async fn the_time_that_is_meant_decides() {
    let world = World::new();
    world
        .keep(&[
            episode("Trained a forest on wine; accuracy 0.91", "2026-11-10T12:00:00Z"),
            episode("Trained a tree on iris; accuracy 0.97", "2026-11-21T12:00:00Z"),
            episode("Trained a line on diabetes; accuracy 0.44", "2026-10-05T12:00:00Z"),
            episode("Read a book about whales", "2026-11-21T20:00:00Z"),
        ])
        .await;
    let latest = world.hits("What did I train last time, and how good was it?").await;
    assert!(latest[0].memory.text.contains("iris"), "{latest:?}");
    assert!(latest[0].signals.iter().any(|signal| signal.signal == Signal::Time));
    assert!(!latest.iter().any(|hit| hit.memory.text.contains("whales")), "{latest:?}");
    assert!(world.found("What did I train last month?").await[0].contains("diabetes"));
    assert!(world.found("What did I train on 2026-11-10?").await[0].contains("wine"));
    let yesterday = world.found("What did I do yesterday?").await;
    assert_eq!(yesterday.len(), 2, "{yesterday:?}");
    assert!(yesterday[0].contains("whales") && yesterday[1].contains("iris"));
    assert!(world.found("What did we do last?").await[0].contains("whales"));
}

#[tokio::test]
async fn names_and_numbers_count() {
    let world = World::new();
    world
        .keep(&[
            passage("The report for Marko about the heating is in report-17.pdf"),
            passage("The report for Lucija about the heating is in report-18.pdf"),
        ])
        .await;
    let hits = world.hits("Where is the report about the heating for Lucija?").await;
    assert!(hits[0].memory.text.contains("Lucija"));
    let entity =
        hits[0].signals.iter().find(|signal| signal.signal == Signal::Entity).expect("a name was shared");
    assert!((entity.raw - 1.0).abs() < f32::EPSILON);
    assert!(hits[1].signals.iter().all(|signal| signal.signal != Signal::Entity));
    assert!(world.found("open report-17.pdf").await[0].contains("Marko"));
}

#[tokio::test]
async fn the_running_conversation_comes_apart_in_order_within_its_budget() {
    let world = World::new();
    let session = SessionId::generate();
    let mut turns: Vec<_> = (0..10)
        .map(|number| {
            turn(
                session,
                &format!("Turn {number} about rivers {}", "x".repeat(380)),
                &format!("2026-11-22T10:0{number}:00Z"),
            )
        })
        .collect();
    turns.push(turn(SessionId::generate(), "Rivers in another conversation", "2026-11-22T10:00:00Z"));
    turns.reverse();
    world.keep(&turns).await;
    world.keep(&[passage("Rivers flow to the sea")]).await;
    let request = RecallRequest { session: Some(session), ..asking("rivers") };
    let recalled = world.recall(request.clone()).await;
    let texts: Vec<&str> = recalled.conversation.iter().map(|turn| &turn.text[..6]).collect();
    assert_eq!(
        texts,
        ["Turn 1", "Turn 2", "Turn 3", "Turn 4", "Turn 5", "Turn 6", "Turn 7", "Turn 8", "Turn 9"]
    );
    assert_eq!(recalled.hits.len(), 1, "turns are no hits unless asked for");
    let short = world.recall(RecallRequest { conversation_tokens: Some(250), ..request.clone() }).await;
    assert_eq!(short.conversation.len(), 2);
    let none = world.recall(RecallRequest { conversation_tokens: Some(0), ..request.clone() }).await;
    assert!(none.conversation.is_empty());
    let working = world.recall(RecallRequest { kinds: vec![MemoryKind::Working], ..request }).await;
    assert_eq!(working.hits.len(), 1, "of other conversations only");
    assert_eq!(working.hits[0].memory.text, "Rivers in another conversation");
}

#[tokio::test]
async fn limits_and_kinds_hold() {
    let world = World::new();
    let all: Vec<_> = (0..30).map(|number| passage(&format!("Rivers, part {number}"))).collect();
    world.keep(&all).await;
    world.keep(&[episode("Saw two rivers", "2026-11-20T00:00:00Z")]).await;
    assert_eq!(world.hits("rivers").await.len(), 8);
    let three = world.recall(RecallRequest { limit: Some(3), ..asking("rivers") }).await;
    assert_eq!(three.hits.len(), 3);
    let episodes =
        RecallRequest { kinds: vec![MemoryKind::Episodic, MemoryKind::Episodic], ..asking("rivers") };
    assert_eq!(world.recall(episodes).await.hits.len(), 1);
}

#[tokio::test]
async fn vectors_find_what_words_do_not() {
    let world = World::new();
    let unrelated = passage("Unrelated entirely");
    let related = passage("An automobile stood there");
    world.keep(&[unrelated, related.clone()]).await;
    let pending = world.store.unembedded("m".to_owned(), 10).await.unwrap();
    let embeddings = pending
        .into_iter()
        .map(|memory| {
            let vector = if memory.text == related.text { vec![0.6, 0.8] } else { vec![0.1, 0.994_987_4] };
            (memory, vector)
        })
        .collect();
    world.store.embed("m".to_owned(), embeddings).await.unwrap();
    let recalled =
        recall(&world.store, asking("Where is the car?"), Some(vec![1.0, 0.0]), now()).await.unwrap();
    assert_eq!(recalled.hits.len(), 1, "a cosine of 0.1 is none: {:?}", recalled.hits);
    assert_eq!(recalled.hits[0].memory.id, related.id);
    let signal = &recalled.hits[0].signals[0];
    assert_eq!(signal.signal, Signal::Vector);
    assert!((signal.raw - 0.6).abs() < 1e-6);
}
