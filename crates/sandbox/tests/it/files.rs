//! Nothing outside the workspace is read, written or even seen.

use crate::stage::{CANARY, Stage, for_each_caller, python, text};
use kamil_sandbox::{Command, Policy, SandboxError, Status};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

const READ: &str = "import sys; print('DONE', open(sys.argv[1]).read())";
const WRITE: &str = "import sys; open(sys.argv[1], 'w').write('x'); print('DONE')";

#[test]
fn a_file_outside_is_not_read() {
    for_each_caller(|stage| {
        let secret = stage.secret();
        for path in [
            secret.clone(),
            "../outside/secret".into(),
            format!("/..//{secret}"),
            format!("/proc/self/root{secret}"),
        ] {
            stage.attack(READ, &[&path]);
        }
        stage.attack(READ, &["/etc/hostname"]);
    });
}

#[test]
fn a_file_outside_is_not_written() {
    for_each_caller(|stage| {
        for path in [format!("{}/new", stage.outside.display()), "../outside/new".into()] {
            stage.attack(WRITE, &[&path]);
            let new = stage.outside.join("new");
            fs::remove_file(&new).unwrap();
            stage.python(WRITE, &[&path]);
            assert!(!new.exists());
        }
        stage.attack(WRITE, &[&stage.secret()]);
    });
}

#[test]
fn a_link_out_of_the_workspace_leads_nowhere() {
    for_each_caller(|stage| {
        symlink(stage.secret(), stage.workspace.join("file-link")).unwrap();
        symlink(&stage.outside, stage.workspace.join("folder-link")).unwrap();
        for path in ["file-link", "folder-link/secret"] {
            stage.attack(READ, &[path]);
            stage.attack(WRITE, &[path]);
            stage.put(&stage.outside.join("secret"), CANARY);
            stage.python(WRITE, &[path]);
            assert_eq!(fs::read_to_string(stage.secret()).unwrap(), CANARY);
        }
        stage.attack(WRITE, &["folder-link/missing"]);
    });
}

#[test]
fn the_outside_is_not_even_seen_or_touched() {
    for_each_caller(|stage| {
        let secret = stage.secret();
        for call in [
            "os.stat(p)",
            "os.chdir(os.path.dirname(p))",
            "os.listdir(os.path.dirname(p))",
            "os.chmod(p, 0o600)",
            "os.utime(p)",
            "os.chown(p, os.getuid(), os.getgid())",
            "os.setxattr(p, 'user.x', b'x')",
            "os.link(p, 'hard-link'); os.unlink('hard-link')",
        ] {
            stage.attack(&format!("import os, sys; p = sys.argv[1]; {call}; print('DONE')"), &[&secret]);
        }
    });
}

#[test]
fn system_folders_are_read_only() {
    for_each_caller(|stage| {
        for folder in ["/", "/usr", "/usr/bin", "/etc", "/dev", "/proc/self"] {
            let outcome = stage.python(WRITE, &[&format!("{folder}/planted")]);
            assert!(!outcome.status.success(), "{folder}");
        }
        let outcome = stage.python("import sys; open('/proc/sys/kernel/core_pattern', 'a')", &[]);
        assert!(text(&outcome.stderr).contains("FileNotFoundError"), "{}", text(&outcome.stderr));
    });
}

#[test]
fn no_set_user_id_file_is_left_in_the_workspace() {
    const CHMOD: &str = "import os\nopen('trap', 'w').close()\nos.chmod('trap', 0o4755)\nprint('DONE')";
    const OPEN: &str =
        "import os\nos.umask(0)\nos.open('trap', os.O_CREAT | os.O_WRONLY, 0o6755)\nprint('DONE')";
    const FD: &str = "import os\nos.fchmod(os.open('trap', os.O_CREAT | os.O_WRONLY), 0o2755)\nprint('DONE')";
    for_each_caller(|stage| {
        for script in [CHMOD, OPEN, FD] {
            let trap = stage.workspace.join("trap");
            stage.without(&python(script, &[]));
            assert_ne!(trap.metadata().unwrap().mode() & 0o6000, 0, "the control makes it");
            fs::remove_file(&trap).unwrap();
            stage.attack(script, &[]);
            fs::remove_file(&trap).ok();
            stage.python(script, &[]);
            assert_eq!(trap.metadata().map_or(0, |file| file.mode() & 0o6000), 0);
            fs::remove_file(&trap).ok();
        }
    });
}

