//! The simulation: that runs hold, that they repeat exactly, and that what is broken on purpose is found.

#![expect(clippy::unwrap_used, reason = "a test's own scaffolding fails loudly")]

use std::path::Path;

use kamil_sim::{Findings, Flaw, Options, run};

fn play(seed: u64, options: Options) -> Findings {
    let memory = Path::new("/dev/shm");
    let usual = std::env::temp_dir();
    run(seed, options, if memory.is_dir() { memory } else { &usual }).unwrap()
}

/// Two threads share the seeds; each run has one of its own.
#[test]
fn two_hundred_seeds_hold() {
    let half = |first: u64| {
        move || {
            for seed in (first..200).step_by(2) {
                let findings = play(seed, Options::default());
                assert!(
                    findings.violations.is_empty(),
                    "{:#?}\ncargo run -p kamil-sim -- --seed {seed} --trace",
                    findings.violations
                );
            }
        }
    };
    let other = std::thread::spawn(half(1));
    half(0)();
    other.join().unwrap();
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 17, 91] {
        let options = Options { keep_lines: true, flaw: None };
        let (first, again) = (play(seed, options), play(seed, options));
        let differs = first.lines.iter().zip(&again.lines).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, again, "seed {seed}");
        assert!(first.records > 0, "seed {seed} did nothing");
    }
    assert_ne!(play(3, Options::default()).digest, play(17, Options::default()).digest);
}

/// A node that breaks its promise shows within a few seeds, in the words of the invariant.
fn finds(flaw: Flaw, told: &str) {
    let options = Options { keep_lines: false, flaw: Some(flaw) };
    let found = (0..400).map(|seed| play(seed, options)).find(|findings| !findings.violations.is_empty());
    let violations = found.unwrap().violations;
    assert!(violations.iter().any(|violation| violation.contains(told)), "{violations:#?}");
}

#[test]
fn a_tool_node_that_forgets_its_ledger_is_found() {
    finds(Flaw::ForgetfulLedger, "happened 2 times");
}

#[test]
fn a_tool_that_acts_before_its_key_is_recorded_is_found() {
    finds(Flaw::EagerTool, "had its effect, and is reported Failed");
}

#[test]
fn a_memory_node_that_loses_what_it_acknowledged_is_found() {
    finds(Flaw::ForgetfulMemory, "which the memory node does not have");
}
