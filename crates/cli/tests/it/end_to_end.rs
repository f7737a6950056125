//! The design's example from the request to the memory of it: real tools, real memory, scripted words.

use serde_json::Value;

use crate::{
    binary::{Kamil, interrupt, wait_until},
    cluster::{Cluster, iris},
    scripted_llm::{Prompt, ScriptedLlm},
};

const REQUEST: &str = "Train a small ML model on the iris data and summarize the results";

/// The task as the design tells it: recalled, planned, trained, answered with the true accuracy, remembered.
#[track_caller]
fn assert_iris(task: &Value) {
    assert_eq!(task["status"], "succeeded", "{task:#}");
    let steps = task["steps"].as_array().unwrap();
    for kind in ["recall", "plan", "tool", "answer", "remember"] {
        let step =
            steps.iter().find(|step| step["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {task:#}"));
        assert_eq!(step["status"], "succeeded", "{step:#}");
        assert!(step["node"].is_string(), "{step:#}");
        assert!(!step["placement"]["reasons"].as_array().unwrap().is_empty(), "no reason: {step:#}");
        let has_model = matches!(kind, "plan" | "answer");
        assert_eq!(step["model"].is_string(), has_model, "{step:#}");
    }
    let trained = steps.iter().find(|step| step["kind"] == "tool").unwrap();
    assert_eq!(trained["tool"], "ml_tools.train");
    assert!(trained["enforced"].as_array().unwrap().iter().any(|layer| layer == "landlock"), "{trained:#}");
    let accuracy = trained["output"]["accuracy"].as_f64().unwrap();
    assert!((0.8..=1.0).contains(&accuracy), "{accuracy}");
    let answer = task["answer"].as_str().unwrap();
    assert!(answer.contains(&accuracy.to_string()), "{accuracy} is not in {answer:?}");
}

#[test]
fn iris_in_five_processes() {
    let cluster = Cluster::start(iris);
    let asked = cluster.run(&["ask", "--json", REQUEST]);
    assert_eq!(asked.code, Some(0), "{asked:#?}\n{}", cluster.logs());
    let task = asked.json();
    assert_iris(&task);
    let model = task["steps"].as_array().unwrap().iter().find(|step| step["kind"] == "tool").unwrap();
    let file = model["output"]["model_path"].as_str().unwrap();
    assert!(cluster.workspace(file).exists(), "{file}");

    let trace = cluster.run(&["trace", "last"]).succeeded().stdout;
    let moves =
        trace.lines().skip_while(|line| *line != "moves").take_while(|line| *line != "steps").count() - 1;
    assert!(moves >= 10, "{trace}");
    for word in
        ["accepted", "graph", "placed", "executed", "extended", "completed", "why there", "ml_tools.train"]
    {
        assert!(trace.contains(word), "`{word}` is missing:\n{trace}");
    }
    let id = task["id"].as_str().unwrap();
    let prefix = &id[..30];
    assert_eq!(cluster.run(&["trace", prefix, "--json"]).succeeded().json()["id"], id);

    // A new process asks about it: the answer comes from memory, not from the conversation.
    let later = cluster.run(&["ask", "What did I train last time, and how good was it?"]).succeeded();
    let answer = task["answer"].as_str().unwrap();
    let accuracy = answer.split_whitespace().find(|word| word.starts_with("0.") || *word == "1.0").unwrap();
    assert!(later.stdout.contains(accuracy), "{accuracy} is not in {later:#?}");
    let trained_again = cluster.llm.asked().last().unwrap().text().contains("From your memory");
    assert!(trained_again, "{}", cluster.llm.asked().last().unwrap().text());

    let found = cluster.run(&["memory", "search", "iris", "accuracy", "--json"]).succeeded().json();
    assert!(!found["hits"].as_array().unwrap().is_empty(), "{found:#}");
    let listed = cluster.run(&["tasks"]).succeeded().stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    cluster.hub_home().run(&["log", "verify"]).succeeded();
}

