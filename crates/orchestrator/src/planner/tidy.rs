//! What of a model's plan is left out or put in order before it is checked. Pure, and told to the person where it changes something.

use std::collections::BTreeSet;

use kamil_protocol::{
    StepId,
    reason::Speaker,
    task::{StepKind, StepSpec},
    tool::{SideEffect, ToolDescriptor},
};
use serde_json::Value;

use super::{Context, conversation, gate::is_asked_for, rules::specialization, words::content_words};

/// The steps that stay, and what the person is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps; none mean that no tool is needed.
    pub steps: Vec<StepSpec>,
    /// Calls that were left out though the model wanted them, and why.
    pub told: Vec<String>,
}

/// Puts a plan in order.
pub(super) fn tidy(ctx: &Context<'_>, mut steps: Vec<StepSpec>) -> Plan {
    let mut told = Vec::new();
    drop_repeats(&mut steps);
    while let Some(at) = steps.iter().position(|step| !is_asked_for(ctx, step)) {
        drop_step(&mut steps, at);
    }
    let said = said(ctx);
    loop {
        let found = steps
            .iter()
            .enumerate()
            .find_map(|(at, step)| invented(ctx, step, &said).map(|argument| (at, argument)));
        let Some((at, argument)) = found else { break };
        let tool = steps.get(at).and_then(|step| step.tool.clone()).unwrap_or_default();
        told.push(format!("`{tool}` was not called: nobody has told its `{argument}`."));
        drop_step(&mut steps, at);
    }
    drop_last_reason(ctx, &mut steps);
    keep_order_of_effects(ctx.tools, &mut steps);
    Plan { steps, told }
}

/// A call with the very arguments of an earlier one returns nothing new; what refers to it refers to the first.
fn drop_repeats(steps: &mut Vec<StepSpec>) {
    let mut at = 1;
    while at < steps.len() {
        let (earlier, later) = steps.split_at(at);
        let same = later.first().and_then(|step| {
            let same = |other: &&StepSpec| {
                (&other.tool, &other.inputs, &other.for_each, &other.when)
                    == (&step.tool, &step.inputs, &step.for_each, &step.when)
            };
            let twin = earlier.iter().find(same)?;
            (step.kind == StepKind::Tool).then(|| (step.id.clone(), twin.id.clone()))
        });
        match same {
            Some((id, twin)) => {
                steps.remove(at);
                for step in steps.iter_mut() {
                    rename_in(step, &id, &twin);
                }
            }
            None => at += 1,
        }
    }
}

fn rename_in(step: &mut StepSpec, id: &StepId, to: &StepId) {
    step.inputs.values_mut().for_each(|value| rename(value, id.as_str(), to.as_str()));
    let over = step.for_each.as_mut().map(|for_each| &mut for_each.over);
    let on = step.when.as_mut().map(|when| &mut when.value);
    for place in over.into_iter().chain(on).filter(|place| place.from == *id) {
        place.from = to.clone();
    }
}

fn rename(value: &mut Value, id: &str, to: &str) {
    match value {
        Value::Object(members) if members.get("$from").and_then(Value::as_str) == Some(id) => {
            members.insert("$from".to_owned(), Value::from(to));
        }
        Value::Object(members) => members.values_mut().for_each(|member| rename(member, id, to)),
        Value::Array(members) => members.iter_mut().for_each(|member| rename(member, id, to)),
        _ => {}
    }
}

fn drop_step(steps: &mut Vec<StepSpec>, at: usize) {
    let dropped = steps.remove(at);
    while let Some(at) = steps.iter().position(|step| refers(step, dropped.id.as_str())) {
        drop_step(steps, at);
    }
}

/// Whether the inputs of a step refer to the step `id`.
fn refers(step: &StepSpec, id: &str) -> bool {
    fn within(value: &Value, id: &str) -> bool {
        match value {
            Value::Object(object) => match object.get("$from").and_then(Value::as_str) {
                Some(from) => from == id,
                None => object.values().any(|value| within(value, id)),
            },
            Value::Array(items) => items.iter().any(|value| within(value, id)),
            _ => false,
        }
    }
    let over = step.for_each.as_ref().map(|for_each| &for_each.over);
    let on = step.when.as_ref().map(|when| &when.value);
    over.into_iter().chain(on).any(|place| place.from.as_str() == id)
        || step.inputs.values().any(|value| within(value, id))
}

