//! `kamil tools`, in one process and against a cluster, and approvals.

use serde_json::json;

use crate::{
    binary::Kamil,
    cluster::{Cluster, iris},
};

#[test]
fn tools_run_in_this_process_when_nothing_else_runs() {
    let kamil = Kamil::new();
    let tools = kamil.run(&["tools", "list", "--json"]).succeeded().json();
    let names: Vec<&str> =
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    for name in ["calc.evaluate", "file_ops.read", "ml_tools.train", "code_tools.python"] {
        assert!(names.contains(&name), "{name} is missing of {names:?}");
    }
    let write = r#"{"path": "note.txt", "text": "hello"}"#;
    kamil.run(&["tools", "run", "file_ops.write", write]).succeeded();
    assert_eq!(std::fs::read_to_string(kamil.path("workspace/note.txt")).unwrap(), "hello");
    let read = kamil.run(&["tools", "run", "file_ops.read", r#"{"path": "note.txt"}"#]).succeeded();
    assert_eq!(read.json()["text"], "hello");
    let outside = kamil.run(&["tools", "run", "file_ops.read", r#"{"path": "../kamil.toml"}"#]);
    assert_eq!(outside.code, Some(1), "{outside:#?}");
    let wrong = kamil.run(&["tools", "run", "file_ops.read", r#"{"file": "note.txt"}"#]);
    assert!(wrong.code != Some(0) && wrong.stderr.contains("file"), "{wrong:#?}");
    // What was run is in the journal, and the journal is sound.
    let tasks = kamil.run(&["tasks", "--json"]).succeeded().json();
    assert!(tasks.as_array().unwrap().len() >= 3, "{tasks}");
    kamil.run(&["log", "verify"]).succeeded();
}

#[test]
fn a_step_that_needs_a_yes_waits_for_it() {
    let cluster =
        Cluster::start_with_tool_settings(iris, "[tools.permissions]\n\"file_ops.write\" = \"ask\"\n");
    let arguments = json!({"path": "asked.txt", "text": "x"}).to_string();
    let asked = cluster.run(&["tools", "run", "file_ops.write", &arguments]);
    assert_eq!(asked.code, Some(4), "{asked:#?}\n{}", cluster.logs());
    assert!(asked.stderr.contains("waits for your yes") && asked.stderr.contains("asked.txt"), "{asked:#?}");
    assert!(asked.stderr.contains("kamil approve "), "{asked:#?}");
    assert!(!cluster.workspace("asked.txt").exists());
    cluster.run(&["approve", "last", "run"]).succeeded();
    crate::binary::wait_until("the step runs once it is approved", || {
        cluster.workspace("asked.txt").exists()
    });
    crate::binary::wait_until("the task ends", || {
        cluster.run(&["trace", "last", "--json"]).succeeded().json()["status"] == "succeeded"
    });

    let refused = json!({"path": "refused.txt", "text": "x"}).to_string();
    assert_eq!(cluster.run(&["tools", "run", "file_ops.write", &refused]).code, Some(4));
    cluster.run(&["approve", "last", "run", "--deny"]).succeeded();
    crate::binary::wait_until("the task ends", || {
        cluster.run(&["trace", "last", "--json"]).succeeded().json()["status"] == "failed"
    });
    assert!(!cluster.workspace("refused.txt").exists());
}

#[test]
fn a_person_at_a_terminal_is_asked_and_sees_the_arguments() {
    for (answer, runs) in [("y\n", true), ("n\n", false)] {
        let kamil = Kamil::new().with_settings("[tools.permissions]\n\"file_ops.write\" = \"ask\"\n");
        let arguments = json!({"path": "asked.txt", "text": "exactly this"}).to_string();
        let run =
            kamil.run_on_a_terminal(&["tools", "run", "file_ops.write", &arguments], &[("[y/n]", answer)]);
        assert_eq!(run.code, Some(i32::from(!runs)), "{run:#?}");
        assert!(run.stdout.contains("waits for your yes") && run.stdout.contains("exactly this"), "{run:#?}");
        assert_eq!(kamil.path("workspace/asked.txt").exists(), runs, "{run:#?}");
    }
}
