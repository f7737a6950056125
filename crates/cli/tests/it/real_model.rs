//! The design's example with a real model: the one in `$KAMIL_TEST_MODELS`.

use std::path::PathBuf;

use crate::binary::{Kamil, project, wait_until};

const REQUEST: &str = "Train a small ML model on the iris data and summarize the results";
const MODEL: &str = "qwen2.5-coder:1.5b";

/// A home whose models are the shared ones, fetched if need be.
fn home() -> Kamil {
    home_with(&[MODEL, "all-minilm:l6-v2"])
}

/// The same with these models.
pub(crate) fn home_with(models: &[&str]) -> Kamil {
    // Threads that have nothing to compute leave the processor to the others.
    let kamil = Kamil::new().with_environment("OMP_WAIT_POLICY", "passive");
    let shared = std::env::var_os("KAMIL_TEST_MODELS")
        .map_or_else(|| project().join("target/test-models"), PathBuf::from);
    std::fs::create_dir_all(&shared).unwrap();
    std::os::unix::fs::symlink(shared.canonicalize().unwrap(), kamil.path("models")).unwrap();
    for name in models {
        kamil.run(&["models", "pull", name]).succeeded();
    }
    kamil
}

#[track_caller]
fn assert_summary(task: &serde_json::Value) {
    assert_eq!(task["status"], "succeeded", "{task:#}");
    let steps = task["steps"].as_array().unwrap();
    let trained = steps
        .iter()
        .find(|step| step["tool"] == "ml_tools.train")
        .unwrap_or_else(|| panic!("nothing was trained: {task:#}"));
    let accuracy = trained["output"]["accuracy"].as_f64().unwrap();
    let answer = task["answer"].as_str().unwrap();
    let close = |number: f64| (number - accuracy).abs() < 0.006 || (number / 100.0 - accuracy).abs() < 0.006;
    assert!(numbers(answer).into_iter().any(close), "the accuracy {accuracy} is not in {answer:?}");
}

fn numbers(text: &str) -> Vec<f64> {
    let pieces = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    pieces.filter_map(|piece| piece.trim_matches('.').parse().ok()).collect()
}

#[test]
fn iris_in_one_process_and_the_memory_of_it() {
    let kamil = home();
    let task = kamil.run(&["ask", "--json", "--model", MODEL, REQUEST]).succeeded().json();
    assert_summary(&task);
    let later =
        kamil.run(&["ask", "--model", MODEL, "What did I train last time, and how good was it?"]).succeeded();
    assert!(later.stdout.to_lowercase().contains("iris"), "{later:#?}");
}

#[test]
fn iris_in_five_processes() {
    let home = home();
    let hub = home.start(&["orchestrator", "0"]);
    let address = hub.address().to_owned();
    let _llm = home.start(&["llm-node", "0", MODEL, &address, "coding,general"]);
    let _tools = home.start(&["tool-node", "0", &address]);
    let _memory = home.start(&["memory-node", "0", &address]);
    let client = Kamil::new();
    wait_until("all nodes are registered", || {
        let nodes = client.run(&["nodes", "--json", "--orchestrator", &address]).succeeded().json();
        nodes.as_array().unwrap().len() == 3
    });
    let task = client.run(&["ask", "--json", REQUEST, "--orchestrator", &address]).succeeded().json();
    assert_summary(&task);
}