/// Everything that a value can have been taken from: what was said, what memory knows.
fn said(ctx: &Context<'_>) -> String {
    let mut said = ctx.request.input.to_lowercase();
    for turn in conversation(ctx).iter().filter(|turn| turn.role != Speaker::System) {
        said.push('\n');
        said.push_str(&turn.content.to_lowercase());
    }
    for hit in ctx.recall.iter().flat_map(|recall| &recall.hits) {
        said.push('\n');
        said.push_str(&hit.memory.text.to_lowercase());
    }
    said
}

/// A required argument whose value names something definite (an address, an account, a number of something) that nobody has told:
/// small models make such values up rather than leave a call out.
fn invented(ctx: &Context<'_>, step: &StepSpec, said: &str) -> Option<String> {
    let tool = ctx.tools.iter().find(|tool| step.tool.as_deref() == Some(tool.name.as_str()))?;
    let required = tool.arguments.get("required").and_then(Value::as_array)?;
    // Some tools name the address that they are for.
    let described = tool.arguments.to_string().to_lowercase();
    let made_up = |name: &str, value: &str| {
        is_definite(name, value)
            && !is_told(value, said)
            && !(value.contains("://") && is_told(value, &described))
    };
    let mut names = required.iter().filter_map(Value::as_str);
    let name = names.find(|name| {
        step.inputs.get(*name).and_then(Value::as_str).is_some_and(|value| made_up(name, value))
    })?;
    Some(name.to_owned())
}

/// Whether a value names one thing out of many, which cannot be guessed.
fn is_definite(name: &str, value: &str) -> bool {
    let lower = value.to_lowercase();
    let stand_in = ["your_", "your ", "<", "placeholder"].iter().any(|mark| lower.starts_with(mark))
        || lower == name.to_lowercase()
        || ["user_id", "username", "password", "api_key"].contains(&lower.as_str());
    let address =
        lower.contains("://") || (lower.contains('@') && lower.contains('.') && !lower.contains(' '));
    let secret = ["password", "token", "key", "secret"]
        .iter()
        .any(|word| content_words(&name.replace('_', " ")).contains(*word));
    stand_in || address || secret && !lower.contains(' ')
}

/// Whether a value was told: as it is, or, of an address, its telling parts.
fn is_told(value: &str, said: &str) -> bool {
    let lower = value.to_lowercase();
    if said.contains(lower.trim_end_matches('/')) {
        return true;
    }
    let host = lower.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', ':']).next());
    host.is_some_and(|host| {
        let bare = host.trim_start_matches("www.");
        bare.contains('.') && said.contains(bare)
    })
}

/// Working something out right before the answer, for the answer alone: the answer would only repeat it.
fn drop_last_reason(ctx: &Context<'_>, steps: &mut Vec<StepSpec>) {
    let answers_as = specialization(&ctx.request.input);
    while let Some(at) = steps.iter().position(|step| {
        step.kind == StepKind::Reason
            && step.specialization.as_deref().is_none_or(|wanted| wanted == answers_as || wanted == "general")
            && !steps.iter().any(|other| refers(other, step.id.as_str()))
    }) {
        steps.remove(at);
    }
}

