//! Running a program confined, with nothing but the workspace.

use std::{path::PathBuf, sync::Arc};

use kamil_sandbox::{CancelToken, Command, Launcher, Limits, Outcome, Policy, SandboxError, Status};

use crate::{failure::Failure, tool::Call, workspace::Workspace};

/// Everything that confined programs have in common.
#[derive(Debug)]
pub(crate) struct Confinement {
    launcher: Launcher,
    limits: Limits,
    min_landlock_abi: u32,
    workspace: Arc<Workspace>,
}

impl Confinement {
    pub(crate) fn new(
        launcher: Launcher,
        limits: Limits,
        min_landlock_abi: u32,
        workspace: Arc<Workspace>,
    ) -> Self {
        Self { launcher, limits, min_landlock_abi, workspace }
    }

    /// Runs the command with the workspace at `/workspace`, no network, and `visible` read-only, until it ends, the
    /// call's deadline passes or its caller goes away; in each case no process of it is left.
    pub(crate) fn run(
        &self,
        command: &Command,
        visible: &[PathBuf],
        call: &Call,
    ) -> Result<Outcome, Failure> {
        let wall_ms = call.remaining_ms().min(self.limits.wall_ms);
        let policy = Policy {
            workspace: Some(self.workspace.path().to_path_buf()),
            read_only_binds: visible.to_vec(),
            limits: Limits { wall_ms, ..self.limits.clone() },
            min_landlock_abi: self.min_landlock_abi,
            ..Policy::default()
        };
        let outcome = kamil_sandbox::run(&self.launcher, &policy, command, &call.cancel)?;
        match outcome.status {
            Status::Cancelled => Err(Failure::Cancelled),
            Status::DeadlineExceeded => Err(call.deadline_failure()),
            Status::OutputExceeded => {
                Err(Failure::failed("the program was stopped: it wrote far too much output"))
            }
            Status::Exited(_) | Status::Signalled(_) => Ok(outcome),
        }
    }

    /// Tries the confinement out on a program that does nothing, so that a machine that cannot confine is known at
    /// start.
    pub(crate) fn probe(&self) -> Result<(), SandboxError> {
        let policy =
            Policy { limits: Limits { wall_ms: 10_000, ..self.limits.clone() }, ..Policy::default() };
        let command = Command::new("/bin/true", [""; 0]);
        kamil_sandbox::run(&self.launcher, &policy, &command, &CancelToken::new()).map(|_| ())
    }
}

/// Names of the layers that held, for the reply.
pub(crate) fn layers(outcome: &Outcome) -> Vec<String> {
    outcome.enforced.layers.iter().map(ToString::to_string).collect()
}

/// What a signal that ended a program stands for, in words.
pub(crate) fn signal_meaning(signal: i32) -> &'static str {
    match signal {
        4 => "illegal instruction",
        6 => "aborted",
        8 => "arithmetic fault",
        9 => "killed, as happens at the limit of memory or processor time",
        11 => "memory fault",
        24 => "limit of processor time",
        25 => "limit of file size",
        31 => "a system call that is not allowed",
        _ => "killed by a signal",
    }
}
