//! How long a recall takes at 10,000 memories: the store alone, and the node over HTTP with the embedding of the query.
//!
//! `cargo bench -p kamil-memory --bench recall` prints median, 99th percentile and maximum. The memories' own embeddings
//! are drawn at random: how near they are decides what is found, not how long it takes.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use kamil_memory::{MemoryOptions, SqliteStore, embedding::EMBEDDER, recall, serve};
use kamil_models::ModelsDir;
use kamil_node::{Client, Home, Listener, NodeOptions};
use kamil_protocol::{
    MemoryId,
    memory::{MemoryKind, NewMemory, Origin, Provenance, RecallReply, RecallRequest},
    node::Role,
};
use tokio_util::sync::CancellationToken;

const MEMORIES: usize = 10_000;
const DIMS: usize = 384;
const QUERIES: usize = 500;

/// A small generator (SplitMix64), so that every run measures the same.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Small numbers far more often than large ones, as words in texts are.
    fn skewed(&mut self, below: u64) -> u64 {
        let (a, b, c) = (self.next() % below, self.next() % below, self.next() % below);
        a.min(b).min(c)
    }

    fn unit_vector(&mut self) -> Vec<f32> {
        let mut vector: Vec<f32> =
            (0..DIMS).map(|_| (self.next() >> 40) as f32 / 8_388_608.0 - 1.0).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
        vector
    }
}

const WORDS: [&str; 24] = [
    "train",
    "model",
    "iris",
    "report",
    "meeting",
    "recipe",
    "river",
    "holiday",
    "invoice",
    "garden",
    "camera",
    "letter",
    "music",
    "doctor",
    "train station",
    "python",
    "error",
    "backup",
    "router",
    "bicycle",
    "winter",
    "school",
    "bread",
    "window",
];

fn text(draw: &mut Draw) -> String {
    let mut text = String::new();
    for _ in 0..8 + draw.next() % 12 {
        match draw.next() % 3 {
            0 => text.push_str(WORDS[usize::try_from(draw.skewed(24)).unwrap()]),
            _ => text.push_str(&format!("word{}", draw.skewed(4_000))),
        }
        text.push(' ');
    }
    text
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    println!("{name}: median {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(1.0));
}

async fn fill(store: &SqliteStore, draw: &mut Draw) {
    let now = Timestamp::now();
    let begun = Instant::now();
    for chunk in 0..MEMORIES / 250 {
        let memories: Vec<NewMemory> = (0..250)
            .map(|index| NewMemory {
                id: MemoryId::generate(),
                kind: if index % 2 == 0 { MemoryKind::Semantic } else { MemoryKind::Episodic },
                text: text(draw),
                fact: None,
                session: None,
                source: Provenance { origin: Origin::Person, task: None, step: None, labels: None },
                occurred_at: now - SignedDuration::from_hours(i64::try_from(chunk * 250 + index).unwrap()),
            })
            .collect();
        store.remember(memories, now).await.unwrap();
    }
    println!("{MEMORIES} memories written in {:.1} s", begun.elapsed().as_secs_f64());
}

/// A question of a dozen words, as people ask them.
fn request(draw: &mut Draw, suffix: &str) -> RecallRequest {
    let words: Vec<&str> = (0..6).map(|_| WORDS[usize::try_from(draw.skewed(24)).unwrap()]).collect();
    let rare = draw.skewed(4_000);
    RecallRequest {
        query: format!("What did I write about word{rare} and the {}{suffix}?", words.join(" ")),
        limit: None,
        kinds: Vec::new(),
        session: None,
        conversation_tokens: None,
        now: None,
    }
}

async fn store_alone(store: &SqliteStore, draw: &mut Draw) {
    for (name, suffix) in [("plain", ""), ("of last week", " last week"), ("of the last time", " last time")]
    {
        let mut times = Vec::with_capacity(QUERIES);
        for _ in 0..QUERIES {
            let request = request(draw, suffix);
            let vector = draw.unit_vector();
            let begun = Instant::now();
            recall(store, request, Some(vector), Timestamp::now()).await.unwrap();
            times.push(begun.elapsed());
        }
        report(&format!("the store alone, queries {name}"), times);
    }
}

async fn over_http(folder: &Path, draw: &mut Draw) {
    let models = std::env::var_os("KAMIL_TEST_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-models"),
        PathBuf::from,
    );
    let model = ModelsDir::new(models).pull(EMBEDDER, |_| {}).await.unwrap().path.canonicalize().unwrap();
    let home = Home::resolve(Some(folder.to_owned())).unwrap();
    std::fs::create_dir_all(home.models()).unwrap();
    std::os::unix::fs::symlink(&model, home.models().join(model.file_name().unwrap())).unwrap();
    let listener = Listener::bind(&NodeOptions::local(home.clone()), Role::Memory).await.unwrap();
    let client = Client::new(listener.url(), None).unwrap();
    let client = client.with_node_token(listener.token().expose()).unwrap();
    let shutdown = CancellationToken::new();
    let node = serve(listener, &home, MemoryOptions::default(), shutdown.clone()).await.unwrap();
    let mut times = Vec::with_capacity(QUERIES);
    for _ in 0..QUERIES {
        let request = request(draw, "");
        let begun = Instant::now();
        let reply: RecallReply = client.post("/v1/recall", &request).await.unwrap();
        times.push(begun.elapsed());
        assert!(reply.degraded.is_empty(), "{:?}", reply.degraded);
    }
    report("over HTTP, with the embedding of the query", times);
    shutdown.cancel();
    node.stopped().await.unwrap();
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("memory.db")).unwrap();
    let mut draw = Draw(7);
    fill(&store, &mut draw).await;
    loop {
        let pending = store.unembedded(EMBEDDER.to_owned(), 500).await.unwrap();
        if pending.is_empty() {
            break;
        }
        let embeddings = pending.into_iter().map(|memory| (memory, draw.unit_vector())).collect();
        store.embed(EMBEDDER.to_owned(), embeddings).await.unwrap();
    }
    store_alone(&store, &mut draw).await;
    drop(store);
    over_http(folder.path(), &mut draw).await;
}
