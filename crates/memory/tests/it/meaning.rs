//! Recall by meaning, with the real embedding model.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kamil_memory::embedding::EMBEDDER;
use kamil_models::ModelsDir;
use kamil_protocol::memory::{
    EditMemory, Hit, Memory, MemoryKind, MemoryStats, RecallReply, RememberReply, RememberRequest, Signal,
};
use tempfile::TempDir;

use crate::{
    serving::Served,
    world::{asking, memory, now, passage},
};

/// The model's file, fetched if need be into the folder that all tests of the workspace share.
async fn model() -> PathBuf {
    let folder = std::env::var_os("KAMIL_TEST_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-models"),
        PathBuf::from,
    );
    ModelsDir::new(folder).pull(EMBEDDER, |_| {}).await.unwrap().path.canonicalize().unwrap()
}

/// Makes the model one of this home.
fn install(model: &Path, home: &TempDir) {
    let models = home.path().join("models");
    std::fs::create_dir_all(&models).unwrap();
    std::os::unix::fs::symlink(model, models.join(model.file_name().unwrap())).unwrap();
}

async fn with_model() -> Served {
    let home = tempfile::tempdir().unwrap();
    install(&model().await, &home);
    Served::at(home).await
}

impl Served {
    async fn keep(&self, memories: Vec<kamil_protocol::memory::NewMemory>) {
        let request = RememberRequest { memories };
        let _: RememberReply = self.client.post("/v1/remember", &request).await.unwrap();
    }