#[test]
fn a_program_in_the_workspace_runs_only_when_the_policy_says_so() {
    for_each_caller(|stage| {
        let copy = stage.workspace.join("program");
        fs::copy("/usr/bin/true", &copy).unwrap();
        let command = Command::new("/workspace/program", [""; 0]);
        let allowed = Policy { allow_exec: true, ..stage.policy() };
        assert_eq!(stage.run(&allowed, &command).status, Status::Exited(0));
        assert!(matches!(stage.try_run(&stage.policy(), &command), Err(SandboxError::Program { .. })));
        // Nor by way of the loader, which maps instead of executing.
        let loader = "/lib64/ld-linux-x86-64.so.2";
        if cfg!(target_arch = "x86_64") {
            let by_loader = Command::new(loader, ["/workspace/program"]);
            assert_eq!(stage.run(&allowed, &by_loader).status, Status::Exited(0));
            assert_ne!(stage.run(&stage.policy(), &by_loader).status, Status::Exited(0));
        }
    });
}

#[test]
fn folders_of_the_policy_are_as_the_policy_says() {
    for_each_caller(|stage| {
        let outside = stage.outside.to_str().unwrap();
        let read_only = Policy { read_only_binds: vec![outside.into()], ..stage.policy() };
        let outcome = stage.run(&read_only, &python(READ, &[&stage.secret()]));
        assert!(text(&outcome.stdout).contains(CANARY), "{}", text(&outcome.stderr));
        let path = format!("{outside}/new");
        assert!(!stage.run(&read_only, &python(WRITE, &[&path])).status.success());
        let writable = Policy { read_write_binds: vec![outside.into()], ..stage.policy() };
        assert!(stage.run(&writable, &python(WRITE, &[&path])).status.success());
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        let sealed = Policy { workspace_read_only: true, ..stage.policy() };
        assert!(!stage.run(&sealed, &python(WRITE, &["new"])).status.success());
        let missing = Policy { read_only_binds: vec!["/nowhere/at-all".into()], ..stage.policy() };
        let error = stage.try_run(&missing, &python(READ, &["x"])).unwrap_err();
        assert!(
            matches!(&error, SandboxError::InvalidPolicy { reason } if reason.contains("/nowhere/at-all")),
            "{error}"
        );
    });
}

#[test]
fn what_is_written_belongs_to_the_owner_of_the_workspace() {
    for_each_caller(|stage| {
        assert!(stage.python(WRITE, &["new"]).status.success());
        let (new, workspace) =
            (stage.workspace.join("new").metadata().unwrap(), stage.workspace.metadata().unwrap());
        assert_eq!((new.uid(), new.gid()), (workspace.uid(), workspace.gid()));
    });
}

#[test]
fn the_temporary_folder_is_private_bounded_and_gone_afterwards() {
    for_each_caller(|stage: &Stage| {
        let policy = Policy {
            limits: kamil_sandbox::Limits { tmp_bytes: 1 << 20, ..Default::default() },
            ..stage.policy()
        };
        let fill = "f = open('/tmp/big', 'wb')\nf.write(b'x' * (2 << 20)); f.flush()";
        let outcome = stage.run(&policy, &python(fill, &[]));
        assert!(text(&outcome.stderr).contains("No space left"), "{}", text(&outcome.stderr));
        let inodes = "[open(f'/tmp/{n}', 'w').close() for n in range(1000)]";
        let outcome = stage.run(&policy, &python(inodes, &[]));
        assert!(text(&outcome.stderr).contains("No space left"), "{}", text(&outcome.stderr));
        let outcome = stage.python("import os; print(os.listdir('/tmp'))", &[]);
        assert_eq!(text(&outcome.stdout), "[]\n");
    });
}
