//! A task that is stopped: how soon the programs and models that worked on it have stopped as well.
//!
//! `scripts/bench cancellation` runs it more often; `KAMIL_CANCELLATIONS` says how often.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use kamil_protocol::{
    reason::Sampling,
    task::{StepSpec, TaskRequest, TaskStatus},
};
use serde_json::json;

use crate::{
    binary::{Kamil, PATIENCE, Running, wait_until},
    cluster::Cluster,
    following::Follower,
    real_model::home_with,
};

const SMALL: &str = "smollm2:135m";
/// How often the processes are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A thread that has computed nothing for so long has stopped, however many others want the processor.
const STILL: Duration = Duration::from_millis(400);
/// What stops stops within this time, on a machine that is busy with other tests.
const AT_MOST: Duration = Duration::from_secs(5);

fn times() -> usize {
    std::env::var("KAMIL_CANCELLATIONS").map_or(3, |text| text.parse().unwrap())
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let ms = |duration: &Duration| duration.as_secs_f64() * 1e3;
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{what}: {:.1} ms median, {:.1} ms at most, of {} stopped",
        ms(&median),
        ms(&longest),
        took.len()
    );
    assert!(longest < AT_MOST, "{took:?}");
}

/// Processes with this word in their command line.
fn processes_with(word: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes())).count()
}

fn graph(steps: &serde_json::Value) -> TaskRequest {
    let steps: Vec<StepSpec> = serde_json::from_value(steps.clone()).unwrap();
    TaskRequest { input: "a graph of one's own".to_owned(), steps: Some(steps), ..TaskRequest::default() }
}

#[test]
fn a_stopped_program_is_gone_with_all_its_children() {
    let cluster = Cluster::start(|_| "answer".to_owned());
    let client = Follower::new(&cluster.orchestrator.url);
    let mut took = Vec::new();
    for number in 0..times() {
        // A number of seconds that nobody else sleeps.
        let word = format!("86400.{}{number:04}", std::process::id());
        let code = format!("sleep {word} & sleep {word}; echo done");
        let task = client.ask(&graph(
            &json!([{"id": "run", "kind": "tool", "tool": "code_tools.shell", "inputs": {"code": code}}]),
        ));
        wait_until("the shell and both programs run", || processes_with(&word) >= 3);

        let begun = Instant::now();
        client.cancel(task.id);
        while processes_with(&word) > 0 {
            assert!(begun.elapsed() < PATIENCE, "{word} still runs");
            std::thread::sleep(LOOK_AGAIN);
        }
        took.push(begun.elapsed());

        let seen = task.wait_for_end();
        let document = client.document(task.id);
        assert_eq!(document.status, TaskStatus::Cancelled, "{seen:#?}");
        assert_eq!(processes_with(&word), 0);
    }
    report("a program in the sandbox", took);
}

/// The thread on which a model computes: its scheduling statistics.
fn model_thread(node: &Running) -> PathBuf {
    let tasks = format!("/proc/{}/task", node.process());
    let mut threads = fs::read_dir(tasks).unwrap().filter_map(Result::ok).map(|task| task.path());
    let is_model = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "inference")
    };
    threads.find(is_model).expect("the model has a thread of its own").join("schedstat")
}

/// For how long a thread has computed, in nanoseconds.
fn computed(thread: &PathBuf) -> u64 {
    fs::read_to_string(thread).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// How long after this moment a thread computed for the last time.
fn still_after(thread: &PathBuf, begun: Instant) -> Duration {
    let (mut last, mut changed) = (computed(thread), begun);
    while changed.elapsed() < STILL {
        assert!(begun.elapsed() < PATIENCE, "the model goes on");
        std::thread::sleep(LOOK_AGAIN);
        let now = computed(thread);
        if now != last {
            (last, changed) = (now, Instant::now());
        }
    }
    changed - begun
}

#[test]
fn a_stopped_model_computes_no_more() {
    let home = home_with(&[SMALL]);
    let hub = home.start(&["orchestrator", "0"]);
    let node = home.start(&["llm-node", "0", SMALL, hub.address(), "general"]);
    let client = Follower::new(&hub.url);
    let person = Kamil::new();
    let listed = || person.run(&["nodes", "--json", "--orchestrator", hub.address()]).succeeded().json();
    wait_until("the model is loaded", || listed()[0]["capabilities"]["models"][0]["resident"] == true);
    let thread = model_thread(&node);
    let mut took = Vec::new();
    for number in 0..times() {
        let task = client.ask(&TaskRequest {
            input: format!("Write a very long story about {} lighthouse keepers and the sea.", number + 2),
            direct: true,
            sampling: Some(Sampling { max_tokens: Some(3_000), ..Sampling::default() }),
            ..TaskRequest::default()
        });
        task.wait_for_words(5);
        let before = computed(&thread);
        task.wait_for_words(10);
        assert!(computed(&thread) > before, "this is not the thread that writes");

        let begun = Instant::now();
        client.cancel(task.id);
        took.push(still_after(&thread, begun));

        let seen = task.wait_for_end();
        let document = client.document(task.id);
        assert_eq!(document.status, TaskStatus::Cancelled, "{seen:#?}");
        assert!(seen.text.split_whitespace().count() < 1_000, "the whole story was written");
        wait_until("the node reports that nothing runs", || {
            let load = &listed()[0]["load"];
            load["running"] == 0 && load["queued"] == 0
        });
    }
    report("a model that writes", took);
}
