//! Every resource has a bound, and what exceeds it is ended.

use crate::stage::{Stage, for_each_caller, processes_with, python, text, token};
use kamil_sandbox::{Command, Limits, Policy, Status};

fn limited(stage: &Stage, limits: Limits) -> Policy {
    Policy { limits, ..stage.policy() }
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    const BOMB: &str = "import os, signal\nn = 0\ntry:\n  for _ in range(100):\n    pid = os.fork()\n    \
        if pid == 0: signal.alarm(20); signal.pause()\n    n += 1\nexcept OSError as e: pass\n\
        print(n, flush=True)\nsignal.signal(15, signal.SIG_IGN); os.kill(0, 15)";
    for_each_caller(|stage| {
        let mut control =
            stage.unconfined(&Command::new("/usr/bin/setsid", ["-w", "/usr/bin/python3", "-c", BOMB]));
        assert_eq!(text(&control.output().unwrap().stdout), "100\n");
        let outcome =
            stage.run(&limited(stage, Limits { processes: 20, ..Limits::default() }), &python(BOMB, &[]));
        let forked: u32 = text(&outcome.stdout).trim().parse().unwrap();
        assert!((5..20).contains(&forked), "{forked} as {:?}", stage.caller);
    });
}

#[test]
fn a_memory_bomb_stops_at_the_limit_of_memory() {
    const BOMB: &str = "b = bytearray(300 << 20); print('DONE')";
    for_each_caller(|stage| {
        assert!(stage.without(&python(BOMB, &[])).contains("DONE"));
        let outcome = stage.run(
            &limited(stage, Limits { memory_bytes: 128 << 20, ..Limits::default() }),
            &python(BOMB, &[]),
        );
        assert!(text(&outcome.stderr).contains("MemoryError"), "{}", text(&outcome.stderr));
        let deaf = "b = bytearray(300 << 20); print('DONE')";
        assert!(text(&stage.python(deaf, &[]).stdout).contains("DONE"), "the default leaves room");
    });
}

#[test]
fn a_shared_mapping_of_zeroes_is_no_way_round_the_limit() {
    const MAP: &str =
        "import mmap, os\nm = mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20)\nm[0] = 1; print('DONE')";
    for_each_caller(|stage| {
        stage.attack(MAP, &[]);
    });
}

#[test]
fn a_spin_that_ignores_signals_ends_at_the_deadline() {
    const SPIN: &str =
        "import signal\nfor s in (1, 2, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass";
    for_each_caller(|stage| {
        let word = token("spin");
        let policy = limited(stage, Limits { wall_ms: 400, ..Limits::default() });
        let outcome = stage.run(&policy, &python(SPIN, &[&word]));
        assert_eq!(outcome.status, Status::DeadlineExceeded);
        assert!((400..4000).contains(&outcome.duration_ms), "{}", outcome.duration_ms);
        assert_eq!(processes_with(&word), [0; 0]);
        assert_eq!(outcome.enforced.missing(), None);
        let policy = limited(stage, Limits { cpu_seconds: 1, ..Limits::default() });
        let outcome = stage.run(&policy, &python(SPIN, &[&word]));
        assert_eq!(outcome.status, Status::Signalled(9), "SIGXCPU is ignored, SIGKILL is not");
        let outcome = stage.run(&policy, &python("while True: pass", &[]));
        assert_eq!(outcome.status, Status::Signalled(24));
    });
}

#[test]
fn output_is_cut_and_a_flood_is_ended() {
    for_each_caller(|stage| {
        let policy = limited(stage, Limits { output_bytes: 1000, ..Limits::default() });
        let outcome =
            stage.run(&policy, &python("import sys; print('x' * 50000); print('e', file=sys.stderr)", &[]));
        assert_eq!((outcome.status, outcome.stdout.len()), (Status::Exited(0), 1000));
        assert!(outcome.stdout_truncated && !outcome.stderr_truncated);
        assert_eq!(text(&outcome.stderr), "e\n");
        let flood = Command::new("/bin/sh", ["-c", "cat /dev/zero >&2"]);
        let outcome = stage.run(&policy, &flood);
        assert_eq!((outcome.status, outcome.stderr.len()), (Status::OutputExceeded, 1000));
    });
}

#[test]
fn files_and_descriptors_are_bounded() {
    for_each_caller(|stage| {
        let limits = Limits { file_size_bytes: 1 << 20, open_files: 32, ..Limits::default() };
        let policy = limited(stage, limits);
        let big =
            "import signal; signal.signal(25, signal.SIG_DFL); open('big', 'wb').write(b'x' * (2 << 20))";
        assert_eq!(stage.run(&policy, &python(big, &[])).status, Status::Signalled(25));
        assert!(stage.workspace.join("big").metadata().unwrap().len() <= 1 << 20);
        let many = "import os\nn = 0\ntry:\n  while True: os.open('/dev/null', 0); n += 1\nexcept OSError as e: print(n, e.errno)";
        let printed = text(&stage.run(&policy, &python(many, &[])).stdout);
        assert!(
            printed.ends_with(" 24\n") && printed.split(' ').next().unwrap().parse::<u32>().unwrap() < 32,
            "{printed}"
        );
    });
}

#[test]
fn a_process_cannot_raise_its_own_limits() {
    const RAISE: &str = "import resource as r\nfor k in (r.RLIMIT_NPROC, r.RLIMIT_DATA, r.RLIMIT_FSIZE, r.RLIMIT_CPU):\n  \
        h = r.getrlimit(k)[1]\n  try: r.setrlimit(k, (h + 1, h + 1)); print('raised', k)\n  except (ValueError, OSError): pass";
    for_each_caller(|stage| {
        let outcome = stage.python(RAISE, &[]);
        assert_eq!((outcome.status, text(&outcome.stdout)), (Status::Exited(0), String::new()));
    });
}
