//! The scene of a test: a workspace, a folder outside of it, and callers of different privilege.

use kamil_sandbox::{CancelToken, Command, Launcher, Outcome, Policy, SandboxError, run};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const PYTHON: &str = "/usr/bin/python3";
pub(crate) const CANARY: &str = "canary-5e1f";
const NOBODY: u32 = 65534;

/// Who starts the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever runs the tests.
    Own,
    /// An ordinary user, when the tests run as root.
    Nobody,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the test once for each caller there can be.
pub(crate) fn for_each_caller(test: impl Fn(&Stage)) {
    test(&Stage::new(Caller::Own));
    if is_root() {
        test(&Stage::new(Caller::Nobody));
    }
}

pub(crate) struct Stage {
    pub(crate) caller: Caller,
    pub(crate) workspace: PathBuf,
    /// Belongs to the caller as well, so that only the sandbox stands between it and the command.
    pub(crate) outside: PathBuf,
    _folder: TempDir,
}

impl Stage {
    pub(crate) fn new(caller: Caller) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().canonicalize().unwrap();
        let stage =
            Self { caller, workspace: root.join("ws"), outside: root.join("outside"), _folder: folder };
        for path in [&stage.workspace, &stage.outside] {
            fs::create_dir(path).unwrap();
            stage.give(path);
        }
        stage.put(&stage.outside.join("secret"), CANARY);
        stage
    }

    /// Makes a file of the caller's.
    pub(crate) fn put(&self, path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        self.give(path);
    }

    fn give(&self, path: &Path) {
        if self.caller == Caller::Nobody {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    pub(crate) fn secret(&self) -> String {
        self.outside.join("secret").to_str().unwrap().to_owned()
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { workspace: Some(self.workspace.clone()), ..Policy::default() }
    }

    /// What goes before a program to run it as the caller.
    fn prefix(&self) -> Vec<OsString> {
        match self.caller {
            Caller::Own => Vec::new(),
            Caller::Nobody => ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
                .map(OsString::from)
                .to_vec(),
        }
    }

    /// The launcher, started by way of `wrapper` (which ends in running what follows it).
    pub(crate) fn launcher_by(&self, wrapper: &[&str]) -> Launcher {
        let mut words = self.prefix();
        words.extend(wrapper.iter().map(OsString::from));
        words.extend([confine().as_os_str().to_owned(), kamil_sandbox::launcher::ARGUMENT.into()]);
        Launcher { program: words.remove(0).into(), args: words }
    }

    pub(crate) fn launcher(&self) -> Launcher {
        self.launcher_by(&[])
    }

    pub(crate) fn try_run(&self, policy: &Policy, command: &Command) -> Result<Outcome, SandboxError> {
        run(&self.launcher(), policy, command, &CancelToken::new())
    }

    pub(crate) fn run(&self, policy: &Policy, command: &Command) -> Outcome {
        self.try_run(policy, command).unwrap()
    }

    pub(crate) fn python(&self, script: &str, args: &[&str]) -> Outcome {
        self.run(&self.policy(), &python(script, args))
    }

    /// The same without the sandbox, as the same user, in the workspace. Returns what it printed.
    pub(crate) fn without(&self, command: &Command) -> String {
        let output = self.unconfined(command).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub(crate) fn unconfined(&self, command: &Command) -> std::process::Command {
        let mut words = self.prefix();
        words.push(command.program.clone().into());
        words.extend(command.args.iter().cloned());
        let mut unconfined = std::process::Command::new(words.remove(0));
        unconfined.args(words).current_dir(&self.workspace);
        unconfined
    }

    /// The attack prints `DONE` where it succeeds. It must do so outside and must not inside.
    pub(crate) fn attack(&self, script: &str, args: &[&str]) -> Outcome {
        let control = self.without(&python(script, args));
        assert!(control.contains("DONE"), "the control failed as {:?}: {control}\n{script}", self.caller);
        let outcome = self.python(script, args);
        let printed = text(&outcome.stdout);
        assert!(!printed.contains("DONE"), "the attack succeeded as {:?}: {printed}\n{script}", self.caller);
        assert!(!printed.contains(CANARY), "the canary came out as {:?}: {printed}", self.caller);
        assert_eq!(outcome.enforced.missing(), None);
        outcome
    }
}

pub(crate) fn python(script: &str, args: &[&str]) -> Command {
    Command::new(PYTHON, ["-c", script].into_iter().chain(args.iter().copied()))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks again until it is so; panics after ten seconds.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        std::thread::yield_now();
    }
}

/// Processes of the host that have this word among their arguments.
pub(crate) fn processes_with(token: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if words.split(|byte| *byte == 0).any(|word| word == token.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// A word that no other test uses.
pub(crate) fn token(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// The launcher's binary, where an ordinary user can reach it too: a checkout under root's home is closed to others.
fn confine() -> &'static Path {
    static REACHABLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_kamil-confine"));
        let open = built.ancestors().skip(1).all(|folder| folder.metadata().unwrap().mode() & 0o001 != 0);
        if open || !is_root() {
            return built.to_owned();
        }
        let state = built.metadata().unwrap();
        let folder = std::env::temp_dir().join("kamil-sandbox-tests");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().uid(), 0, "{} belongs to someone else", folder.display());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.join(format!("confine-{}-{}", state.len(), state.mtime_nsec()));
        if !copy.exists() {
            let draft = folder.join(format!("draft-{}", std::process::id()));
            fs::copy(built, &draft).unwrap();
            fs::rename(draft, &copy).unwrap();
        }
        copy
    });
    &REACHABLE
}
