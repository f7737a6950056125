//! Bad input: each with its exit code, its reason and the next step.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use kamil_protocol::{MAX_BODY_BYTES, Problem};

use crate::{
    binary::Kamil,
    cluster::{Cluster, iris},
};

/// A port where nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let kamil = Kamil::new().with_settings("[llm]\nmodle = \"x\"\n");
    kamil.run(&["tasks"]).refused(2, &["llm.modle", "did you mean `llm.model`?", "kamil.toml"]);
}

#[test]
fn an_unknown_command_or_flag_is_a_usage_error() {
    let kamil = Kamil::new();
    kamil.run(&["tsaks"]).refused(2, &["tsaks", "tasks"]);
    kamil.run(&["ask"]).refused(2, &["REQUEST"]);
    kamil.run(&["orchestrator", "99999"]).refused(2, &["99999"]);
    kamil.run(&["tools", "run", "calc.evaluate", "[1]"]).refused(2, &["JSON object"]);
    kamil.run(&["--model", "x", "tasks"]).refused(2, &["--model"]);
}

#[test]
fn without_an_orchestrator_the_client_says_so() {
    let kamil = Kamil::new();
    let nobody = format!("127.0.0.1:{}", free_port());
    for command in [&["nodes"][..], &["ask", "hello"], &["trace", "last"], &["tasks"], &["tools", "list"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--orchestrator", &nobody]);
        kamil.run(&arguments).refused(3, &["no orchestrator answers", &nobody, "kamil up"]);
    }
    kamil.run(&["distributed", &nobody]).refused(3, &["no orchestrator answers"]);
}

#[test]
fn an_address_that_is_none_is_refused() {
    Kamil::new().run(&["nodes", "--orchestrator", "https://x"]).refused(2, &["https://x", "host:port"]);
}

#[test]
fn another_server_is_told_from_an_orchestrator() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhome");
        }
    });
    Kamil::new()
        .run(&["nodes", "--orchestrator", &address])
        .refused(3, &["not a Kamil orchestrator", &address]);
}

#[test]
fn a_worker_node_is_not_an_orchestrator() {
    let kamil = Kamil::new();
    let node = kamil.start(&["memory-node", "0", "127.0.0.1:9"]);
    kamil
        .run(&["nodes", "--orchestrator", node.address()])
        .refused(3, &["not a Kamil orchestrator", "Memory"]);
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let kamil = Kamil::new();
    kamil.run(&["orchestrator", &port]).refused(2, &[&port, "already in use"]);
    kamil.run(&["memory-node", &port]).refused(2, &[&port, "already in use"]);
}

#[test]
fn beyond_this_machine_a_key_is_needed() {
    let kamil = Kamil::new();
    kamil.run(&["orchestrator", "0", "--bind", "0.0.0.0"]).refused(2, &["--cluster-key-file"]);
    kamil.run(&["tool-node", "0", "--host", "0.0.0.0"]).refused(2, &["--cluster-key-file"]);
    let missing = kamil.path("no.key");
    kamil
        .run(&["tool-node", "0", "--bind", "0.0.0.0", "--cluster-key-file", missing.to_str().unwrap()])
        .refused(2, &["no.key"]);
}