/// Tools of one family work on the same things: among them, what changes something happens in the order of the plan. Everything
/// else runs as soon as its inputs are there.
fn keep_order_of_effects(tools: &[ToolDescriptor], steps: &mut [StepSpec]) {
    let traits: Vec<Option<(String, bool)>> = steps
        .iter()
        .map(|step| {
            let tool = tools.iter().find(|tool| step.tool.as_deref() == Some(tool.name.as_str()))?;
            let family = tool.name.split_once('.').map_or("", |(family, _)| family);
            let changes = tool.side_effect >= SideEffect::Write;
            (tool.side_effect > SideEffect::Pure).then(|| (family.to_owned(), changes))
        })
        .collect();
    let ids: Vec<_> = steps.iter().map(|step| step.id.clone()).collect();
    for (at, step) in steps.iter_mut().enumerate() {
        let Some(Some((family, changes))) = traits.get(at) else { continue };
        let earlier = traits.get(..at).unwrap_or_default().iter().enumerate().rev();
        let mut waits_for = BTreeSet::new();
        for (before, other) in earlier {
            let Some((_, other_changes)) = other.as_ref().filter(|(other, _)| other == family) else {
                continue;
            };
            if *changes || *other_changes {
                waits_for.extend(ids.get(before));
            }
            if *other_changes {
                // What came before that, it waits for itself.
                break;
            }
        }
        let inputs = &*step;
        let new: Vec<_> = waits_for.into_iter().filter(|id| !refers(inputs, id.as_str())).cloned().collect();
        step.depends_on.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use kamil_protocol::reason::ChatMessage;
    use serde_json::json;

    use super::*;
    use crate::planner::{
        fixture::{asking, context, tools},
        planning::parse_plan,
    };

    fn tidied(input: &str, plan: &str) -> Plan {
        let tools = tools();
        parse_plan(&context(&asking(input), &tools), plan).unwrap()
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn what_the_person_did_not_ask_to_be_changed_stays_as_it_is() {
        let plan = "s1 = file_ops.read(path=\"report.csv\")\ns2 = reason(task=\"Find the largest column\", about=s1.text)\n\
                    s3 = file_ops.write(path=\"result.txt\", text=s2)\nanswer";
        assert_eq!(ids(&tidied("Read report.csv and tell me which column is largest", plan)), ["s1"]);
        assert_eq!(ids(&tidied("Read report.csv and save the largest column", plan)), ["s1", "s2", "s3"]);
        assert_eq!(
            ids(&tidied("Put the largest column of report.csv into result.txt", plan)),
            ["s1", "s2", "s3"]
        );
    }

    #[test]
    fn a_result_that_only_the_answer_would_repeat_is_not_worked_out() {
        let plan = "s1 = ml_tools.train(dataset=\"iris\")\ns2 = reason(task=\"Summarize the results\", about=s1)\nanswer";
        assert_eq!(ids(&tidied("Train a model on iris and summarize the results", plan)), ["s1"]);
    }

    #[test]
    fn one_call_is_made_once() {
        let plan = "s1 = file_ops.read(path=\"a.txt\")\ns2 = file_ops.read(path=\"a.txt\")\n\
                    s3 = file_ops.write(path=\"b.txt\", text=s2)\nanswer";
        let plan = tidied("Copy a.txt to b.txt", plan);
        assert_eq!(ids(&plan), ["s1", "s3"]);
        assert_eq!(plan.steps[1].inputs["text"], json!({"$from": "s1", "path": "/text"}));
    }

    #[test]
    fn effects_on_the_same_things_keep_their_order_and_the_rest_runs_at_once() {
        let plan = "s1 = file_ops.read(path=\"a.txt\")\ns2 = file_ops.write(path=\"a.txt\", text=\"new\")\n\
                    s3 = file_ops.read(path=\"a.txt\", offset=1)\ns4 = calc.evaluate(expression=\"1+1\")\n\
                    s5 = file_ops.read(path=\"c.txt\")\nanswer";
        let plan = tidied("Read a.txt, write new to it and read it, 1+1", plan);
        let waits = |at: usize| plan.steps[at].depends_on.iter().map(|id| id.as_str()).collect::<Vec<_>>();
        assert_eq!(waits(0), [""; 0]);
        assert_eq!(waits(1), ["s1"]);
        assert_eq!(waits(2), ["s2"]);
        assert_eq!(waits(3), [""; 0]);
        assert_eq!(waits(4), ["s2"]);
    }

    #[test]
    fn values_that_nobody_has_told_are_not_made_up() {
        let mut tools = tools();
        tools[0].name = "web.fetch".to_owned();
        tools[0].arguments =
            json!({"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]});
        tools[1].name = "account.login".to_owned();
        tools[1].arguments = json!({"type": "object", "properties": {"user": {"type": "string"}, "password": {"type": "string"}},
            "required": ["user", "password"]});
        let read = |request: &kamil_protocol::task::TaskRequest, plan: &str| {
            parse_plan(&context(request, &tools), plan).unwrap()
        };
        let fetch = "s1 = web.fetch(url=\"https://api.example.org/v1/stocks\")\ns2 = reason(task=\"Sort\", about=s1.text)\nanswer";
        let plan = read(&asking("Fetch me the stocks of Toronto from the web"), fetch);
        assert_eq!(plan.steps, []);
        assert_eq!(plan.told, ["`web.fetch` was not called: nobody has told its `url`."]);
        assert_eq!(
            ids(&read(&asking("Fetch https://api.example.org/v1/stocks from the web"), fetch)),
            ["s1"]
        );
        assert_eq!(ids(&read(&asking("Fetch the stocks from api.example.org"), fetch)), ["s1"]);
        let login = "s1 = account.login(user=\"dora\", password=\"password\")\nanswer";
        assert_eq!(read(&asking("Log in to my account as dora"), login).steps, []);
        let mut told = asking("Log in to my account");
        told.history = vec![ChatMessage::new(Speaker::User, "I am dora, my password is password")];
        assert_eq!(ids(&read(&told, login)), ["s1"]);
    }
}
