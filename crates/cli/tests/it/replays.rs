//! `kamil replay`: a task decided again, and what would have been.

use serde_json::json;

use crate::{
    binary::{Kamil, wait_until},
    cluster::iris,
    scripted_llm::ScriptedLlm,
};

const REQUEST: &str = "Train a small ML model on the iris data and summarize the results";

fn trained(llm: &ScriptedLlm) -> Kamil {
    let kamil = Kamil::new().with_environment("KAMIL_ENGINE_URL", llm.url());
    kamil.run(&["ask", REQUEST]).succeeded();
    kamil
}

#[test]
fn a_task_with_real_tools_and_real_memory_is_decided_as_it_was() {
    let llm = ScriptedLlm::start(iris);
    let kamil = trained(&llm);
    // The second request goes by what memory recalls of the first.
    kamil.run(&["ask", "What did I train last time, and how good was it?"]).succeeded();
    for task in kamil.run(&["tasks", "--json"]).succeeded().json().as_array().unwrap() {
        let id = task["id"].as_str().unwrap();
        let report = kamil.run(&["replay", id, "--json"]).succeeded().json();
        assert_eq!(report["same"], true, "{report:#}");
    }
    let told = kamil.run(&["replay", "last"]).succeeded().stdout;
    assert!(told.starts_with("the same: "), "{told}");
}

#[test]
fn what_differs_is_named_and_the_exit_code_tells() {
    let llm = ScriptedLlm::start(iris);
    let kamil = trained(&llm);
    let path = kamil.path("journal.db");
    // Only the descriptors of tools have this field, and no record holds them.
    let field = b"\"timeout_ms\":";
    let find = |bytes: &[u8]| bytes.windows(field.len()).position(|window| window == field);
    // A process that ends may leave its last records in the write-ahead log; the next one to open the journal moves them.
    wait_until("the journal's file holds the tools", || {
        kamil.run(&["tasks"]).succeeded();
        find(&std::fs::read(&path).unwrap()).is_some()
    });
    let mut bytes = std::fs::read(&path).unwrap();
    while let Some(at) = find(&bytes) {
        bytes[at + 1] = b'T';
    }
    std::fs::write(&path, bytes).unwrap();
    let told = kamil.run(&["replay", "last"]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(told.stdout.contains("not those that were registered"), "{told:#?}");
    kamil.run(&["log", "verify"]).refused(1, &[]);
}

#[test]
fn another_result_leads_to_another_answer() {
    let llm = ScriptedLlm::start(iris);
    let kamil = trained(&llm);
    let before = kamil.run(&["trace", "last", "--json"]).succeeded().json();
    let mut result =
        before["steps"].as_array().unwrap().iter().find(|step| step["id"] == "s1").unwrap()["output"].clone();
    result["accuracy"] = json!(0.125);
    let file = kamil.path("result.json");
    std::fs::write(&file, result.to_string()).unwrap();
    let change = format!("s1={}", file.display());
    let origin = before["id"].as_str().unwrap();
    let forked = kamil.run(&["replay", origin, "--change", &change]).succeeded();
    assert!(forked.stdout.contains("accuracy of 0.125"), "{forked:#?}");
    assert!(forked.stdout.contains("changed s1") && forked.stdout.contains("changed answer"), "{forked:#?}");
    assert!(forked.stdout.contains("+  \"accuracy\": 0.125"), "{forked:#?}");
    let after = kamil.run(&["trace", "last", "--json"]).succeeded().json();
    assert_eq!(after["forked_from"], json!({"task": origin, "step": "s1"}));
    assert!(after["steps"].as_array().unwrap().iter().all(|step| step["kind"] != "remember"));
    let trace = kamil.run(&["trace", "last"]).succeeded().stdout;
    assert!(trace.contains("forked the task") && trace.contains("`plan` as it ended before"), "{trace}");
    kamil.run(&["replay", "last"]).succeeded();

    // Another plan trains once more, which writes a file: that takes a yes.
    let plan = kamil.path("plan.txt");
    std::fs::write(&plan, "s1 = ml_tools.train(dataset=\"iris\", model=\"logistic_regression\")\nanswer\n")
        .unwrap();
    let change = format!("plan={}", plan.display());
    kamil.run(&["replay", origin, "--change", &change]).refused(4, &["s1: ml_tools.train", "--yes"]);
    let again = kamil.run(&["replay", origin, "--change", &change, "--yes", "--json"]).succeeded().json();
    let step = again["differences"].as_array().unwrap().iter().find(|step| step["step"] == "s1").unwrap();
    assert_eq!((&again["status"], &step["change"]), (&json!("succeeded"), &json!("changed")), "{again:#}");
    assert_eq!(step["fields"][0]["field"], "inputs", "{again:#}");
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let kamil = Kamil::new();
    kamil.run(&["tools", "run", "calc.evaluate", r#"{"expression": "6 * 7"}"#]).succeeded();
    kamil.run(&["replay", "last"]).succeeded();
    kamil.run(&["replay", "ffffffff"]).refused(2, &["no task's id begins with", "kamil tasks"]);
    kamil.run(&["replay", "last", "--orchestrator", "127.0.0.1:1"]).refused(3, &["no orchestrator answers"]);
    kamil.run(&["replay", "last", "--yes"]).refused(2, &["--change"]);
    kamil.run(&["replay", "last", "--change", "run"]).refused(2, &["STEP=FILE"]);
    kamil.run(&["replay", "last", "--change", "run=/no/such/file"]).refused(2, &["cannot be read"]);
}

#[test]
fn a_change_is_checked_against_its_step() {
    let llm = ScriptedLlm::start(iris);
    let kamil = trained(&llm);
    let text = kamil.path("text");
    std::fs::write(&text, "no JSON").unwrap();
    let named = |step: &str| format!("{step}={}", text.display());
    kamil
        .run(&["replay", "last", "--change", &named("s9")])
        .refused(2, &["no step `s9`", "recall, plan, s1"]);
    kamil.run(&["replay", "last", "--change", &named("s1")]).refused(2, &["is not JSON"]);
    kamil.run(&["replay", "last", "--change", &named("plan")]).refused(2, &["no plan"]);
}
