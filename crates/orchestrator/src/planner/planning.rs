//! The prompt that asks for a plan. Its first part depends on the registered tools alone, so that an LLM node reads it once.

use kamil_protocol::{
    reason::{ChatMessage, Constraint, ReasonRequest, Sampling, Speaker},
    task::{StepKind, StepSpec},
};
use serde_json::Value;

use super::{
    Context,
    calls::read_plan,
    conversation,
    gate::{is_asked_for, must_call},
    grammar::plan_grammar,
    passages, request, shorten,
    signature::Signature,
    words::content_words,
};

/// Most steps that one plan may hold.
const MOST_STEPS: usize = 8;
/// Most tools that a prompt describes.
const MOST_TOOLS: usize = 32;

const INSTRUCTIONS: &str = "\
You plan what a personal assistant does with a request. A plan is a list of calls, one a line, and ends with the line \
\"answer\", where the assistant writes its reply from its own knowledge, the conversation, its memory and the results of the calls.
Most requests need no call: explaining, translating, writing, general knowledge, conversation and questions about the past are \
\"answer\" alone. Call a tool only for what the assistant cannot know or do by writing. Use as few calls as possible, and none that was not asked for.
A call may use an earlier result by its name, such as s1, or a part of it, such as s1.content. \
A text that a later call needs is written by reason.";

const WITHOUT_TOOLS: &[&str] = &[
    "Hello, who are you?",
    "What is the highest mountain in Europe, and who climbed it first?",
    "Write a short poem about the sea",
    "How do I sort a dictionary in Python?",
    "Translate \"see you tomorrow\" into Spanish",
    "What did we do last week?",
];

/// The request for a plan; `previous` is a reply that was not valid, and why.
#[must_use]
pub fn plan_request(ctx: &Context<'_>, previous: Option<&(String, String)>) -> ReasonRequest {
    let signatures = signatures(ctx);
    let mut messages = vec![
        ChatMessage::new(Speaker::System, instructions(&signatures)),
        ChatMessage::new(Speaker::User, question(ctx, &signatures)),
    ];
    if let Some((reply, error)) = previous {
        messages.push(ChatMessage::new(Speaker::Assistant, reply.clone()));
        messages.push(ChatMessage::new(
            Speaker::User,
            format!("That plan cannot be used: {error}\nWrite the whole plan again.\nPlan:"),
        ));
    }
    let mut reason = request(messages, Sampling { max_tokens: Some(600), ..Sampling::default() });
    reason.constraint =
        Some(Constraint::Lark { grammar: plan_grammar(&signatures, MOST_STEPS, must_call(ctx)) });
    reason
}

/// Reads a model's reply as steps; an empty list means that no tool is needed.
///
/// # Errors
/// What is wrong with the reply, in words for the model.
pub fn parse_plan(ctx: &Context<'_>, text: &str) -> Result<Vec<StepSpec>, String> {
    let mut steps = read_plan(&signatures(ctx), text)?;
    while let Some(at) = steps.iter().position(|step| !is_asked_for(ctx, step)) {
        let dropped = steps.remove(at);
        drop_dependants(&mut steps, dropped.id.as_str());
    }
    // Working something out that nothing uses is what the answer does anyway.
    while let Some(at) =
        steps.iter().position(|step| step.kind == StepKind::Reason && steps.len() == 1 && !refers(step, ""))
    {
        steps.remove(at);
    }
    Ok(steps)
}

fn drop_dependants(steps: &mut Vec<StepSpec>, id: &str) {
    while let Some(at) = steps.iter().position(|step| refers(step, id)) {
        let dropped = steps.remove(at);
        drop_dependants(steps, dropped.id.as_str());
    }
}

/// Whether the inputs of a step refer to the step `id`; to any step if `id` is empty.
fn refers(step: &StepSpec, id: &str) -> bool {
    fn within(value: &Value, id: &str) -> bool {
        match value {
            Value::Object(object) => match object.get("$from").and_then(Value::as_str) {
                Some(from) => id.is_empty() || from == id,
                None => object.values().any(|value| within(value, id)),
            },
            Value::Array(items) => items.iter().any(|value| within(value, id)),
            _ => false,
        }
    }
    step.inputs.values().any(|value| within(value, id))
}

fn signatures<'a>(ctx: &Context<'a>) -> Vec<Signature<'a>> {
    ctx.tools.iter().take(MOST_TOOLS).map(Signature::of).collect()
}

