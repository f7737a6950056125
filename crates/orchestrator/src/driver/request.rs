//! From a ready step to the request that a node gets, and what it needs of the node.

use jiff::Timestamp;
use kamil_plan::{RetryClass, Step, Task, labels};
use kamil_protocol::{
    ErrorCode, StepId,
    memory::{RecallReply, RecallRequest, RememberRequest},
    placement::StepNeeds,
    reason::{DEFAULT_MAX_TOKENS, ReasonRequest},
    task::{Source, StepError, StepKind, StepStatus},
    tool::{ExecuteRequest, SideEffect, ToolDescriptor},
};
use serde_json::Value;

use super::{growth, labelling, left_ms};
use crate::{
    link::NodeRequest,
    planner::{self, Context, StepResult},
    tool_set::digest,
};

/// Longest time that an LLM node has for one request.
const REASON_LEASE_MS: u64 = 600_000;
/// Longest time that a memory node has.
const MEMORY_LEASE_MS: u64 = 60_000;
/// What a tool node has beyond the tool's own limit, to stop it and to answer.
const TOOL_MARGIN_MS: u64 = 10_000;
/// A tool's limit where its descriptor is not known.
const TOOL_LIMIT_MS: u64 = 120_000;
/// Enough of a SHA-256 to notice another request.
const REQUEST_DIGEST_DIGITS: usize = 32;
/// What a model is expected to write unless it is limited.
const EXPECTED_TOKENS_OUT: u32 = 256;

/// A ready step with its request.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) step: StepId,
    pub(crate) kind: StepKind,
    pub(crate) needs: StepNeeds,
    pub(crate) request: NodeRequest,
    pub(crate) lease_ms: u64,
}

impl Prepared {
    /// The same for a node's model.
    pub(crate) fn aimed_at(mut self, model: Option<&str>) -> Self {
        if let (NodeRequest::Reason(request), Some(model)) = (&mut self.request, model) {
            request.model = Some(model.to_owned());
        }
        self
    }

    /// Digest of the request, but for the text that it continues: that is what a node reported.
    pub(crate) fn digest(&self) -> String {
        let value = match &self.request {
            NodeRequest::Reason(request) => serde_json::to_value(request),
            NodeRequest::Execute(request) => serde_json::to_value(request),
            NodeRequest::Recall(request) => serde_json::to_value(request),
            NodeRequest::Remember(request) => serde_json::to_value(request),
        };
        let mut value = value.unwrap_or_default();
        if let Some(members) = value.as_object_mut() {
            members.remove("continue_from");
        }
        let mut digest = digest(&kamil_ledger::canonical_json(&value));
        digest.truncate(REQUEST_DIGEST_DIGITS);
        digest
    }
}

impl Prepared {
    /// Most tokens that the model is wanted to write; none if no model is asked.
    pub(crate) fn max_tokens(&self) -> Option<u32> {
        let NodeRequest::Reason(request) = &self.request else { return None };
        Some(request.sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS))
    }

    /// Has the model write no more than is left of the task's tokens.
    pub(super) fn limit(&mut self, left: u64) {
        let most = u32::try_from(left).unwrap_or(u32::MAX);
        if let NodeRequest::Reason(request) = &mut self.request
            && (1..request.sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)).contains(&most)
        {
            request.sampling.max_tokens = Some(most);
        }
    }
}

/// Whether a tool may be run twice.
pub(crate) fn class_of(tool: Option<&ToolDescriptor>) -> RetryClass {
    match tool {
        Some(tool) if tool.idempotent || matches!(tool.side_effect, SideEffect::Pure | SideEffect::Read) => {
            RetryClass::Repeatable
        }
        _ => RetryClass::Once,
    }
}