#[test]
fn iris_in_one_process() {
    let llm = ScriptedLlm::start(iris);
    let kamil = Kamil::new().with_environment("KAMIL_ENGINE_URL", llm.url());
    let asked = kamil.run(&["ask", REQUEST]).succeeded();
    assert!(asked.stdout.contains("accuracy of"), "{asked:#?}");
    assert!(asked.stderr.contains("ml_tools.train"), "{asked:#?}");
    // Nothing but the answer is on standard output.
    assert_eq!(asked.stdout.lines().count(), 1, "{asked:#?}");
    assert_iris(&kamil.run(&["trace", "last", "--json"]).succeeded().json());
    let later = kamil.run(&["ask", "What did I train last time, and how good was it?"]).succeeded();
    assert!(later.stdout.contains("accuracy of"), "{later:#?}");
    kamil.run(&["log", "verify"]).succeeded();
    let proof = kamil.run(&["log", "proof", "last"]).succeeded();
    let file = kamil.path("task.proof");
    let file = file.to_str().unwrap();
    std::fs::write(file, &proof.stdout).unwrap();
    kamil.run(&["log", "verify", file]).succeeded();
    let checkpoint = kamil.run(&["log", "checkpoint", "--json"]).succeeded().json();
    let key = checkpoint["verifier_key"].as_str().unwrap();
    Kamil::new().run(&["log", "verify", file, "--key", key]).succeeded();
    std::fs::write(file, proof.stdout.replacen("What did I train", "What did I break", 1)).unwrap();
    let forged = kamil.run(&["log", "verify", file]);
    assert_eq!(forged.code, Some(1), "{forged:#?}");
    kamil.run(&["log", "verify", kamil.path("logs").to_str().unwrap()]).refused(2, &["cannot be read"]);
    let note = kamil.run(&["log", "checkpoint"]).succeeded().stdout;
    assert!(note.contains("\n— "), "{note}");
}

