//! What comes back: the end of the command, its output, and the layers that held.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One restriction of the confinement. All of them are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// A user namespace of its own: capabilities in it mean nothing outside.
    UserNamespace,
    /// Host processes cannot be seen, signalled or traced.
    PidNamespace,
    /// System V IPC and POSIX message queues of the host are out of reach.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// A mount table of its own.
    MountNamespace,
    /// No interface but a loopback that is down, and no abstract socket of the host.
    NetworkNamespace,
    /// Control groups of the host cannot be seen.
    CgroupNamespace,
    /// The kernel's user is not root, also when the caller is.
    UnprivilegedUser,
    /// The tree dies with the process that started it.
    DiesWithCaller,
    /// A root on tmpfs with read-only system folders; the host's root is unmounted.
    PivotRoot,
    /// A `/proc` that shows the sandbox's own processes only, read-only.
    PrivateProc,
    /// No program gains privileges when it is run (`PR_SET_NO_NEW_PRIVS`).
    NoNewPrivileges,
    /// All five capability sets are empty and locked.
    CapabilitiesDropped,
    /// Landlock, with every right that the kernel's ABI knows.
    Landlock,
    /// System calls that are not on the list are refused.
    Seccomp,
    /// A session of its own, without a terminal.
    NewSession,
    /// No descriptor but 0, 1 and 2.
    DescriptorsClosed,
    /// Processor time, memory, processes, descriptors, file size, no core file.
    ResourceLimits,
}

impl Layer {
    /// Every layer, in the order in which they are put on.
    pub const ALL: [Self; 18] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::MountNamespace,
        Self::NetworkNamespace,
        Self::CgroupNamespace,
        Self::UnprivilegedUser,
        Self::DiesWithCaller,
        Self::PivotRoot,
        Self::PrivateProc,
        Self::NoNewPrivileges,
        Self::CapabilitiesDropped,
        Self::Landlock,
        Self::Seccomp,
        Self::NewSession,
        Self::DescriptorsClosed,
        Self::ResourceLimits,
    ];

    /// The name used in messages and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user_namespace",
            Self::PidNamespace => "pid_namespace",
            Self::IpcNamespace => "ipc_namespace",
            Self::UtsNamespace => "uts_namespace",
            Self::MountNamespace => "mount_namespace",
            Self::NetworkNamespace => "network_namespace",
            Self::CgroupNamespace => "cgroup_namespace",
            Self::UnprivilegedUser => "unprivileged_user",
            Self::DiesWithCaller => "dies_with_caller",
            Self::PivotRoot => "pivot_root",
            Self::PrivateProc => "private_proc",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::CapabilitiesDropped => "capabilities_dropped",
            Self::Landlock => "landlock",
            Self::NewSession => "new_session",
            Self::DescriptorsClosed => "descriptors_closed",
            Self::ResourceLimits => "resource_limits",
            Self::Seccomp => "seccomp",
        }
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The restrictions that held when the command began, as the launcher reported them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enforced {
    /// In the order in which they were put on; empty when the command never began.
    pub layers: Vec<Layer>,
    /// Landlock ABI in force (1 and up).
    pub landlock_abi: u32,
    /// Number of the user as the kernel sees it, outside the sandbox.
    pub host_uid: u32,
}

impl Enforced {
    /// The first layer that is missing, if any.
    #[must_use]
    pub fn missing(&self) -> Option<Layer> {
        Layer::ALL.into_iter().find(|layer| !self.layers.contains(layer))
    }
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It exited with this code, 0–255.
    Exited(i32),
    /// It was killed by this signal: 24 (SIGXCPU) or 9 at the processor limit, 25 (SIGXFSZ) at the file size limit.
    Signalled(i32),
    /// The tree was killed when `wall_ms` were over.
    DeadlineExceeded,
    /// The tree was killed because it wrote far more than `output_bytes`.
    OutputExceeded,
    /// The tree was killed by [`CancelToken::cancel`](crate::CancelToken::cancel).
    Cancelled,
}

impl Status {
    /// It exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// What the command's main process and its awaited children used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: u64,
    /// Processor time in the kernel, in milliseconds.
    pub system_ms: u64,
    /// Largest resident set of one process, in bytes.
    pub max_resident_bytes: u64,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The first `output_bytes` of standard output.
    pub stdout: Vec<u8>,
    /// The first `output_bytes` of standard error.
    pub stderr: Vec<u8>,
    /// There was more on standard output.
    pub stdout_truncated: bool,
    /// There was more on standard error.
    pub stderr_truncated: bool,
    /// What held while it ran.
    pub enforced: Enforced,
    /// What it used; zero when it was killed.
    pub usage: Usage,
    /// From the call to the death of the last process, in milliseconds.
    pub duration_ms: u64,
}

/// Why a command was not run, or why nobody can tell how it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The policy or the command contradicts itself or names something that is not there.
    #[error("the sandbox cannot be set up as asked: {reason}")]
    InvalidPolicy {
        /// What is wrong.
        reason: String,
    },
    /// This machine cannot enforce a layer; nothing was run.
    #[error("refused: the layer {layer} of the sandbox is unavailable ({reason})")]
    LayerUnavailable {
        /// Which layer.
        layer: Layer,
        /// What failed, and what can be done where that is known.
        reason: String,
    },
    /// The program could not be started inside the sandbox.
    #[error("cannot run {program} in the sandbox: {reason}")]
    Program {
        /// As asked for.
        program: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// The launcher itself could not be started.
    #[error("cannot start the launcher {program}")]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The launcher ended without telling how the command ended (it was killed, or is not a launcher).
    #[error("the launcher ended without a report ({reason})")]
    LauncherFailed {
        /// Its exit status and what it said.
        reason: String,
    },
    /// A system call of the supervising side failed.
    #[error("cannot {operation}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not Linux on x86_64 or aarch64.
    #[error("processes can be confined on Linux (x86_64, aarch64) only; run the tool node on such a machine")]
    Unsupported,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_messages_and_in_json_agree() {
        for layer in Layer::ALL {
            assert_eq!(serde_json::to_string(&layer).unwrap(), format!("\"{layer}\""));
        }
    }

    #[test]
    fn a_report_with_a_layer_left_out_is_incomplete() {
        let mut enforced = Enforced { layers: Layer::ALL.to_vec(), landlock_abi: 1, host_uid: 1 };
        assert_eq!(enforced.missing(), None);
        enforced.layers.retain(|layer| *layer != Layer::Seccomp);
        assert_eq!(enforced.missing(), Some(Layer::Seccomp));
    }
}
