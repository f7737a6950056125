//! What a command ends with when it does not end well.

use std::{fmt, process::ExitCode};

use kamil_protocol::{ErrorCode, Problem};

/// Exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done = 0,
    /// The task, or the command, failed.
    Failed = 1,
    /// The command line, the settings or a name in them is wrong.
    Usage = 2,
    /// The orchestrator cannot be reached.
    Unreachable = 3,
    /// Permission or authentication is missing.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Says what failed, on what and why, and what to do next.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    message: String,
    next_step: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next_step: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn next(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next_step {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.code {
            ErrorCode::NodeUnreachable => Exit::Unreachable,
            ErrorCode::Unauthenticated
            | ErrorCode::Forbidden
            | ErrorCode::OrchestratorOnly
            | ErrorCode::HostNotAllowed
            | ErrorCode::OriginNotAllowed
            | ErrorCode::ApprovalRequired
            | ErrorCode::Denied => Exit::Refused,
            ErrorCode::MalformedBody
            | ErrorCode::UnknownField
            | ErrorCode::InvalidParameter
            | ErrorCode::NotFound
            | ErrorCode::TaskUnknown
            | ErrorCode::StepUnknown
            | ErrorCode::NodeUnknown
            | ErrorCode::MemoryUnknown
            | ErrorCode::ModelUnknown
            | ErrorCode::ToolUnknown
            | ErrorCode::BodyTooLarge
            | ErrorCode::ValidationFailed
            | ErrorCode::InvalidArguments
            | ErrorCode::PlanInvalid => Exit::Usage,
            _ => Exit::Failed,
        };
        let next_step = problem.next_step.clone().or_else(|| default_next_step(problem.code));
        Self { exit, message: format!("{} [{}]", problem.detail, problem.code), next_step }
    }
}

fn default_next_step(code: ErrorCode) -> Option<String> {
    let text = match code {
        ErrorCode::Unauthenticated => "name the cluster's key: --cluster-key-file FILE",
        ErrorCode::TaskUnknown => "`kamil tasks` lists the tasks",
        ErrorCode::NodeUnknown => "`kamil nodes` lists the nodes",
        ErrorCode::ModelUnknown => "`kamil nodes` shows which models the nodes offer",
        ErrorCode::ToolUnknown => "`kamil tools list` shows the tools",
        ErrorCode::MemoryUnknown => "`kamil memory list` shows the memories",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_detail_code_and_next_step() {
        let problem = Problem::new(ErrorCode::Denied, "The rule `no-shell` forbids `code_tools.shell`.");
        let failure = Failure::from(problem.next("Ask the owner."));
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "The rule `no-shell` forbids `code_tools.shell`. [denied]\n  next: Ask the owner."
        );
    }
}
