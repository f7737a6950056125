//! The plan that a task would be given, without a task: the same gate, prompts, grammar, checks and repairs, and the same placement.

use std::time::Duration;

use kamil_placement::Policy;
use kamil_protocol::{
    ErrorCode, Problem,
    planning::{PlanPreviewReply, PlanPreviewRequest},
    reason::{ReasonReply, ReasonRequest, Usage},
    task::StepKind,
};

use crate::{
    driver::reading,
    hub::Hub,
    planner::{self, Context, Gate, Rung},
};

/// Longest time for one reply.
const REPLY_WITHIN: Duration = Duration::from_secs(600);
/// A full node is asked again after this long, this often.
const FULL_PAUSE: Duration = Duration::from_millis(500);
const FULL_TRIES: u32 = 60;

/// Plans for a request.
///
/// # Errors
/// `validation_failed` for an impossible request, `no_node` without an LLM node, and what the node refuses.
pub(crate) async fn preview(hub: &Hub, asked: PlanPreviewRequest) -> Result<PlanPreviewReply, Problem> {
    hub.check(&asked.request)?;
    let registered = hub.registry.tools();
    let tools = asked.tools.as_deref().unwrap_or(&registered);
    let ctx = Context { request: &asked.request, tools, recall: None, results: &[], now: hub.now() };
    let mut told = PlanPreviewReply::default();
    if planner::gate(&ctx) == Gate::Direct {
        return Ok(told);
    }
    told.asked = true;
    let mut previous: Option<(String, String)> = None;
    let mut model = asked.request.model.clone();
    loop {
        let mut request = planner::plan_request(&ctx, previous.as_ref());
        request.model.clone_from(&model);
        let reply = ask(hub, request).await?;
        add(&mut told.usage, &reply.usage);
        told.model = Some(reply.model.clone());
        let reason = match planner::read(&ctx, &[], &reply.text) {
            Ok(plan) => {
                told.steps = plan.steps;
                told.degraded = plan.told;
                return Ok(told);
            }
            Err(reason) => reason,
        };
        told.refused.push(reason.clone());
        let replies = u32::try_from(told.refused.len()).unwrap_or(u32::MAX);
        let another = hub.registry.models(true).into_iter().find(|name| *name != reply.model);
        match planner::next_rung(replies, another.is_some()) {
            Rung::Repair => previous = Some((reply.text, reason)),
            Rung::AnotherModel => (previous, model) = (None, another),
            Rung::WithoutModel => {
                let (how, steps) = planner::without_model(&ctx, &[]);
                told.degraded.push(format!("No plan was made ({}); {how}.", reason.trim_end_matches('.')));
                told.steps = steps;
                return Ok(told);
            }
        }
    }
}

async fn ask(hub: &Hub, mut request: ReasonRequest) -> Result<ReasonReply, Problem> {
    let needs = reading(StepKind::Plan, &request);
    let mut tries = 0;
    loop {
        let decision = hub
            .registry
            .place(std::slice::from_ref(&needs), &Policy::default(), None)
            .pop()
            .unwrap_or_default();
        let chosen = decision.placement.chosen;
        let handle = chosen.as_ref().and_then(|chosen| hub.registry.handle(chosen.node));
        let (Some(chosen), Some(node)) = (chosen, handle) else {
            let why: Vec<String> = decision
                .placement
                .rejected
                .iter()
                .take(4)
                .map(|it| format!("`{}`: {}", it.name, it.reason))
                .collect();
            let detail = format!("No LLM node can write a plan now. {}", why.join("; "));
            return Err(Problem::new(ErrorCode::NoNode, detail.trim_end())
                .next("Start an LLM node: kamil llm-node 8001 MODEL localhost:8000."));
        };
        request.model = chosen.model;
        let _busy = hub.registry.occupy(&node, chosen.predicted_ms);
        match node.client()?.with_timeout(REPLY_WITHIN).post("/v1/reason", &request).await {
            Err(problem) if problem.code == ErrorCode::Busy && tries < FULL_TRIES => {
                tries += 1;
                tokio::time::sleep(FULL_PAUSE).await;
            }
            reply => return reply,
        }
    }
}

fn add(sum: &mut Usage, more: &Usage) {
    sum.tokens_in += more.tokens_in;
    sum.tokens_cached += more.tokens_cached;
    sum.tokens_out += more.tokens_out;
    sum.tokens_forced += more.tokens_forced;
    sum.queue_ms += more.queue_ms;
    sum.prefill_ms += more.prefill_ms;
    sum.decode_ms += more.decode_ms;
}
