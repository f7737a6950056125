//! The prompt that asks for a plan. Its first part depends on the registered tools alone, so that an LLM node reads it once.

use std::collections::BTreeSet;

use kamil_protocol::reason::{ChatMessage, Constraint, ReasonRequest, Sampling, Speaker};

use super::{
    Context, MAX_RESULT_BYTES,
    answer::outcome,
    calls::read_plan,
    conversation,
    demonstrations::demonstrations,
    gate::{must_call, near},
    grammar::plan_grammar,
    passages, request, shorten,
    signature::Signature,
    tidy::{Plan, tidy},
    words::content_words,
};

/// Most steps that one plan may hold.
const MOST_STEPS: usize = 8;
/// Most tools that a prompt describes.
const MOST_TOOLS: usize = 32;
/// So many are described whatever is asked.
const FEW_TOOLS: usize = 8;

/// Bytes of the arguments' descriptions up to which all are shown.
const MOST_DETAIL_BYTES: usize = 3_000;

/// Turns of the conversation that a prompt repeats, and bytes of each.
const MOST_TURNS: usize = 12;
const MOST_TURN_BYTES: usize = 500;

const INSTRUCTIONS: &str = "\
You plan what an assistant does with a request, given the tools it has. A plan is a list of calls, one a line, in the order in which \
they are needed, and ends with the line \"answer\".
Rules:
- Call a tool only if it does what the person asks for. If no tool does it, or the request can be answered by writing, from general \
knowledge or from memory, the plan is \"answer\" alone.
- Serve every part of the request, also the steps that must come first: log in, look up, check. Do nothing that was not asked for.
- Take values from the request and the conversation, never invented. A value that an earlier call returns is written as its name, \
such as s1 or s1.token.
- Leave out optional arguments (marked ?) that the request says nothing about.
- reason(task, about?) lets the language model write a text that a later call needs.";

const WITHOUT_TOOLS: &[&str] =
    &["Hello, who are you?", "How do I sort a dictionary in Python?", "What did we do last week?"];

/// The request for a plan; `previous` is a reply that was not valid, and why.
#[must_use]
pub fn plan_request(ctx: &Context<'_>, previous: Option<&(String, String)>) -> ReasonRequest {
    let signatures = signatures(ctx);
    let mut messages = vec![ChatMessage::new(Speaker::System, INSTRUCTIONS)];
    messages.extend(demonstrations(ctx.tools.iter().any(|tool| Signature::of(tool).returns_list())));
    let asked = format!("{}\n{}", offered(&signatures), question(ctx, &signatures));
    messages.push(ChatMessage::new(Speaker::User, asked));
    if let Some((reply, error)) = previous {
        messages.push(ChatMessage::new(Speaker::Assistant, reply.clone()));
        messages.push(ChatMessage::new(
            Speaker::User,
            format!("That plan cannot be used: {error}\nWrite the whole plan again.\nPlan:"),
        ));
    }
    let mut reason = request(messages, Sampling { max_tokens: Some(600), ..Sampling::default() });
    reason.constraint = Some(Constraint::Lark {
        grammar: plan_grammar(&signatures, MOST_STEPS, must_call(ctx) && ctx.results.is_empty()),
    });
    reason
}

/// Reads a model's reply as steps, in order; no steps mean that no tool is needed.
///
/// # Errors
/// What is wrong with the reply, in words for the model.
pub(super) fn parse_plan(ctx: &Context<'_>, text: &str) -> Result<Plan, String> {
    Ok(tidy(ctx, read_plan(&signatures(ctx), text)?))
}

/// The tools that a prompt describes, in their order: all if they are few; else those that the request shares a word with, and
/// those whose results these need. Small models call whatever they are shown, and every token is time.
fn signatures<'a>(ctx: &Context<'a>) -> Vec<Signature<'a>> {
    if ctx.tools.len() <= FEW_TOOLS {
        return ctx.tools.iter().map(Signature::of).collect();
    }
    let mut nearest = near(ctx);
    if nearest.is_empty() {
        nearest = (0..ctx.tools.len()).collect();
    }
    let signatures: Vec<Signature<'a>> = ctx.tools.iter().map(Signature::of).collect();
    let mut chosen: BTreeSet<usize> = nearest.into_iter().take(MOST_TOOLS).collect();
    let needs: BTreeSet<&str> = chosen
        .iter()
        .filter_map(|at| signatures.get(*at))
        .flat_map(|signature| signature.arguments.iter().filter(|argument| argument.required))
        .map(|argument| argument.name)
        .collect();
    for (at, signature) in signatures.iter().enumerate() {
        if chosen.len() < MOST_TOOLS && needs.iter().any(|need| signature.produces(need)) {
            chosen.insert(at);
        }
    }
    let kept = signatures.into_iter().enumerate().filter(|(at, _)| chosen.contains(at));
    kept.map(|(_, signature)| signature).collect()
}

