//! The people: they ask, ask again when nobody answers, change their minds, and decide.

mod wish;

use std::{sync::Arc, time::Duration};

use kamil_protocol::{
    ErrorCode, SessionId, StepId, TaskId,
    task::{ApprovalDecision, Decision, StepStatus, TaskRequest},
};

use crate::{machine::Machine, oracle::Oracle, random::Random};

/// Longest that a person goes on asking.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a person looks at what they asked.
const LOOK: Duration = Duration::from_millis(900);

/// One person with one request.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) number: u64,
    pub(crate) random: Random,
    pub(crate) machine: Arc<Machine>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) session: SessionId,
    /// The tools that the run's nodes have.
    pub(crate) tools: Vec<&'static str>,
}

impl Person {
    /// Asks, and sees it to its end.
    pub(crate) async fn act(self, within: Duration) {
        let within = u64::try_from(within.as_millis()).unwrap_or(0);
        tokio::time::sleep(self.random.millis(0, within)).await;
        let request = self.wish();
        let key = self.random.per_mille(750).then(|| format!("key-{}", self.number));
        let Some(task) = self.ask(&request, key.as_deref()).await else { return };
        if let Some(key) = &key
            && self.random.per_mille(300)
        {
            self.ask_again(&request, key, task).await;
        }
        tokio::join!(self.maybe_cancel(task), self.decide(task));
    }

    /// Asks until the request is accepted or refused for good.
    async fn ask(&self, request: &TaskRequest, key: Option<&str>) -> Option<TaskId> {
        let until = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < until {
            let orchestrator = self.machine.reached().await;
            match orchestrator.submit(request.clone(), key.map(str::to_owned)).await {
                Ok(accepted) => {
                    self.oracle.acknowledged(accepted.id);
                    return Some(accepted.id);
                }
                Err(problem) => {
                    self.oracle.note(&format!("request {} is refused: {}", self.number, problem.code));
                    match problem.code {
                        ErrorCode::Busy
                        | ErrorCode::StorageFull
                        | ErrorCode::ToolUnknown
                        | ErrorCode::NoNode => {}
                        // Whether it was accepted is not known, so that only one with a key is asked again.
                        ErrorCode::NodeUnreachable if key.is_some() => {}
                        ErrorCode::NodeUnreachable => return None,
                        _ => {
                            self.oracle.violated(&format!("a good request is refused: {problem}"));
                            return None;
                        }
                    }
                }
            }
            tokio::time::sleep(self.random.millis(50, 3_000)).await;
        }
        None
    }

    /// The same key gives the same task, and another request under it is refused.
    async fn ask_again(&self, request: &TaskRequest, key: &str, task: TaskId) {
        tokio::time::sleep(self.random.millis(0, 5_000)).await;
        let other = TaskRequest { input: format!("{} Or else?", request.input), ..request.clone() };
        let differs = self.random.per_mille(300);
        let orchestrator = self.machine.reached().await;
        let asked = if differs { other } else { request.clone() };
        match orchestrator.submit(asked, Some(key.to_owned())).await {
            Ok(accepted) if accepted.id != task || differs => {
                let what = format!("key {key} of task {task} was taken for task {}", accepted.id);
                self.oracle.violated(&what);
            }
            Err(problem) if problem.code == ErrorCode::IdempotencyMismatch && !differs => {
                self.oracle.violated(&format!("a repeat of request {} is refused: {problem}", self.number));
            }
            _ => {}
        }
    }

    async fn maybe_cancel(&self, task: TaskId) {
        if !self.random.per_mille(150) {
            return;
        }
        tokio::time::sleep(self.random.millis(0, 8_000)).await;
        let orchestrator = self.machine.reached().await;
        let cancelled = orchestrator.cancel(task).await;
        let folded = self.oracle.task(task);
        if cancelled.is_ok() && folded.is_some_and(|task| task.ended().is_none()) {
            self.oracle.violated(&format!("task {task} goes on though its cancellation was acknowledged"));
        }
    }

    /// Decides on what is asked, as long as the task has not ended. Some questions are left open.
    async fn decide(&self, task: TaskId) {
        let mut left_open: Vec<StepId> = Vec::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(state) = self.oracle.task(task).filter(|state| state.ended().is_none()) else { return };
            self.machine.hold_against_driver(task).await;
            let asks = |status| matches!(status, StepStatus::AwaitingApproval | StepStatus::OutcomeUnknown);
            let asked = state.steps().iter().find(|step| asks(step.status) && !left_open.contains(step.id()));
            let Some(step) = asked else {
                if self.oracle.open_tasks().contains(&(task, true)) {
                    return;
                }
                continue;
            };
            match self.random.below(10) {
                0 => left_open.push(step.id().clone()),
                1..4 => {}
                choice => {
                    let decision = if choice < 8 { Decision::Approve } else { Decision::Deny };
                    let digest = step.approval.as_ref().map(|asked| asked.digest.clone());
                    let orchestrator = self.machine.reached().await;
                    let decision = ApprovalDecision { decision, digest };
                    // The question may have gone away meanwhile, or the machine may stop; then it is looked at again.
                    let _ = orchestrator.decide(task, step.id().clone(), decision).await;
                }
            }
        }
    }
}