    /// Waits until so many memories have an embedding.
    async fn embedded(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let stats: MemoryStats = self.client.get("/v1/memories/stats").await.unwrap();
            if stats.embedded == count {
                assert_eq!(stats.embedder.as_deref(), Some(EMBEDDER));
                return;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ask(&self, query: &str) -> Vec<Hit> {
        let mut request = asking(query);
        request.now = Some(now());
        let reply: RecallReply = self.client.post("/v1/recall", &request).await.unwrap();
        assert!(reply.degraded.is_empty(), "{:?}", reply.degraded);
        reply.hits
    }
}

const PASSAGES: [&str; 12] = [
    "Our automobile was repaired by the mechanic in Dubrava.",
    "The dog is afraid of thunder and hides under the bed.",
    "My sister's birthday is on the third of May.",
    "The wireless router restarts when the microwave is on.",
    "For the bread: 500 g flour, 10 g salt, long rest in the fridge.",
    "The rent is paid on the first of each month by standing order.",
    "I am allergic to peanuts and to penicillin.",
    "Passport is in the top drawer of the desk.",
    "The tomatoes in the garden need water every evening.",
    "The presentation for the board is about next year's budget.",
    "Trained a decision tree on the iris data set: accuracy 0.97 on the test split.",
    "Prefers answers in metric units and without emoji.",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_in_other_words_find_their_answer_first() {
    let served = with_model().await;
    served.keep(PASSAGES.iter().map(|text| passage(text)).collect()).await;
    served.embedded(12).await;
    for (query, answer) in [
        ("Who fixed the car?", 0),
        ("What scares our pet during a storm?", 1),
        ("When was my sibling born?", 2),
        ("Why does the wifi drop out?", 3),
        ("How do I bake a loaf?", 4),
        ("When do I have to transfer money to my landlord?", 5),
        ("Which medicine must I not take?", 6),
        ("Where are my travel documents?", 7),
        ("Which plants have to be irrigated?", 8),
        ("What is my talk to the directors about?", 9),
        ("How good was the classifier?", 10),
    ] {
        let hits = served.ask(query).await;
        let first = hits.first().map(|hit| hit.memory.text.as_str());
        assert_eq!(first, Some(PASSAGES[answer]), "{query}: {hits:#?}");
        assert!(hits[0].signals.iter().any(|signal| signal.signal == Signal::Vector && signal.raw > 0.2));
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_nothing_to_do_with_it_does_not_come_up() {
    let served = with_model().await;
    served.keep(PASSAGES.iter().map(|text| passage(text)).collect()).await;
    served.embedded(12).await;
    for query in [
        "Explain what a hash chain is in two sentences.",
        "Write a haiku about autumn.",
        "What is the capital of Australia?",
        "hello",
        "Translate 'good morning' into Japanese.",
    ] {
        let hits = served.ask(query).await;
        assert!(hits.iter().all(|hit| hit.score < 0.2), "{query}: {hits:#?}");
        assert!(hits.len() <= 1, "{query}: {hits:#?}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trained_last_time_and_how_good_it_was() {
    let served = with_model().await;
    let episode = |text: &str, at: &str| memory(MemoryKind::Episodic, text, at);
    served
        .keep(vec![
            episode(
                "Task: Train a model on the wine data. Random forest, accuracy 0.94.",
                "2026-11-19T10:00:00Z",
            ),
            episode(
                "Task: Train a small ML model on the iris data. Decision tree, accuracy 0.967.",
                "2026-11-22T09:00:00Z",
            ),
            episode("Task: Explain what a hash chain is in two sentences.", "2026-11-22T10:00:00Z"),
            episode("Task: List the files in the workspace. There were three.", "2026-11-22T11:00:00Z"),
        ])
        .await;
    served.embedded(4).await;
    let hits = served.ask("What did I train last time, and how good was it?").await;
    assert!(hits[0].memory.text.contains("iris"), "{hits:#?}");
    assert!(hits.iter().all(|hit| !hit.memory.text.contains("hash chain")), "{hits:#?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_is_found_by_its_new_meaning() {
    let served = with_model().await;
    let kept = passage("The car is parked at the harbour.");
    served.keep(vec![kept.clone()]).await;
    served.embedded(1).await;
    let path = format!("/v1/memories/{}", kept.id);
    let edit = EditMemory { text: "The cat sleeps on the piano.".to_owned() };
    let _: Memory = served.client.patch(&path, &edit).await.unwrap();
    served.embedded(1).await;
    assert_eq!(served.ask("Where does the kitten take a nap?").await.len(), 1);
    assert!(served.ask("Where is my vehicle?").await.is_empty());
    served.client.delete::<()>(&path).await.unwrap();
    assert!(served.ask("Where does the kitten take a nap?").await.is_empty());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_comes_later_embeds_what_is_there() {
    let model = model().await;
    let served = Served::new().await;
    served.keep(PASSAGES.iter().map(|text| passage(text)).collect()).await;
    let reply: RecallReply = served.client.post("/v1/recall", &asking("Who fixed the car?")).await.unwrap();
    assert_eq!(reply.degraded.len(), 1);
    install(&model, &served.home);
    served.embedded(12).await;
    assert_eq!(served.ask("Who fixed the car?").await[0].memory.text, PASSAGES[0]);

    let home = served.stop().await;
    let served = Served::at(home).await;
    served.embedded(12).await;
    assert_eq!(served.ask("Who fixed the car?").await[0].memory.text, PASSAGES[0]);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_and_odd_texts_are_embedded_or_left_to_words() {
    let served = with_model().await;
    let odd = ["x1y2z3 ".repeat(2_000), "é".repeat(8_000), "\u{0}".to_owned() + "zero", "🙂".repeat(4_000)];
    served.keep(odd.iter().map(|text| passage(text)).collect()).await;
    served.embedded(4).await;
    let long_query = "Who fixed the car? ".repeat(3_000);
    served.ask(&long_query).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_model_file_is_told_and_words_go_on() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("all-minilm-l6-v2.gguf"), b"GGUF and then nonsense").unwrap();
    let served = Served::at(home).await;
    served.keep(vec![passage("Rivers flow to the sea")]).await;
    let reply: RecallReply = served.client.post("/v1/recall", &asking("rivers")).await.unwrap();
    assert_eq!(reply.hits.len(), 1);
    assert!(reply.degraded[0].contains("cannot be used"), "{:?}", reply.degraded);
    served.stop().await;
}
