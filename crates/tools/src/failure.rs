//! Why a tool did not return a result, and how that stands on the wire.

use kamil_protocol::{ErrorCode, Problem};
use kamil_sandbox::SandboxError;

/// Why a tool did not return a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An argument has the right shape but cannot be used.
    #[error("the argument `{argument}` cannot be used: {reason}")]
    Argument { argument: &'static str, reason: String },
    /// The tool tried and could not.
    #[error("{detail}")]
    Failed { detail: String, next_step: Option<&'static str> },
    /// The deadline passed; whatever ran is dead.
    #[error("the tool was stopped after {after_ms} ms, its time limit")]
    Deadline { after_ms: u64 },
    /// The caller went away; whatever ran is dead.
    #[error("the tool was stopped because its caller went away or the node is shutting down")]
    Cancelled,
    /// The confinement cannot be set up; nothing ran.
    #[error("{0}")]
    Layer(String),
    /// There is no room on the disk.
    #[error("{0}: no space is left on the disk")]
    StorageFull(String),
    /// A part of Kamil broke.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub(crate) fn argument(argument: &'static str, reason: impl Into<String>) -> Self {
        Self::Argument { argument, reason: reason.into() }
    }

    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Self::Failed { detail: detail.into(), next_step: None }
    }

    pub(crate) fn failed_next(detail: impl Into<String>, next_step: &'static str) -> Self {
        Self::Failed { detail: detail.into(), next_step: Some(next_step) }
    }

    /// An operation of the file system, on a path as the caller wrote it.
    pub(crate) fn io(operation: &str, path: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let what = format!("cannot {operation} `{path}`");
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::StorageFull(what),
            ErrorKind::NotFound => Self::failed_next(
                format!("{what}: there is no such file or folder in the workspace"),
                "List the workspace with file_ops.list.",
            ),
            // What the confined lookup answers when a path or a symbolic link leads outside.
            ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                Self::failed(format!("{what}: it leads outside the workspace"))
            }
            ErrorKind::IsADirectory => Self::failed(format!("{what}: it is a folder")),
            ErrorKind::NotADirectory => Self::failed(format!("{what}: a part of the path is not a folder")),
            ErrorKind::AlreadyExists => Self::failed(format!("{what}: it exists already")),
            _ => Self::failed(format!("{what}: {error}")),
        }
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::LayerUnavailable { .. } | SandboxError::Unsupported => {
                Self::Layer(error.to_string())
            }
            SandboxError::Program { .. } => Self::failed(error.to_string()),
            SandboxError::Spawn { ref source, .. } | SandboxError::Io { ref source, .. } => {
                Self::Internal(format!("{error}: {source}"))
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        match failure {
            Failure::Argument { argument, .. } => Self::new(ErrorCode::InvalidArguments, detail)
                .data(serde_json::json!({ "errors": [{ "path": format!("/{argument}") }] })),
            Failure::Failed { next_step, .. } => {
                let problem = Self::new(ErrorCode::ToolFailed, detail);
                match next_step {
                    Some(next) => problem.next(next),
                    None => problem,
                }
            }
            Failure::Deadline { .. } => Self::new(ErrorCode::DeadlineExceeded, detail)
                .next("Give it less to do, or a later deadline."),
            Failure::Cancelled => Self::new(ErrorCode::Cancelled, detail),
            Failure::Layer(_) => Self::new(ErrorCode::LayerUnavailable, detail)
                .next("Nothing was run. `kamil doctor` shows what this machine lacks."),
            Failure::StorageFull(_) => {
                Self::new(ErrorCode::StorageFull, detail).next("Free some space, then try again.")
            }
            Failure::Internal(_) => Self::new(ErrorCode::Internal, detail),
        }
    }
}