#[test]
fn a_flipped_byte_in_the_journal_is_found() {
    let kamil = Kamil::new();
    kamil.run(&["tools", "run", "calc.evaluate", r#"{"expression": "6 * 7"}"#]).succeeded();
    kamil.run(&["log", "verify"]).succeeded();
    let path = kamil.path("journal.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // A process that ends may leave its last records in the write-ahead log; the next one to open the journal moves them.
    for _ in 0..20 {
        if bytes.windows(5).any(|part| part == b"6 * 7") {
            break;
        }
        kamil.run(&["tasks"]).succeeded();
        bytes = std::fs::read(&path).unwrap();
    }
    let mut changed = 0;
    for at in 0..bytes.len() - 5 {
        if &bytes[at..at + 5] == b"6 * 7" {
            bytes[at] = b'5';
            changed += 1;
        }
    }
    assert!(changed > 0, "the request is not in the journal as it stands");
    std::fs::write(&path, bytes).unwrap();
    let report = kamil.run(&["log", "verify", "--json"]);
    assert_eq!(report.code, Some(1), "{report:#?}");
    assert_eq!(report.json()["ok"], false);
    assert!(!report.json()["findings"].as_array().unwrap().is_empty());
}

#[test]
fn up_serves_the_page_and_the_api_until_it_is_interrupted() {
    let llm = ScriptedLlm::start(iris);
    let kamil = Kamil::new().with_environment("KAMIL_ENGINE_URL", llm.url());
    let mut up = kamil.start(&["up", "--port", "0"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = kamil_node::Client::new(&up.url, None).unwrap();
    let page = runtime.block_on(client.get_text("/")).unwrap();
    assert!(page.contains("<html") || page.contains("<!doctype html"), "{page}");
    let asked = kamil.run(&["ask", "--json", REQUEST, "--orchestrator", up.address()]).succeeded();
    assert_iris(&asked.json());
    assert!(up.interrupt().success());
    kamil.run(&["nodes", "--orchestrator", up.address()]).refused(3, &["no orchestrator answers"]);
}

#[test]
fn a_request_without_a_tool_is_a_task_as_well() {
    let cluster = Cluster::start(|prompt: &Prompt| {
        assert!(!prompt.is_plan(), "no plan is needed");
        "A hash chain links records. Each holds the digest of the one before.".to_owned()
    });
    let asked = cluster.run(&["ask", "Explain what a hash chain is in two sentences"]);
    assert_eq!(asked.code, Some(0), "{asked:#?}\n{}", cluster.logs());
    assert!(asked.stdout.starts_with("A hash chain links records."), "{asked:#?}");
    let task = cluster.run(&["trace", "last", "--json"]).succeeded().json();
    assert_eq!(task["status"], "succeeded");
    let direct = cluster.run(&["ask", "--direct", "Explain what a hash chain is"]).succeeded();
    assert!(direct.stdout.starts_with("A hash chain"), "{direct:#?}");
}

#[test]
fn what_a_model_writes_cannot_steer_the_terminal() {
    let cluster = Cluster::start(|_: &Prompt| "safe\u{1b}]0;owned\u{7} \u{202e}txet".to_owned());
    let asked = cluster.run(&["ask", "--direct", "hello"]).succeeded();
    assert_eq!(asked.stdout, "safe␛]0;owned␇ <U+202E>txet\n");
    let trace = cluster.run(&["trace", "last"]).succeeded();
    assert!(!trace.stdout.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{trace:?}");
}

#[test]
fn an_invalid_plan_goes_back_with_its_error() {
    let cluster = Cluster::start(|prompt: &Prompt| {
        if !prompt.is_plan() {
            return iris(prompt);
        }
        if prompt.text().contains("cannot be used") {
            iris(prompt)
        } else {
            "s1 = ml_tools.tarin(dataset=\"iris\")\nanswer".to_owned()
        }
    });
    let task = cluster.run(&["ask", "--json", REQUEST]).succeeded().json();
    assert_iris(&task);
    let plans = cluster.llm.asked().into_iter().filter(Prompt::is_plan).count();
    assert_eq!(plans, 2, "one repair is enough");
}

#[test]
fn without_a_usable_plan_kamil_degrades_and_says_so() {
    let cluster =
        Cluster::start(|prompt: &Prompt| if prompt.is_plan() { "no plan".to_owned() } else { iris(prompt) });
    let task = cluster.run(&["ask", "--json", REQUEST]).succeeded().json();
    assert_eq!(task["status"], "succeeded", "{task:#}");
    assert!(!task["degraded"].as_array().unwrap().is_empty(), "{task:#}");
}

#[test]
fn a_running_task_can_be_cancelled() {
    let cluster = Cluster::start(iris);
    cluster.llm.hold_answers();
    let status = || cluster.run(&["tasks", "--json"]).succeeded().json()[0]["status"].clone();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| cluster.run(&["ask", REQUEST]));
        wait_until("the answer is being written", || {
            cluster.llm.asked().iter().any(|prompt| !prompt.is_plan())
        });
        cluster.run(&["cancel", "last"]).succeeded();
        let asked = asking.join().unwrap();
        assert_eq!(asked.code, Some(1), "{asked:#?}");
    });
    assert_eq!(status(), "cancelled");
}

#[test]
fn a_node_that_dies_is_noticed_and_one_that_leaves_says_goodbye() {
    let mut cluster = Cluster::start(iris);
    cluster.memory_node.kill();
    wait_until("the dead node is noticed", || {
        cluster.nodes().iter().any(|node| node["role"] == "memory" && node["status"] == "dead")
    });
    assert!(cluster.tool_node.interrupt().success());
    wait_until("the node that left is gone", || {
        !cluster.nodes().iter().any(|node| node["role"] == "tool" && node["status"] == "alive")
    });
    let shown = cluster.run(&["nodes"]).succeeded().stdout;
    assert!(shown.contains("scripted"), "{shown}");
}

#[test]
fn a_node_started_before_its_orchestrator_keeps_trying() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let home = Kamil::new();
    let _node = home.start(&["memory-node", "0", &address]);
    let hub_home = Kamil::new();
    let hub = hub_home.start(&["orchestrator", &port.to_string()]);
    wait_until("the node registers", || {
        let nodes = hub_home.run(&["nodes", "--json", "--orchestrator", hub.address()]).succeeded().json();
        nodes.as_array().unwrap().iter().any(|node| node["role"] == "memory")
    });
}

#[test]
fn an_interrupted_ask_cancels_its_task() {
    let cluster = Cluster::start(iris);
    cluster.llm.hold_answers();
    let mut asking = crate::conversation::spawn_ask(cluster.orchestrator.address(), REQUEST);
    wait_until("the answer is being written", || cluster.llm.asked().iter().any(|prompt| !prompt.is_plan()));
    interrupt(asking.id());
    wait_until("the command ends", || asking.try_wait().unwrap().is_some());
    wait_until("the task is cancelled", || {
        cluster.run(&["tasks", "--json"]).succeeded().json()[0]["status"] == "cancelled"
    });
}