#[test]
fn with_a_key_a_client_without_it_is_refused() {
    let kamil = Kamil::new();
    let key = kamil.path("cluster.key");
    let key = key.to_str().unwrap();
    let hub = kamil.start(&["orchestrator", "0", "--cluster-key-file", key]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let stranger = Kamil::new();
    stranger
        .run(&["nodes", "--orchestrator", hub.address()])
        .refused(4, &["unauthenticated", "--cluster-key-file"]);
    stranger.run(&["nodes", "--orchestrator", hub.address(), "--cluster-key-file", key]).succeeded();
}

#[test]
fn a_missing_or_broken_model_is_told() {
    let kamil = Kamil::new();
    kamil.run(&["llm-node", "0", "no-such-model:7b"]).refused(2, &["no-such-model:7b", "kamil models"]);
    let broken = kamil.path("broken.gguf");
    std::fs::write(&broken, b"GGUF but not really").unwrap();
    kamil.run(&["llm-node", "0", broken.to_str().unwrap()]).refused(2, &["broken.gguf"]);
    kamil.run(&["ask", "hello"]).refused(2, &["kamil models pull"]);
    kamil.run(&["models", "pull", "no-such-model"]).refused(2, &["no-such-model", "kamil models list"]);
    kamil.run(&["models", "rm", "no-such-model"]).refused(2, &["no-such-model"]);
}

#[test]
fn an_unknown_family_of_tools_is_told() {
    Kamil::new().run(&["tool-node", "0", "127.0.0.1:9", "file_opps"]).refused(2, &["file_opps", "file_ops"]);
}

#[test]
fn names_that_nobody_knows_are_told() {
    let cluster = Cluster::start(iris);
    let unknown = "01980000-0000-7000-8000-000000000000";
    cluster.run(&["trace", unknown]).refused(2, &["task_unknown", unknown]);
    cluster.run(&["trace", "ffff"]).refused(2, &["ffff", "kamil tasks"]);
    cluster.run(&["trace", "last"]).refused(2, &["there is no task yet"]);
    cluster.run(&["cancel", unknown]).refused(2, &["task_unknown"]);
    cluster.run(&["memory", "show", unknown]).refused(2, &["memory_unknown"]);
    cluster
        .run(&["tools", "run", "calc.evalute"])
        .refused(2, &["tool_unknown", "did you mean `calc.evaluate`"]);
    let asked = cluster.run(&["ask", "Train a small ML model on the iris data", "--model", "mistral:latest"]);
    assert!(matches!(asked.code, Some(1 | 2)), "{asked:#?}");
    assert!(asked.stderr.contains("mistral:latest"), "{asked:#?}");
}

#[test]
fn bad_requests_are_answered_with_problem_documents() {
    let kamil = Kamil::new();
    let hub = kamil.start(&["orchestrator", "0"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = kamil_node::Client::new(&hub.url, None).unwrap();
    let post = |body: serde_json::Value| -> Problem {
        runtime.block_on(client.post::<_, serde_json::Value>("/v1/tasks", &body)).unwrap_err()
    };
    assert_eq!(post(serde_json::json!({"input": "x", "colour": "red"})).code.as_str(), "unknown_field");
    assert_eq!(post(serde_json::json!({"input": 7})).code.as_str(), "malformed_body");
    assert_eq!(post(serde_json::json!({"input": ""})).code.as_str(), "validation_failed");
    let oversize = "x".repeat(MAX_BODY_BYTES + 1);
    assert_eq!(post(serde_json::json!({"input": oversize})).code.as_str(), "body_too_large");
    let step = |id: &str, waits_for: &str| serde_json::json!({"id": id, "kind": "reason", "inputs": {"instruction": "x"}, "depends_on": [waits_for]});
    let cycle = post(serde_json::json!({"input": "x", "steps": [step("a", "b"), step("b", "a")]}));
    assert_eq!(cycle.code.as_str(), "plan_invalid");
    assert!(cycle.detail.contains("`a` → `b` → `a`"), "{cycle}");
}

#[test]
fn a_person_is_asked_before_a_model_is_fetched() {
    let kamil = Kamil::new();
    let declined = kamil.run_on_a_terminal(&["ask", "hello"], &[("[Y/n]", "n\n")]);
    assert_eq!(declined.code, Some(2), "{declined:#?}");
    assert!(declined.stdout.contains("Fetch ") && declined.stdout.contains("GiB"), "{declined:#?}");
    assert!(declined.stdout.contains("kamil models pull"), "{declined:#?}");
    assert_eq!(std::fs::read_dir(kamil.path("models")).unwrap().count(), 0);
}
