//! What it costs to read a task's record again: `cargo bench -p kamil-orchestrator --bench replay`.
//!
//! The tasks are those that the tests hold every build against (`tests/recorded.jsonl`). Folding makes the state from the events;
//! replaying decides every one of them again, prompts included.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench reports to its reader, and breaks off when it cannot run"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use kamil_orchestrator::{History, replay};
use kamil_plan::Task;
use kamil_protocol::TaskId;
use serde::Deserialize;

const LEAST: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Recorded {
    name: String,
    task: TaskId,
    history: History,
}

fn main() {
    // `cargo test --benches` only wants to see that it is there.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded.jsonl")).unwrap();
    let tasks: Vec<Recorded> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for Recorded { name, history, .. } in &tasks {
        let bytes: usize = history.records.iter().map(bytes).sum();
        let kept: usize = history.tools.iter().map(String::len).sum();
        let records = history.records.len();
        println!(
            "{name}: {records} records, {bytes} bytes, beside {kept} bytes of tools that all tasks share"
        );
    }
    let folded = rate(&tasks, |recorded| {
        let events = recorded.history.records.iter().map(|record| (record.at, &record.event));
        black_box(Task::fold(recorded.task, events).unwrap());
    });
    let replayed = rate(&tasks, |recorded| {
        let report = replay(recorded.task, &recorded.history);
        assert!(report.same, "{report:?}");
    });
    println!("fold: {folded:.0} events/s");
    println!("replay: {replayed:.0} events/s");
}

/// What a record takes in the log: its canonical JSON.
fn bytes(record: &kamil_protocol::event::EventRecord) -> usize {
    kamil_ledger::canonical_json(&serde_json::to_value(record).unwrap()).len()
}

/// Events a second.
fn rate(tasks: &[Recorded], run: impl Fn(&Recorded)) -> f64 {
    let each: usize = tasks.iter().map(|recorded| recorded.history.records.len()).sum();
    let (begun, mut rounds) = (Instant::now(), 0_u32);
    while begun.elapsed() < LEAST {
        tasks.iter().for_each(&run);
        rounds += 1;
    }
    f64::from(rounds) * each as f64 / begun.elapsed().as_secs_f64()
}