/// Makes the request of a step; `None` if there is nothing to do for it. `written` is what was shown of the answer before its
/// node went away.
///
/// # Errors
/// Why there can be no request: an input that is not there, or no time.
pub(crate) fn prepare(
    ctx: &Context<'_>,
    task: &Task,
    step: &Step,
    written: Option<String>,
    now: Timestamp,
) -> Result<Option<Prepared>, StepError> {
    let own = step.left_ms(now);
    if own == Some(0) {
        return Err(overdue(step));
    }
    let left_ms = left_ms(task, now).min(own.unwrap_or(u64::MAX));
    let limit = match step.spec.kind {
        StepKind::Recall | StepKind::Remember => MEMORY_LEASE_MS,
        StepKind::Tool => {
            descriptor(ctx, step).map_or(TOOL_LIMIT_MS, |tool| tool.timeout_ms) + TOOL_MARGIN_MS
        }
        StepKind::Plan | StepKind::Reason | StepKind::Answer => REASON_LEASE_MS,
    };
    let lease_ms = limit.min(left_ms);
    let request = match step.spec.kind {
        StepKind::Recall => NodeRequest::Recall(recall(ctx)),
        StepKind::Remember => match remember(ctx, task) {
            Some(request) => NodeRequest::Remember(request),
            None => return Ok(None),
        },
        StepKind::Tool => NodeRequest::Execute(Box::new(execute(ctx, task, step, lease_ms)?)),
        StepKind::Plan | StepKind::Reason | StepKind::Answer => {
            NodeRequest::Reason(Box::new(reason(ctx, task, step, written, lease_ms)?))
        }
    };
    let needs = needs(ctx, step, &request);
    let mut prepared = Prepared { step: step.id().clone(), kind: step.spec.kind, needs, request, lease_ms };
    prepared.limit(task.tokens_left());
    Ok(Some(prepared))
}

pub(super) fn overdue(step: &Step) -> StepError {
    let limit = step.spec.deadline_ms.unwrap_or_default();
    StepError {
        code: ErrorCode::DeadlineExceeded,
        detail: format!("Step `{}` had not ended {limit} ms after it could start.", step.id()),
        next_step: Some("Give it a later `deadline_ms`, or less to do.".to_owned()),
    }
}

fn descriptor<'a>(ctx: &Context<'a>, step: &Step) -> Option<&'a ToolDescriptor> {
    let name = step.spec.tool.as_deref()?;
    ctx.tools.iter().find(|tool| tool.name == name)
}

fn recall(ctx: &Context<'_>) -> RecallRequest {
    RecallRequest {
        query: ctx.request.input.clone(),
        limit: None,
        kinds: Vec::new(),
        session: ctx.request.session,
        conversation_tokens: None,
        now: Some(ctx.now),
    }
}

fn remember(ctx: &Context<'_>, task: &Task) -> Option<RememberRequest> {
    let answer = task.steps().iter().find(|step| step.spec.kind == StepKind::Answer);
    let said =
        answer.and_then(|step| step.labels.clone()).unwrap_or_else(|| labels::untrusted(Source::Model));
    let answer = answer.and_then(|step| step.output.as_deref()).and_then(Value::as_str).unwrap_or_default();
    let memories = planner::memories(ctx, task.id(), &results(task), answer, &said);
    (!memories.is_empty()).then_some(RememberRequest { memories })
}

fn execute(ctx: &Context<'_>, task: &Task, step: &Step, lease_ms: u64) -> Result<ExecuteRequest, StepError> {
    let arguments = task.resolve(step).map_err(|error| missing(step, &error))?;
    let limit = descriptor(ctx, step).map_or(TOOL_LIMIT_MS, |tool| tool.timeout_ms);
    // A rerun that the person asked for is another effect, so it has another key.
    let idempotency_key = match step.reruns {
        0 => format!("{}/{}", task.id(), step.id()),
        reruns => format!("{}/{}/{reruns}", task.id(), step.id()),
    };
    Ok(ExecuteRequest {
        task: task.id(),
        step: step.id().clone(),
        tool: step.spec.tool.clone().unwrap_or_default(),
        arguments: Value::Object(arguments),
        idempotency_key,
        approval: step.approved.clone(),
        labels: task.input_labels(step),
        deadline_ms: Some(limit.min(lease_ms)),
    })
}

