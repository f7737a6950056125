//! What is asked for: which folders, which limits, which command.

use crate::SandboxError;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Where the command sees its workspace.
pub const WORKSPACE: &str = "/workspace";
/// Where the command sees its private, size-bounded temporary folder. It vanishes with the command.
pub const TMP: &str = "/tmp";

/// Arguments and environment together may not exceed this many bytes.
const COMMAND_BYTES_MAX: usize = 1 << 20;
const BINDS_MAX: usize = 64;
/// Folders that the sandbox lays out itself; nothing from outside may be put there.
const RESERVED: [&str; 6] = [WORKSPACE, "/proc", "/dev", "/etc", "/sys", "/run"];

/// The program that becomes the launcher: a binary whose `main` begins with
/// [`launcher::run_if_requested`](crate::launcher::run_if_requested), and the arguments that lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// Absolute path of the binary.
    pub program: PathBuf,
    /// Its arguments; the first is normally [`launcher::ARGUMENT`](crate::launcher::ARGUMENT).
    pub args: Vec<OsString>,
}

impl Launcher {
    /// A launcher that is `program` with the one argument it needs.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec![crate::launcher::ARGUMENT.into()] }
    }

    /// The running binary as its own launcher.
    ///
    /// # Errors
    /// When the system cannot tell the path of the running binary.
    pub fn current() -> Result<Self, SandboxError> {
        std::env::current_exe()
            .map(Self::new)
            .map_err(|source| SandboxError::Io { operation: "find the running binary", source })
    }
}

/// How far a command may go. Every field has a default; nothing is unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Processor time of each process, in seconds (default 60). At the limit SIGXCPU, one second later SIGKILL.
    pub cpu_seconds: u64,
    /// Private writable memory of each process, in bytes (default 1 GiB): `RLIMIT_DATA`, which counts what is written
    /// and not what an interpreter merely reserves; shared anonymous memory is refused, shared files lie in `/tmp` or the
    /// workspace. A whole tree may use `processes` times as much; when that is too much for the machine, the kernel's
    /// out-of-memory killer takes the sandbox first.
    pub memory_bytes: u64,
    /// Address space of each process, in bytes (default 64 GiB): `RLIMIT_AS`. It must be generous, since V8 reserves
    /// far more than it uses (10 GiB for each WebAssembly memory).
    pub address_space_bytes: u64,
    /// Processes and threads alive at once, the sandbox's own init included (default 64).
    pub processes: u64,
    /// Open descriptors of each process (default 256).
    pub open_files: u64,
    /// Size of each file written, in bytes (default 256 MiB).
    pub file_size_bytes: u64,
    /// Time from start to end, in milliseconds (default 60,000). Then the whole tree is killed.
    pub wall_ms: u64,
    /// Output kept, in bytes, of stdout and stderr each (default 1 MiB). What follows is read and thrown away, so that
    /// the command can finish; after 64 times as much the tree is killed.
    pub output_bytes: u64,
    /// Size of the private `/tmp`, in bytes (default 256 MiB).
    pub tmp_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_seconds: 60,
            memory_bytes: 1 << 30,
            address_space_bytes: 64 << 30,
            processes: 64,
            open_files: 256,
            file_size_bytes: 256 << 20,
            wall_ms: 60_000,
            output_bytes: 1 << 20,
            tmp_bytes: 256 << 20,
        }
    }
}

/// What a command may see and use. There is no switch that turns a layer off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The one folder of the caller that the command works in, seen as [`WORKSPACE`]. None: it works in [`TMP`].
    pub workspace: Option<PathBuf>,
    /// The workspace can be read but not written.
    pub workspace_read_only: bool,
    /// Programs and native libraries that lie in the workspace or in `/tmp` may run. Scripts given to an interpreter
    /// run in any case.
    pub allow_exec: bool,
    /// Files and folders seen read-only at the same path, for example the prefix of a Python installation.
    pub read_only_binds: Vec<PathBuf>,
    /// Files and folders seen writable at the same path.
    pub read_write_binds: Vec<PathBuf>,
    /// See [`Limits`].
    pub limits: Limits,
    /// Variables added to the small fixed environment (`PATH`, `HOME`, `TMPDIR`, `LANG`, `TERM`, `USER`), or
    /// replacing some of it. Nothing of the caller's environment is passed on.
    pub env: Vec<(String, String)>,
    /// Working directory as the command sees it; default the workspace, else [`TMP`].
    pub cwd: Option<PathBuf>,
    /// Lowest Landlock ABI that will do. The highest the kernel has is used in any case; 0 stands for 1.
    pub min_landlock_abi: u32,
}

