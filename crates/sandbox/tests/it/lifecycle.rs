//! A command's whole tree ends with the command, with its deadline, with its cancellation and with its caller.

use crate::stage::{Caller, Stage, for_each_caller, processes_with, python, text, token, until};
use kamil_sandbox::{CancelToken, Command, Launcher, SandboxError, Status, run};
use std::ffi::OsString;
use std::time::Instant;

const WAIT: &str = "import time; time.sleep(60)";
const DAEMON: &str = "import os, sys, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    \
    n = os.open('/dev/null', 2)\n    for fd in (0, 1, 2): os.dup2(n, fd)\n    time.sleep(60)\n  os._exit(0)\nos.wait()";

#[test]
fn a_double_forked_daemon_dies_with_its_command() {
    for_each_caller(|stage| {
        let outside = token("daemon-outside");
        stage.without(&python(DAEMON, &[&outside]));
        let left = processes_with(&outside);
        assert_eq!(left.len(), 1, "the control leaves its daemon behind");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(left[0]).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let inside = token("daemon-inside");
        assert_eq!(stage.python(DAEMON, &[&inside]).status, Status::Exited(0));
        assert_eq!(processes_with(&inside), [0; 0]);
    });
}

#[test]
fn cancelling_kills_the_tree_at_once() {
    for_each_caller(|stage| {
        let word = token("cancelled");
        let cancel = CancelToken::new();
        let (launcher, policy) = (stage.launcher(), stage.policy());
        let script = format!("import os\nos.fork()\n{WAIT}");
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&launcher, &policy, &python(&script, &[&word]), &cancel));
            until("both processes run", || processes_with(&word).len() == 2);
            let begun = Instant::now();
            cancel.cancel();
            let outcome = running.join().unwrap().unwrap();
            assert_eq!(outcome.status, Status::Cancelled);
            assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
            assert_eq!(processes_with(&word), [0; 0]);
        });
        let outcome = run(&launcher, &policy, &python(WAIT, &[]), &cancel).unwrap();
        assert_eq!(outcome.status, Status::Cancelled, "a token that was cancelled before holds too");
    });
}

/// Plays the caller in a process of its own for the next test, which kills it.
#[test]
#[ignore = "started by the_tree_dies_with_a_caller_that_is_killed"]
fn a_caller_to_be_killed() {
    let Ok(word) = std::env::var("KAMIL_SANDBOX_TEST_WORD") else { return };
    let caller =
        if std::env::var_os("KAMIL_SANDBOX_TEST_NOBODY").is_some() { Caller::Nobody } else { Caller::Own };
    Stage::new(caller).python(WAIT, &[&word]);
}

#[test]
fn the_tree_dies_with_a_caller_that_is_killed() {
    for_each_caller(|stage| {
        let word = token("orphan");
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "lifecycle::a_caller_to_be_killed"]);
        command.env("KAMIL_SANDBOX_TEST_WORD", &word).env("TMPDIR", &stage.workspace);
        if stage.caller == Caller::Nobody {
            command.env("KAMIL_SANDBOX_TEST_NOBODY", "1");
        }
        let mut caller = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        until("the command runs", || processes_with(&word).len() == 1);
        caller.kill().unwrap();
        caller.wait().unwrap();
        until("the command is dead", || processes_with(&word).is_empty());
    });
}

#[test]
fn the_tree_dies_with_a_launcher_that_is_killed() {
    for_each_caller(|stage| {
        let word = token("launcherless");
        let (launcher, policy) = (stage.launcher(), stage.policy());
        std::thread::scope(|scope| {
            let running =
                scope.spawn(|| run(&launcher, &policy, &python(WAIT, &[&word]), &CancelToken::new()));
            until("the command runs", || processes_with(&word).len() == 1);
            let init = parent(processes_with(&word)[0]);
            let launcher = rustix::process::Pid::from_raw(parent(init)).unwrap();
            rustix::process::kill_process(launcher, rustix::process::Signal::KILL).unwrap();
            let error = running.join().unwrap().unwrap_err();
            assert!(matches!(error, SandboxError::LauncherFailed { .. }), "{error}");
            until("the command is dead", || processes_with(&word).is_empty());
        });
    });
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn input_goes_in_while_output_comes_out() {
    for_each_caller(|stage| {
        let mut policy = stage.policy();
        policy.limits.output_bytes = 4 << 20;
        let stdin: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let outcome = stage.run(&policy, &Command { stdin: stdin.clone(), ..Command::new("cat", [""; 0]) });
        assert!(outcome.status.success() && outcome.stdout == stdin);
        let deaf = Command { stdin, ..Command::new("true", [""; 0]) };
        assert!(stage.run(&policy, &deaf).status.success(), "a command need not read its input");
        assert_eq!(
            text(&stage.run(&policy, &Command::new("cat", [""; 0])).stdout),
            "",
            "no input is an empty one"
        );
    });
}

#[test]
fn a_program_that_cannot_run_and_a_launcher_that_is_none_are_errors() {
    for_each_caller(|stage| {
        for program in ["/nowhere/program", "no-such-program", "/usr"] {
            let error = stage.try_run(&stage.policy(), &Command::new(program, [""; 0])).unwrap_err();
            assert!(matches!(error, SandboxError::Program { .. }), "{error}");
        }
        let mut policy = stage.policy();
        policy.cwd = Some("/nowhere".into());
        let error = stage.try_run(&policy, &python("", &[])).unwrap_err();
        assert!(matches!(error, SandboxError::InvalidPolicy { .. }), "{error}");
    });
    let stage = Stage::new(Caller::Own);
    let with = |program: &str, args: &[&str]| {
        let launcher = Launcher { program: program.into(), args: args.iter().map(OsString::from).collect() };
        run(&launcher, &stage.policy(), &python("", &[]), &CancelToken::new()).unwrap_err()
    };
    assert!(matches!(with("/nowhere/launcher", &[]), SandboxError::Spawn { .. }));
    let error = with("/bin/sh", &["-c", "echo not me >&2"]);
    assert!(
        matches!(&error, SandboxError::LauncherFailed { reason } if reason.contains("not me")),
        "{error}"
    );
}

#[test]
fn many_commands_run_at_once() {
    let stage = Stage::new(Caller::Own);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..16)
            .map(|n| {
                scope.spawn({
                    let stage = &stage;
                    move || (n, stage.run(&stage.policy(), &Command::new("echo", [n.to_string()])))
                })
            })
            .collect();
        for thread in running {
            let (n, outcome) = thread.join().unwrap();
            assert_eq!(text(&outcome.stdout), format!("{n}\n"));
        }
    });
}