fn instructions(signatures: &[Signature<'_>]) -> String {
    let mut text = format!("{INSTRUCTIONS}\n\nTools:\n");
    for signature in signatures {
        text.push_str(&signature.line());
    }
    text.push_str(
        "reason(task, about?) -> text  # let the language model write or work out a text, about results\n",
    );
    let mut without = WITHOUT_TOOLS.iter();
    for (request, plan) in worked_examples(signatures) {
        if let Some(request) = without.next() {
            text.push_str(&format!("\nRequest: {request}\nPlan:\nanswer\n"));
        }
        text.push_str(&format!("\nRequest: {request}\nPlan:\n{plan}answer\n"));
    }
    for request in without {
        text.push_str(&format!("\nRequest: {request}\nPlan:\nanswer\n"));
    }
    text
}

/// One example for each family of tools, and of passing results on where there are tools for it.
fn worked_examples(signatures: &[Signature<'_>]) -> Vec<(String, String)> {
    let mut families: Vec<&str> = Vec::new();
    let mut examples = Vec::new();
    for signature in signatures {
        let family = signature.tool.name.split('.').next().unwrap_or(&signature.tool.name);
        let Some(example) = signature.tool.examples.first().filter(|_| !families.contains(&family)) else {
            continue;
        };
        families.push(family);
        examples.push((example.request.clone(), format!("s1 = {}\n", signature.call(&example.arguments))));
    }
    examples.extend(passing_on(signatures).into_iter().flatten());
    examples
}

/// Examples of results that travel from call to call, where there are tools to read and write files.
fn passing_on(signatures: &[Signature<'_>]) -> Option<[(String, String); 3]> {
    let named = |name: &str| signatures.iter().find(|signature| signature.tool.name == name);
    let (read, write) = (named("file_ops.read")?, named("file_ops.write")?);
    let [from, ..] = read.arguments.as_slice() else { return None };
    let [to, text, ..] = write.arguments.as_slice() else { return None };
    let (read, write, content) = (&read.tool.name, &write.tool.name, read.main_text()?);
    let (from, to, text) = (from.name, to.name, text.name);
    Some([
        (
            "Put a summary of minutes.txt into summary.md".to_owned(),
            format!(
                "s1 = {read}({from}=\"minutes.txt\")\ns2 = reason(task=\"Summarize the minutes\", about=s1.{content})\n\
                 s3 = {write}({to}=\"summary.md\", {text}=s2)\n"
            ),
        ),
        (
            "Write a limerick about cats and save it to cats.txt".to_owned(),
            format!(
                "s1 = reason(task=\"Write a limerick about cats\")\ns2 = {write}({to}=\"cats.txt\", {text}=s1)\n"
            ),
        ),
        (
            "Read protocol.txt and tell me who was absent".to_owned(),
            format!("s1 = {read}({from}=\"protocol.txt\")\n"),
        ),
    ])
}

fn question(ctx: &Context<'_>, signatures: &[Signature<'_>]) -> String {
    let mut text = String::new();
    if let Some(recall) = ctx.recall.filter(|recall| !recall.hits.is_empty()) {
        text.push_str("What memory knows:\n");
        text.push_str(&passages(recall, 4, 300));
        text.push('\n');
    }
    let turns = conversation(ctx);
    if !turns.is_empty() {
        text.push_str("The conversation so far:\n");
        for turn in turns.iter().rev().take(4).rev() {
            let who = if turn.role == Speaker::Assistant { "Assistant" } else { "Person" };
            text.push_str(&format!("{who}: {}\n", shorten(&turn.content, 400)));
        }
        text.push('\n');
    }
    let asked = content_words(&ctx.request.input);
    for signature in signatures {
        let unusual = signature.unusual(&asked);
        if !unusual.is_empty() {
            text.push_str(&format!("{} also takes {}.\n", signature.tool.name, unusual.join(", ")));
        }
    }
    text.push_str(&format!("Request: {}\nPlan:", ctx.request.input.trim()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::{asking, context, tools};

    #[test]
    fn what_the_person_did_not_ask_to_be_changed_stays_as_it_is() {
        let tools = tools();
        let plan = "s1 = file_ops.read(path=\"report.csv\")\ns2 = reason(task=\"Find the largest column\", about=s1.text)\n\
                    s3 = file_ops.write(path=\"result.txt\", text=s2)\nanswer";
        let kept = |input: &str| -> Vec<String> {
            parse_plan(&context(&asking(input), &tools), plan)
                .unwrap()
                .iter()
                .map(|step| step.id.to_string())
                .collect()
        };
        assert_eq!(kept("Read report.csv and tell me which column is largest"), ["s1", "s2"]);
        assert_eq!(kept("Read report.csv and save the largest column"), ["s1", "s2", "s3"]);
        assert_eq!(kept("Put the largest column of report.csv into result.txt"), ["s1", "s2", "s3"]);
    }

    #[test]
    fn the_first_part_of_the_prompt_is_the_same_for_every_request() {
        let tools = tools();
        let system =
            |input: &str| plan_request(&context(&asking(input), &tools), None).messages[0].content.clone();
        assert_eq!(system("Train a model"), system("What is 2 + 2, with seed 7?"));
        assert!(system("x").contains(
            "ml_tools.train(dataset = \"iris\", model: \"decision_tree\" | \"logistic_regression\")"
        ));
    }

    #[test]
    fn a_request_that_speaks_of_a_rare_argument_is_shown_it() {
        let tools = tools();
        let asked =
            |input: &str| plan_request(&context(&asking(input), &tools), None).messages[1].content.clone();
        assert!(asked("Train a model with seed 7").contains("ml_tools.train also takes seed."));
        assert!(!asked("Train a model").contains("also takes"));
    }

    #[test]
    fn a_request_about_a_file_cannot_be_planned_without_a_call() {
        let tools = tools();
        let grammar = |input: &str| match plan_request(&context(&asking(input), &tools), None).constraint {
            Some(Constraint::Lark { grammar }) => grammar,
            other => panic!("{other:?}"),
        };
        assert!(grammar("Write a haiku and save it to haiku.txt").contains("step1: \"s1 = \""));
        assert!(grammar("Write a haiku").contains("step1: \"answer\" | "));
    }
}
