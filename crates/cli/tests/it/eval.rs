//! `kamil eval`, with a real model.

use std::path::PathBuf;

use serde_json::Value;

use crate::binary::{Kamil, project};

const MODEL: &str = "smollm2:135m";

const GOLD: &str = concat!(
    r#"{"id":"none","request":"Hello, how are you?","tools":[{"name":"taxi.order","description":"Order a taxi","#,
    r#""parameters":{"type":"object","properties":{"address":{"type":"string"}},"required":["address"]}}]}"#,
    "\n",
    r#"{"id":"one","request":"Order a taxi to 5 Main Street","messages":[{"role":"user","content":"Order a taxi to 5 Main Street"}],"#,
    r#""tools":[{"name":"taxi.order","description":"Order a taxi","parameters":{"type":"object","#,
    r#""properties":{"address":{"type":"string"},"seats":{"type":"integer"}},"required":["address"]}}]}"#,
    "\n",
);

fn home() -> Kamil {
    let kamil = Kamil::new();
    let shared = std::env::var_os("KAMIL_TEST_MODELS")
        .map_or_else(|| project().join("target/test-models"), PathBuf::from);
    std::fs::create_dir_all(&shared).unwrap();
    std::os::unix::fs::symlink(shared.canonicalize().unwrap(), kamil.path("models")).unwrap();
    kamil.run(&["models", "pull", MODEL]).succeeded();
    kamil
}

#[test]
fn a_set_that_cannot_be_read_is_refused_with_its_line() {
    let kamil = Kamil::new();
    let gold = kamil.path("gold.jsonl");
    let (gold, out) = (gold.to_str().unwrap(), kamil.path("out.jsonl"));
    let arguments = ["eval", "tools", gold, "--model", MODEL, "--out", out.to_str().unwrap()];
    kamil.run(&arguments).refused(2, &["gold.jsonl cannot be read"]);
    std::fs::write(gold, "\n{\"id\": \"a\", \"request\": \"x\"}\n").unwrap();
    kamil.run(&arguments).refused(2, &["gold.jsonl, line 2: missing field `tools`", "next:"]);
    std::fs::write(gold, "").unwrap();
    kamil.run(&arguments).refused(2, &["gold.jsonl holds no items"]);
}

#[test]
fn what_is_predicted_already_is_not_asked_again() {
    let kamil = home();
    let (gold, out) = (kamil.path("gold.jsonl"), kamil.path("out.jsonl"));
    std::fs::write(&gold, GOLD).unwrap();
    let predictions = || -> Vec<Value> {
        let text = std::fs::read_to_string(&out).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let measure = |subject: &str, more: &[&str]| {
        let mut arguments = vec!["eval", subject, gold.to_str().unwrap(), "--model", MODEL];
        arguments.extend(["--out", out.to_str().unwrap()]);
        arguments.extend(more);
        kamil.run(&arguments).succeeded()
    };
    measure("tools", &["--limit", "1"]);
    assert_eq!(predictions().len(), 1);
    assert_eq!(predictions()[0]["calls"], Value::Array(Vec::new()), "a greeting asks no model");
    assert_eq!(predictions()[0]["asked"], false);
    // A line that a kill cut short counts for nothing.
    let begun = std::fs::read_to_string(&out).unwrap();
    std::fs::write(&out, format!("{begun}{{\"id\": \"one\", \"ca")).unwrap();
    let rest = measure("tools", &[]);
    assert!(rest.stderr.contains("1 of 2 items are left"), "{}", rest.stderr);
    let all = predictions();
    assert_eq!(all.iter().map(|line| &line["id"]).collect::<Vec<_>>(), ["none", "one"]);
    assert_eq!((&all[1]["asked"], &all[1]["valid"]), (&Value::Bool(true), &Value::Bool(true)), "{all:?}");
    assert!(all[1]["ms"].as_u64().unwrap() > 0);
    assert!(measure("tools", &[]).stderr.contains("0 of 2 items are left"));
    assert!(!kamil.path("journal.db").exists(), "the person's journal is left alone");

    std::fs::remove_file(&out).unwrap();
    measure("plans", &["--plain"]);
    assert!(predictions().iter().all(|line| line["nodes"].is_array() && line["text"].is_string()));
}