fn reason(
    ctx: &Context<'_>,
    task: &Task,
    step: &Step,
    written: Option<String>,
    lease_ms: u64,
) -> Result<ReasonRequest, StepError> {
    let mut request = match step.spec.kind {
        StepKind::Plan => {
            let previous = step.refused.as_ref();
            let previous = previous.map(|refused| (refused.reply.clone(), refused.reason.clone()));
            let results = growth::seen_by(task, StepKind::Plan);
            planner::plan_request(&Context { results: &results, ..*ctx }, previous.as_ref())
        }
        StepKind::Answer => {
            let mut request = planner::answer_request(ctx, &results(task));
            request.stream = true;
            request.continue_from = written;
            request
        }
        _ => {
            let inputs = task.resolve(step).map_err(|error| missing(step, &error))?;
            planner::reason_request(ctx, &Value::Object(inputs))
        }
    };
    let wanted = step.taken_over_by.clone().or_else(|| ctx.request.model.clone());
    request.model = wanted.or(request.model);
    request.deadline_ms = Some(lease_ms);
    Ok(request)
}

/// What a request to a model needs of a node.
pub(crate) fn reading(kind: StepKind, request: &ReasonRequest) -> StepNeeds {
    let bytes: usize = request.messages.iter().map(|message| message.content.len() + 16).sum();
    StepNeeds {
        kind,
        tool: None,
        model: request.model.clone(),
        specialization: None,
        // English text has about four bytes to a token.
        tokens_in: u32::try_from(bytes / 4).unwrap_or(u32::MAX),
        tokens_out: request.sampling.max_tokens.unwrap_or(EXPECTED_TOKENS_OUT).min(EXPECTED_TOKENS_OUT),
        memory_bytes: 0,
        accelerator: None,
    }
}

fn needs(ctx: &Context<'_>, step: &Step, request: &NodeRequest) -> StepNeeds {
    let mut needs = StepNeeds {
        kind: step.spec.kind,
        tool: step.spec.tool.clone(),
        model: None,
        specialization: None,
        tokens_in: 0,
        tokens_out: 0,
        memory_bytes: 0,
        accelerator: None,
    };
    if let NodeRequest::Reason(request) = request {
        needs = reading(step.spec.kind, request);
        needs.specialization = match (&step.spec.specialization, step.spec.kind) {
            (Some(wanted), _) => Some(wanted.clone()),
            (None, StepKind::Reason) => {
                let instruction = step.spec.inputs.get("instruction").and_then(Value::as_str);
                Some(planner::specialization(instruction.unwrap_or(&ctx.request.input)).to_owned())
            }
            _ => None,
        };
    }
    needs
}

/// The steps that have ended, as an answer may speak of them.
pub(crate) fn results(task: &Task) -> Vec<StepResult<'_>> {
    let told = task.steps().iter().filter(|step| {
        !matches!(step.spec.kind, StepKind::Answer | StepKind::Remember) && step.status.is_final()
    });
    told.map(|step| StepResult {
        spec: &step.spec,
        status: step.status,
        output: step.output.as_deref(),
        error: step.error.as_ref(),
        labels: labelling::of_result(step),
    })
    .collect()
}

/// What memory returned, if it was asked.
pub(crate) fn recalled(task: &Task) -> Option<RecallReply> {
    let step = task
        .steps()
        .iter()
        .find(|step| step.spec.kind == StepKind::Recall && step.status == StepStatus::Succeeded)?;
    serde_json::from_value(step.output.as_deref()?.clone()).ok()
}

fn missing(step: &Step, error: &kamil_plan::reference::ReferenceError) -> StepError {
    StepError {
        code: ErrorCode::PlanInvalid,
        detail: format!("Step `{}` cannot start: {error}.", step.id()),
        next_step: None,
    }
}
