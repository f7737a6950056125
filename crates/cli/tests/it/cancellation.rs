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
    following::{Followed, Follower, Seen},
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

/// The times in a line, and the longest.
fn summary(what: &str, mut took: Vec<Duration>) -> (String, Duration) {
    took.sort();
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (median, longest) = (ms(took[took.len() / 2]), took[took.len() - 1]);
    let count = took.len();
    let line = format!("{what}: {median:.1} ms median, {:.1} ms at most, of {count} stopped", ms(longest));
    (line, longest)
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
    let (line, longest) = summary("a program in the sandbox", took);
    println!("{line}");
    assert!(longest < AT_MOST, "{line}");
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

/// What a thread did after a task was to be stopped.
struct Rest {
    /// How long after that it computed for the last time.
    took: Duration,
    /// For how long it computed, in nanoseconds.
    computed: u64,
}

/// Waits until a thread computes no more; `begun` is when it was to stop, `before` what it had computed then.
fn rest(thread: &PathBuf, begun: Instant, before: u64) -> Rest {
    let (mut last, mut took, mut changed) = (before, Duration::ZERO, Instant::now());
    while changed.elapsed() < STILL {
        assert!(begun.elapsed() < PATIENCE, "the model goes on");
        let now = computed(thread);
        if now != last {
            (last, took, changed) = (now, begun.elapsed(), Instant::now());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Rest { took, computed: last - before }
}

/// A node with the small model, loaded, and a hub.
struct Writer {
    hub: Running,
    _node: Running,
    thread: PathBuf,
    client: Follower,
    person: Kamil,
    _home: Kamil,
}

impl Writer {
    fn start() -> Self {
        let home = home_with(&[SMALL]);
        let hub = home.start(&["orchestrator", "0"]);
        let node = home.start(&["llm-node", "0", SMALL, hub.address(), "general"]);
        let (client, person) = (Follower::new(&hub.url), Kamil::new());
        let listed = || person.run(&["nodes", "--json", "--orchestrator", hub.address()]).succeeded().json();
        wait_until("the model is loaded", || listed()[0]["capabilities"]["models"][0]["resident"] == true);
        let thread = model_thread(&node);
        Self { hub, _node: node, thread, client, person, _home: home }
    }

    fn ask(&self, input: String, max_tokens: u32) -> Followed {
        self.client.ask(&TaskRequest {
            input,
            direct: true,
            sampling: Some(Sampling { max_tokens: Some(max_tokens), ..Sampling::default() }),
            ..TaskRequest::default()
        })
    }

    /// Asks, and stops the task once this is so of it.
    fn stop(&self, input: String, is_time: impl Fn(&Seen) -> bool) -> Rest {
        let before = computed(&self.thread);
        let task = self.ask(input, 2_000);
        wait_until("the model is at work", || {
            let seen = task.seen();
            assert!(!seen.ended, "the task ended early: {seen:#?}");
            computed(&self.thread) > before && is_time(&seen)
        });

        let (before, begun) = (computed(&self.thread), Instant::now());
        self.client.cancel(task.id);
        let rest = rest(&self.thread, begun, before);

        let seen = task.wait_for_end();
        assert_eq!(self.client.document(task.id).status, TaskStatus::Cancelled, "{seen:#?}");
        assert!(seen.text.split_whitespace().count() < 1_000, "the whole answer was written");
        wait_until("the node reports that nothing runs", || {
            let address = self.hub.address();
            let nodes = self.person.run(&["nodes", "--json", "--orchestrator", address]).succeeded().json();
            nodes[0]["load"]["running"] == 0 && nodes[0]["load"]["queued"] == 0
        });
        rest
    }
}

#[test]
fn a_stopped_model_writes_no_more() {
    let writer = Writer::start();
    let stop = |number| {
        let input = format!("Write a very long story about {number} lighthouse keepers and the sea.");
        writer.stop(input, |seen| seen.text.split_whitespace().count() >= 10).took
    };
    let (line, longest) = summary("a model that writes", (2..times() + 2).map(stop).collect());
    println!("{line}");
    assert!(longest < AT_MOST, "{line}");
}

/// What takes long to read; its beginning is its own, since what has been read before is not read again.
fn long_prompt(number: usize) -> String {
    let lines: String =
        (0..150).map(|line| format!("Ship {line} of fleet {number} sails at dawn. ")).collect();
    format!("{number}. {lines}")
}

#[test]
fn a_stopped_model_reads_no_further() {
    let writer = Writer::start();
    let before = computed(&writer.thread);
    writer.ask(long_prompt(0), 1).wait_for_end();
    let whole = computed(&writer.thread) - before;
    let stop = |number| {
        let rest = writer.stop(long_prompt(number), |seen| {
            assert_eq!(seen.text, "", "it was read before it was stopped");
            true
        });
        // The batch of tokens that is being read is read to its end.
        assert!(rest.computed < whole / 2, "{} of {whole} ns", rest.computed);
        rest.took
    };
    let (line, _) = summary("a model that reads a long prompt", (1..=times()).map(stop).collect());
    println!("{line}");
}
