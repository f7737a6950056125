//! Plays seeds: `cargo run --release -p kamil-sim -- --seeds 10000`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the command line tells its reader"
)]

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use kamil_sim::{Findings, Flaw, Options, RunError, run};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs the orchestrator among simulated nodes, network and disk, each run under one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Play this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print all that happens; only with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Put a fault into the nodes, to see it found.
    #[arg(long, value_enum)]
    flaw: Option<Flaw>,
    /// Where journals lie while they are needed; best in memory. Default: /dev/shm, or the folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match play(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The simulation cannot run: {error}.");
            ExitCode::from(2)
        }
    }
}

fn play(arguments: &Arguments) -> Result<bool, RunError> {
    let memory = PathBuf::from("/dev/shm");
    let usual = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = arguments.folder.clone().unwrap_or(usual);
    let options = Options { keep_lines: arguments.trace, flaw: arguments.flaw };
    let (first, count) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut sum = Sum::default();
    for seed in first..first.saturating_add(count) {
        let findings = run(seed, options, &folder)?;
        findings.lines.iter().for_each(|line| println!("{line}"));
        if arguments.seed.is_some() {
            println!("seed {seed}: digest {:016x}", findings.digest);
        }
        sum.add(&findings);
        if !findings.violations.is_empty() {
            report(seed, &findings, arguments);
            return Ok(false);
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("{}", sum.told(begun.elapsed()));
        }
    }
    println!("{}; every invariant held", sum.told(begun.elapsed()));
    Ok(true)
}

/// All runs together.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    tasks: u64,
    records: u64,
    requests: u64,
    effects: u64,
}

impl Sum {
    fn add(&mut self, findings: &Findings) {
        self.seeds += 1;
        self.tasks += findings.tasks;
        self.records += findings.records;
        self.requests += findings.requests;
        self.effects += findings.effects;
    }

    fn told(&self, took: Duration) -> String {
        let Self { seeds, tasks, records, requests, effects } = self;
        let rate = *seeds as f64 / took.as_secs_f64().max(0.001);
        format!(
            "{seeds} seeds, {rate:.1} a second; {tasks} tasks, {records} records, {requests} requests, {effects} effects"
        )
    }
}

fn report(seed: u64, findings: &Findings, arguments: &Arguments) {
    println!("seed {seed}: an invariant is broken");
    findings.violations.iter().for_each(|violation| println!("  {violation}"));
    let flaw = arguments.flaw.and_then(|flaw| clap::ValueEnum::to_possible_value(&flaw));
    let flaw = flaw.map_or_else(String::new, |flaw| format!(" --flaw {}", flaw.get_name()));
    println!("the same again, told in full: cargo run --release -p kamil-sim -- --seed {seed}{flaw} --trace");
}
