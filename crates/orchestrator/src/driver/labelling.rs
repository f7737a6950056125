//! Labels on what goes into a prompt, and so on what a model makes of it.

use kamil_plan::{Step, Task, labels};
use kamil_protocol::{
    memory::RecallReply,
    task::{Labels, Source, StepKind, StepStatus},
};

use super::request::results;
use crate::planner::Context;

/// Labels on a prompt, of which `ctx` is made up as well.
pub(super) fn of_prompt(ctx: &Context<'_>, task: &Task, step: &Step) -> Labels {
    let mut all = vec![task.input_labels(step), labels::person()];
    match step.spec.kind {
        // A plan that is written again is told the results so far; before the first there are none.
        StepKind::Plan | StepKind::Answer => {
            all.push(of_conversation(ctx));
            all.extend(ctx.recall.map(of_hits));
            all.extend(results(task).into_iter().filter(is_told).map(|result| result.labels));
        }
        _ => {}
    }
    labels::join(&all)
}

/// Labels on what is told of a step that has ended. The reason why one has no result may quote what others wrote.
pub(super) fn of_result(step: &Step) -> Labels {
    match (&step.labels, step.status) {
        (Some(labels), _) => labels.clone(),
        (None, StepStatus::Failed | StepStatus::Cancelled) => labels::untrusted(Source::Tool),
        (None, _) => labels::join([]),
    }
}

/// Labels on what memory returned.
pub(super) fn of_recall(reply: &RecallReply) -> Labels {
    let turns: Vec<Labels> = reply.conversation.iter().map(labels::of_memory).collect();
    labels::join(turns.iter().chain([&of_hits(reply)]))
}

/// What memory returned, as far as a plan may rest on it: a plan is written before anything is read that others may have written. The
/// conversation stays whole, since requests speak of it, and makes the plan untrusted where it is.
pub(super) fn for_planning(reply: &RecallReply) -> RecallReply {
    let mut reply = reply.clone();
    reply.hits.retain(|hit| labels::of_memory(&hit.memory).is_trusted());
    reply
}

fn of_hits(reply: &RecallReply) -> Labels {
    let hits: Vec<Labels> = reply.hits.iter().map(|hit| labels::of_memory(&hit.memory)).collect();
    labels::join(&hits)
}

/// As the planner tells the conversation: what the caller gave, else what memory holds of it.
fn of_conversation(ctx: &Context<'_>) -> Labels {
    let history = &ctx.request.history;
    let turns: Vec<Labels> = match ctx.recall {
        Some(recall) if history.is_empty() => recall.conversation.iter().map(labels::of_memory).collect(),
        _ => history.iter().map(labels::of_turn).collect(),
    };
    labels::join(&turns)
}

fn is_told(result: &crate::planner::StepResult<'_>) -> bool {
    matches!(result.spec.kind, StepKind::Tool | StepKind::Reason)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kamil_protocol::{
        MemoryId,
        memory::{Hit, Memory, MemoryKind, Origin, Provenance},
        reason::{ChatMessage, ReasonRequest, Speaker},
        task::TaskRequest,
    };
    use serde_json::json;

    use super::*;
    use crate::planner;

    fn memory(origin: Origin, text: &str) -> Memory {
        Memory {
            id: MemoryId::generate(),
            kind: MemoryKind::Semantic,
            text: text.to_owned(),
            fact: None,
            superseded_by: None,
            session: None,
            source: Provenance { origin, task: None, step: None, labels: None },
            occurred_at: Timestamp::UNIX_EPOCH,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn told(request: &ReasonRequest, text: &str) -> bool {
        request.messages.iter().any(|message| message.content.contains(text))
    }

    #[test]
    fn a_prompt_holds_no_more_than_its_labels_tell() {
        let hit = |origin, text| Hit { memory: memory(origin, text), score: 1.0, signals: Vec::new() };
        let reply = RecallReply {
            hits: vec![hit(Origin::Person, "HITOWN"), hit(Origin::Import, "HITFOREIGN")],
            conversation: vec![memory(Origin::Assistant, "TURN")],
            took_ms: 0.0,
            degraded: Vec::new(),
        };
        let request = TaskRequest { input: "Read notes.txt".to_owned(), ..TaskRequest::default() };
        let context = Context {
            request: &request,
            tools: &[],
            recall: Some(&reply),
            results: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        assert!(!of_recall(&reply).is_trusted() && !of_conversation(&context).is_trusted());

        // What a `reason` step is told comes through its inputs alone.
        let reason = planner::reason_request(&context, &json!({"instruction": "think", "about": "INPUT"}));
        assert!(told(&reason, "INPUT"));
        for other in ["HITOWN", "HITFOREIGN", "TURN"] {
            assert!(!told(&reason, other), "{other}");
        }

        let planning = for_planning(&reply);
        assert!(of_hits(&planning).is_trusted());
        let plan = planner::plan_request(&Context { recall: Some(&planning), ..context }, None);
        assert!(told(&plan, "HITOWN") && told(&plan, "TURN") && !told(&plan, "HITFOREIGN"));
    }

    #[test]
    fn a_given_history_takes_the_place_of_the_remembered_one() {
        let turn = |role| ChatMessage::new(role, "x");
        for (role, trusted) in [
            (Speaker::User, true),
            (Speaker::System, true),
            (Speaker::Assistant, false),
            (Speaker::Tool, false),
        ] {
            let request = TaskRequest { history: vec![turn(role)], ..TaskRequest::default() };
            let context = Context {
                request: &request,
                tools: &[],
                recall: None,
                results: &[],
                now: Timestamp::UNIX_EPOCH,
            };
            assert_eq!(of_conversation(&context).is_trusted(), trusted, "{role:?}");
        }
    }
}