/// The tools with worked examples of their own: the same for every request as long as the tools are the same.
fn offered(signatures: &[Signature<'_>]) -> String {
    let mut text = String::from("Tools:\n");
    let details: Vec<String> = signatures.iter().map(Signature::details).collect();
    let all = details.iter().map(String::len).sum::<usize>() <= MOST_DETAIL_BYTES;
    for (signature, details) in signatures.iter().zip(&details) {
        text.push_str(&signature.line());
        if all {
            text.push_str(details);
        }
    }
    text.push_str("reason(task, about?) -> text  # Write or work out a text, about results\n");
    let examples = worked_examples(signatures);
    if !examples.is_empty() {
        for request in WITHOUT_TOOLS {
            text.push_str(&format!("\nRequest: {request}\nPlan:\nanswer\n"));
        }
    }
    for (request, plan) in examples {
        text.push_str(&format!("\nRequest: {request}\nPlan:\n{plan}answer\n"));
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
        for turn in turns.iter().rev().take(MOST_TURNS).rev() {
            let who = match turn.role {
                Speaker::Assistant => "Assistant",
                Speaker::Tool => "Result of a call",
                Speaker::System => "Note",
                Speaker::User => "Person",
            };
            text.push_str(&format!("{who}: {}\n", shorten(&turn.content, MOST_TURN_BYTES)));
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
    text.push_str(&format!("Request: {}\n", ctx.request.input.trim()));
    text.push_str(&so_far(ctx));
    text.push_str("Plan:");
    text
}

/// What was called before a new plan is made. Its calls are not named: a new plan numbers its own from s1.
fn so_far(ctx: &Context<'_>) -> String {
    if ctx.results.is_empty() {
        return String::new();
    }
    let share = MAX_RESULT_BYTES / ctx.results.len();
    let lines: String = ctx
        .results
        .iter()
        .filter_map(|result| outcome(result, share))
        .map(|line| format!("- {line}"))
        .collect();
    format!(
        "Calls made already, and what came of them:\n{lines}Plan only the calls that are still needed; take values from these results.\n"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::planner::{
        StepResult,
        fixture::{asking, context, tools},
    };
    use kamil_protocol::task::{StepError, StepKind, StepSpec, StepStatus};

    fn last(request: &ReasonRequest) -> String {
        request.messages.last().unwrap().content.clone()
    }

    #[test]
    fn the_first_part_of_the_prompt_is_the_same_for_every_request() {
        let tools = tools();
        let prompt = |input: &str| plan_request(&context(&asking(input), &tools), None);
        let (one, other) = (prompt("Train a model"), prompt("What is 2 + 2, with seed 7?"));
        let end = one.messages.len() - 1;
        assert_eq!(one.messages[..end], other.messages[..end]);
        let fixed = offered(&signatures(&context(&asking("x"), &tools)));
        assert!(last(&one).starts_with(&fixed) && last(&other).starts_with(&fixed));
        assert!(fixed.contains(
            "ml_tools.train(dataset = \"iris\", model: \"decision_tree\" | \"logistic_regression\")"
        ));
    }

    #[test]
    fn of_many_tools_those_that_matter_are_described_and_those_whose_results_they_need() {
        let mut many = Vec::new();
        for number in 0..60 {
            let mut tool = tools()[0].clone();
            tool.name = format!("other.thing{number}");
            tool.description = "Something else.".to_owned();
            tool.examples.clear();
            many.push(tool);
        }
        let object = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
        let (mut login, mut badge) = (many[50].clone(), many[55].clone());
        (login.name, login.result) = ("account.enter".to_owned(), object("ticket"));
        (badge.name, badge.arguments) = ("badge.print".to_owned(), object("ticket"));
        many[50] = login;
        many[55] = badge;
        let request = asking("Print a badge for Ana");
        let context = context(&request, &many);
        let kept = signatures(&context);
        let names: Vec<&str> = kept.iter().map(|signature| signature.tool.name.as_str()).collect();
        assert_eq!(names, ["account.enter", "badge.print"]);
        let other = asking("Etwas ganz anderes bitte");
        assert_eq!(signatures(&super::super::fixture::context(&other, &many)).len(), MOST_TOOLS);
    }

    #[test]
    fn a_request_that_speaks_of_a_rare_argument_is_shown_it() {
        let tools = tools();
        let asked = |input: &str| last(&plan_request(&context(&asking(input), &tools), None));
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

    #[test]
    fn a_new_plan_is_shown_what_was_called_and_what_came_of_it() {
        let tools = tools();
        let request = asking("Read a.txt and calculate");
        let spec = |tool: &str| StepSpec {
            tool: Some(tool.to_owned()),
            ..StepSpec::new("s1".parse().unwrap(), StepKind::Tool)
        };
        let (read, train) = (spec("file_ops.read"), spec("ml_tools.train"));
        let output = serde_json::json!({"text": "x".repeat(50_000)});
        let error = StepError {
            code: kamil_protocol::ErrorCode::NotFound,
            detail: "There is no `b.txt`.".to_owned(),
            next_step: None,
        };
        let labels = kamil_plan::labels::person();
        let results = [
            StepResult {
                spec: &read,
                status: StepStatus::Succeeded,
                output: Some(&output),
                error: None,
                labels: labels.clone(),
            },
            StepResult {
                spec: &train,
                status: StepStatus::Failed,
                output: None,
                error: Some(&error),
                labels,
            },
        ];
        let ctx = Context { results: &results, ..context(&request, &tools) };
        let asked = plan_request(&ctx, None);
        let told = &asked.messages.last().unwrap().content;
        assert!(
            told.contains("- file_ops.read {}: {\"text\":\"xxx")
                && told.contains("- ml_tools.train {}: FAILED: There is no `b.txt`."),
            "{told}"
        );
        assert!(told.len() < 9_000, "{}", told.len());
        let Some(Constraint::Lark { grammar }) = asked.constraint else { panic!() };
        assert!(
            grammar.contains("step1: \"answer\" | "),
            "nothing more may be needed, though a file is spoken of"
        );
    }
}
