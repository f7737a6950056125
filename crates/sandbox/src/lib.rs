//! One launcher that confines a process; the only home of first-party `unsafe`.
//!
//! - [`run`] starts a [`Command`] under a [`Policy`], bounds its output and time, and returns an [`Outcome`].
//! - [`launcher::run_if_requested`] is the other half: the binary that [`Launcher`] names calls it first in `main`.
//! - [`Enforced`] lists the [`Layer`]s that really hold; one that cannot be set up is a [`SandboxError`], never a
//!   quiet run without it.
//! - [`CancelToken`] kills the whole process tree at once; so do the deadline and the death of the caller.
//! - [`find_program`] locates an interpreter together with the folders that it needs to see.
//!
//! Three processes take part. The *launcher* (outside) makes the namespaces and waits. *Init* (process 1 inside)
//! builds the file system, gives up every privilege and reaps. The *task* takes on limits and filter, then `execve`s.
//! Linux on x86_64 and aarch64; elsewhere everything compiles and [`run`] answers [`SandboxError::Unsupported`].

mod cancel;
pub mod launcher;
mod outcome;
mod policy;
mod program;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod supervise;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sys;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod wire;

pub use cancel::CancelToken;
pub use outcome::{Enforced, Layer, Outcome, SandboxError, Status, Usage};
pub use policy::{Command, Launcher, Limits, Policy, TMP, WORKSPACE};
pub use program::{Program, find_program};

/// Runs `command` confined by `policy` and waits for its end. Blocks the calling thread for up to
/// `policy.limits.wall_ms` plus a few seconds; no process of the command is left when it returns.
///
/// The thread that calls must stay alive meanwhile (it does, since it is blocked here): its death kills the tree.
///
/// # Errors
/// [`SandboxError::LayerUnavailable`] when a layer of the confinement cannot be set up; then nothing of the command
/// has run. A command that fails, is killed or runs out of time is not an error but an [`Outcome`].
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn run(
    launcher: &Launcher,
    policy: &Policy,
    command: &Command,
    cancel: &CancelToken,
) -> Result<Outcome, SandboxError> {
    policy.validate()?;
    command.validate()?;
    supervise::run(launcher, policy, command, cancel)
}

/// Refuses: nothing confines a process on this platform.
///
/// # Errors
/// Always [`SandboxError::Unsupported`].
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn run(
    _launcher: &Launcher,
    _policy: &Policy,
    _command: &Command,
    _cancel: &CancelToken,
) -> Result<Outcome, SandboxError> {
    Err(SandboxError::Unsupported)
}
