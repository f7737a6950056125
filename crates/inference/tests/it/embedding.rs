//! Embeddings agree with the published reference.

use std::sync::OnceLock;

use kamil_inference::{Embedder, EngineOptions, Generator, InferenceError};

use crate::models::{fetched, small_options};

fn embedder() -> &'static Embedder {
    static EMBEDDER: OnceLock<Embedder> = OnceLock::new();
    EMBEDDER.get_or_init(|| Embedder::load(fetched("all-minilm:l6-v2")).unwrap())
}

fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
    embedder().blocking_embed(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn similarities_are_those_of_the_model_card() {
    // The example that the hosted model page of sentence-transformers/all-MiniLM-L6-v2 shows.
    let vectors = vectors(&[
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]);
    for (other, expected) in [(1, 0.695), (2, 0.943), (3, 0.257)] {
        let found = dot(&vectors[0], &vectors[other]);
        assert!((found - expected).abs() < 2e-3, "{other}: {found} instead of {expected}");
    }
}

#[test]
fn vectors_have_length_one_whatever_the_batch() {
    let texts = ["", "a", "Größe & naïveté", "hash chain", "[CLS] [SEP] <|im_end|>"];
    let together = vectors(&texts);
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(vector.len(), 384);
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
        let alone = &vectors(&[*text])[0];
        assert!(dot(alone, vector) > 0.9999, "{text:?}: {}", dot(alone, vector));
    }
    assert!(vectors(&[]).is_empty());
}

#[test]
fn a_long_text_is_cut_and_many_texts_are_batched() {
    let long = "river ".repeat(3000);
    let cut = "river ".repeat(254);
    let pair = vectors(&[&long, &cut]);
    assert!(dot(&pair[0], &pair[1]) > 0.9999);
    let many: Vec<String> =
        (0..100).map(|n| format!("sentence number {n} about rivers and stones")).collect();
    let batched = embedder().blocking_embed(&many).unwrap();
    let alone = &vectors(&[&many[77]])[0];
    assert!(dot(&batched[77], alone) > 0.9999);
}

#[test]
fn each_kind_of_model_is_refused_by_the_other_engine() {
    assert!(matches!(Embedder::load(small_options().model_path), Err(InferenceError::Options { .. })));
    let embedding = EngineOptions::new(fetched("all-minilm:l6-v2"));
    assert!(matches!(Generator::load(embedding), Err(InferenceError::Options { .. })));
}