/// A program, its arguments and its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// Path as the command sees it, or a bare name to be looked up in the sandbox's `PATH`.
    pub program: PathBuf,
    /// Arguments, without the program's own name. No shell is involved.
    pub args: Vec<OsString>,
    /// Written to standard input, which is then closed.
    pub stdin: Vec<u8>,
}

impl Command {
    /// A command with arguments and empty standard input.
    pub fn new<A: Into<OsString>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect(), stdin: Vec::new() }
    }

    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs there"))]
    pub(crate) fn validate(&self) -> Result<(), SandboxError> {
        if self.program.as_os_str().is_empty() {
            return Err(invalid("the program is empty"));
        }
        let texts =
            || std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str));
        if texts().any(has_nul) {
            return Err(invalid("the program or an argument holds a NUL byte"));
        }
        if texts().map(OsStr::len).sum::<usize>() > COMMAND_BYTES_MAX {
            return Err(invalid("the arguments exceed 1 MiB"));
        }
        Ok(())
    }
}

impl Policy {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing runs there"))]
    pub(crate) fn validate(&self) -> Result<(), SandboxError> {
        if let Some(workspace) = &self.workspace {
            if !workspace.is_absolute() || workspace.parent().is_none() {
                return Err(invalid(format!(
                    "the workspace {} must be an absolute path below the root",
                    workspace.display()
                )));
            }
            if has_nul(workspace.as_os_str()) {
                return Err(invalid("the workspace's path holds a NUL byte"));
            }
        }
        if self.read_only_binds.len() + self.read_write_binds.len() > BINDS_MAX {
            return Err(invalid(format!("more than {BINDS_MAX} extra folders")));
        }
        for bind in self.read_only_binds.iter().chain(&self.read_write_binds) {
            validate_bind(bind)?;
        }
        if let Some(cwd) = &self.cwd
            && (!cwd.is_absolute() || has_nul(cwd.as_os_str()))
        {
            return Err(invalid(format!("the working directory {} must be absolute", cwd.display())));
        }
        let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if let Some((name, _)) = self.env.iter().find(|(name, value)| bad_name(name) || value.contains('\0'))
        {
            return Err(invalid(format!("the variable {name:?} has an impossible name or value")));
        }
        if self.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > COMMAND_BYTES_MAX {
            return Err(invalid("the environment exceeds 1 MiB"));
        }
        if self.limits.processes < 2 {
            return Err(invalid(
                "the limit of processes must be at least 2: the sandbox's init is one of them",
            ));
        }
        Ok(())
    }
}

fn validate_bind(bind: &Path) -> Result<(), SandboxError> {
    let plain = bind.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !bind.is_absolute() || !plain || bind.parent().is_none() || has_nul(bind.as_os_str()) {
        return Err(invalid(format!(
            "the folder {} must be absolute, without `..`, below the root",
            bind.display()
        )));
    }
    if bind == Path::new(TMP) || RESERVED.iter().any(|reserved| bind.starts_with(reserved)) {
        return Err(invalid(format!("the folder {} would cover one of the sandbox's own", bind.display())));
    }
    Ok(())
}

fn has_nul(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&0)
}

fn invalid(reason: impl Into<String>) -> SandboxError {
    SandboxError::InvalidPolicy { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_would_open_the_sandbox_are_refused() {
        for bind in ["/", "relative", "/opt/../etc", "/proc/sys", "/workspace/x", "/tmp", "/dev", "/opt/a\0b"]
        {
            let policy = Policy { read_only_binds: vec![bind.into()], ..Policy::default() };
            assert!(matches!(policy.validate(), Err(SandboxError::InvalidPolicy { .. })), "{bind:?}");
        }
        let policy =
            Policy { read_only_binds: vec!["/tmp/prefix".into(), "/opt/python".into()], ..Policy::default() };
        assert!(policy.validate().is_ok());
        for workspace in ["/", "here"] {
            let policy = Policy { workspace: Some(workspace.into()), ..Policy::default() };
            assert!(policy.validate().is_err(), "{workspace}");
        }
    }

    #[test]
    fn impossible_commands_and_variables_are_refused() {
        assert!(Command::new("", [""; 0]).validate().is_err());
        assert!(Command::new("/bin/echo", ["a\0b"]).validate().is_err());
        assert!(Command::new("/bin/echo", ["x".repeat(COMMAND_BYTES_MAX)]).validate().is_err());
        for name in ["", "A=B", "A\0"] {
            let policy = Policy { env: vec![(name.into(), "x".into())], ..Policy::default() };
            assert!(policy.validate().is_err(), "{name:?}");
        }
    }

    #[test]
    fn limits_refuse_unknown_names_and_default_the_rest() {
        let limits: Limits = serde_json::from_str(r#"{"wall_ms": 5}"#).unwrap();
        assert_eq!(limits, Limits { wall_ms: 5, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"wall": 5}"#).is_err());
    }
}
