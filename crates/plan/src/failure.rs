//! What follows from a failed attempt.

use kamil_protocol::{ErrorCode, task::StepKind};

use crate::step::Step;

/// Most attempts at a step that fail by their own, before it has failed for good.
pub const MAX_ATTEMPTS: u32 = 3;
/// Most replies of models to a `plan` step: the first, two repairs, and one of another model.
pub const MAX_PLAN_REPLIES: u32 = 4;
/// Most times that full nodes may turn a step away.
pub const MAX_BUSY_REPLIES: u32 = 200;

/// Whether a step may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Twice is as good as once: reasoning, recall, and tools that only read or are idempotent.
    Repeatable,
    /// It may have an effect that must not happen twice.
    Once,
    /// There is no point in another attempt.
    Never,
}

/// The verdict on a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry,
    Fail,
    Unknown,
}

/// Judges a failed attempt. `lost` says that nobody told how the attempt ended: the connection broke or the lease ran out;
/// `retries_left`, whether the task may try anything again.
pub(crate) fn judge(
    step: &Step,
    code: ErrorCode,
    class: RetryClass,
    lost: bool,
    retries_left: bool,
) -> Verdict {
    let verdict = verdict(step, code, class, lost, retries_left);
    // Of an earlier attempt in doubt only the end of the tool itself tells, which its node has on record: not a refusal.
    let settled = matches!(code, ErrorCode::ToolFailed | ErrorCode::DeadlineExceeded);
    let in_doubt = class == RetryClass::Once && step.doubtful && !settled;
    if verdict == Verdict::Fail && in_doubt { Verdict::Unknown } else { verdict }
}

fn verdict(step: &Step, code: ErrorCode, class: RetryClass, lost: bool, retries_left: bool) -> Verdict {
    if code == ErrorCode::OutcomeUnknown {
        return Verdict::Unknown;
    }
    if class == RetryClass::Never {
        return Verdict::Fail;
    }
    match code {
        ErrorCode::Busy => {
            return if step.busy + 1 < MAX_BUSY_REPLIES { Verdict::Retry } else { Verdict::Fail };
        }
        ErrorCode::PlanInvalid if step.spec.kind == StepKind::Plan => {
            return if retries_left && step.invalid + 1 < MAX_PLAN_REPLIES {
                Verdict::Retry
            } else {
                Verdict::Fail
            };
        }
        _ => {}
    }
    let attempts_left = retries_left && step.failures + 1 < MAX_ATTEMPTS;
    let ambiguous = lost || matches!(code, ErrorCode::Internal | ErrorCode::BadGateway);
    if class == RetryClass::Once && ambiguous {
        return if attempts_left { Verdict::Retry } else { Verdict::Unknown };
    }
    if attempts_left && (lost || elsewhere(code)) { Verdict::Retry } else { Verdict::Fail }
}

/// Whether another node, or the same one a little later, may do better.
const fn elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NodeUnreachable
            | ErrorCode::BadGateway
            | ErrorCode::Internal
            | ErrorCode::ModelUnusable
            | ErrorCode::ModelUnknown
            | ErrorCode::ToolUnknown
            | ErrorCode::LayerUnavailable
            | ErrorCode::OrchestratorOnly
            | ErrorCode::Unauthenticated
            | ErrorCode::StorageFull
    )
}

/// Whether an attempt that ended so, and is followed by another, may have had its effect.
pub(crate) const fn leaves_doubt(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NodeUnreachable
            | ErrorCode::DeadlineExceeded
            | ErrorCode::BadGateway
            | ErrorCode::Internal
            | ErrorCode::Cancelled
    )
}
