//! Processes of the host are out of sight and out of reach.

use crate::stage::{CANARY, Stage, for_each_caller, python, text, token, until};
use kamil_sandbox::{CancelToken, Command, run};
use std::process::{Child, Stdio};

/// A process of the host, of the same user as the sandbox.
struct Victim(Child);

impl Victim {
    fn new(stage: &Stage, token: &str) -> Self {
        let script = "import signal, sys; print('ready', flush=True); signal.pause()";
        let mut command = stage.unconfined(&python(script, &[token]));
        let mut child = command.env("SECRET", CANARY).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn host_processes_are_invisible() {
    for_each_caller(|stage| {
        let victim = Victim::new(stage, &token("seen"));
        for name in ["environ", "cmdline", "status"] {
            let script = "import sys; open(f'/proc/{sys.argv[1]}/{sys.argv[2]}').read(); print('DONE')";
            stage.attack(script, &[&victim.pid(), name]);
        }
        let script = "import os, sys; os.listdir(f'/proc/{sys.argv[1]}/root'); print('DONE')";
        stage.attack(script, &[&victim.pid()]);
        let listing = "import os; print(sorted(p for p in os.listdir('/proc') if p.isdigit()))";
        // Not even the sandbox's own init, whose memory knows the policy.
        assert_eq!(text(&stage.python(listing, &[]).stdout), "['2']\n");
        let init = "import os; print(os.path.exists('/proc/1/environ'))";
        assert_eq!(text(&stage.python(init, &[]).stdout), "False\n");
    });
}

#[test]
fn host_processes_are_not_signalled() {
    const KILL: &str = "import os, sys; os.kill(int(sys.argv[1]), 15); print('DONE')";
    for_each_caller(|stage| {
        let mut first = Victim::new(stage, &token("first"));
        let control = stage.without(&python(KILL, &[&first.pid()]));
        assert!(control.contains("DONE"), "{control}");
        first.0.wait().unwrap();
        let mut second = Victim::new(stage, &token("second"));
        let outcome = stage.python(KILL, &[&second.pid()]);
        assert!(text(&outcome.stderr).contains("ProcessLookupError"), "{}", text(&outcome.stderr));
        let everyone = "import os\nos.setpgid(0, 0)\nos.kill(-1, 15)";
        stage.python(everyone, &[]);
        assert!(second.0.try_wait().unwrap().is_none());
    });
}

#[test]
fn init_cannot_be_killed_from_within() {
    for_each_caller(|stage| {
        let outcome = stage.python("import os\nfor s in (9, 15, 19): os.kill(1, s)\nprint('alive')", &[]);
        assert_eq!(text(&outcome.stdout), "alive\n", "{}", text(&outcome.stderr));
    });
}

#[test]
fn only_three_descriptors_are_open() {
    const LIST: &str =
        "import os\nfor n in range(1024):\n  try: os.fstat(n); print(n)\n  except OSError: pass";
    for_each_caller(|stage| {
        let open_more = ["/bin/sh", "-c", "exec 7</etc/hostname 9</etc; exec \"$@\"", "sh"];
        let wrapped = Command::new(
            open_more[0],
            open_more[1..].iter().copied().chain(["/usr/bin/python3", "-c", LIST]),
        );
        let control = stage.without(&wrapped);
        assert!(control.contains("\n7\n"), "{control}");
        let launcher = stage.launcher_by(&open_more);
        let outcome = run(&launcher, &stage.policy(), &python(LIST, &[]), &CancelToken::new()).unwrap();
        assert_eq!(text(&outcome.stdout), "0\n1\n2\n");
    });
}

#[test]
fn the_environment_is_the_fixed_one() {
    for_each_caller(|stage| {
        let export = ["/usr/bin/env", "SECRET=canary-5e1f"];
        let control = stage.without(&Command::new(export[0], [export[1], "/usr/bin/env"]));
        assert!(control.contains(CANARY), "{control}");
        let mut policy = stage.policy();
        policy.env = vec![("WANTED".into(), "yes".into()), ("TERM".into(), "other".into())];
        let everywhere =
            "import os\nprint(sorted(os.environ.items()))\nprint(open('/proc/self/environ').read())";
        let launcher = stage.launcher_by(&export);
        let outcome = run(&launcher, &policy, &python(everywhere, &[]), &CancelToken::new()).unwrap();
        let printed = text(&outcome.stdout);
        assert!(
            !printed.contains(CANARY)
                && printed.contains("('WANTED', 'yes')")
                && printed.contains("('TERM', 'other')")
        );
        let names = ["HOME", "LANG", "PATH", "TERM", "TMPDIR", "USER", "WANTED"];
        assert_eq!(printed.lines().next().unwrap().matches("', '").count(), names.len(), "{printed}");
    });
}

#[test]
fn a_crash_leaves_no_core() {
    for_each_caller(|stage| {
        let script = "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n\
            try: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); print('changed')\n\
            except (OSError, ValueError): pass\nos.abort()";
        let outcome = stage.python(script, &[]);
        assert_eq!(outcome.status, kamil_sandbox::Status::Signalled(6));
        assert_eq!(text(&outcome.stdout), "(1, 1)\n");
        assert_eq!(std::fs::read_dir(&stage.workspace).unwrap().count(), 0);
    });
}

#[test]
fn no_process_is_left_by_a_finished_victim_search() {
    // The helper above is not allowed to leak: other tests look for processes by their arguments.
    let word = token("leak");
    drop(Victim::new(&Stage::new(crate::stage::Caller::Own), &word));
    until("the victim is gone", || crate::stage::processes_with(&word).is_empty());
}
