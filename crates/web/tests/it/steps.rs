//! The graph as it grows, one step in full, and the person's yes or no.

use serde_json::{Value, json};

use crate::{browser::in_browser, hub::Stage};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn step(id: &str, kind: &str, status: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "kind": kind, "status": status, "depends_on": depends_on, "inputs": {}, "attempt": 0 })
}

fn with(mut step: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        step[key] = value.clone();
    }
    step
}

fn training() -> Value {
    with(
        step("train", "tool", "succeeded", &["plan"]),
        &json!({
            "tool": "ml_tools.train", "inputs": { "data": "iris", "target": { "$from": "plan", "path": "/target" } },
            "output": { "accuracy": 0.9667, "note": "held out" }, "attempt": 2, "node": "0198c0de-7a3b-7000-8000-0000000000aa",
            "started_at": "2026-05-04T10:00:00Z", "ended_at": "2026-05-04T10:00:01.250Z",
            "labels": { "sources": ["person", "tool"], "trust": "untrusted" }, "enforced": ["landlock", "seccomp"],
            "placement": {
                "chosen": { "node": "0198c0de-7a3b-7000-8000-0000000000aa", "name": "workshop", "predicted_ms": 900 },
                "reasons": ["It has the tool ml_tools.train.", "Nothing waits there."],
                "rejected": [{ "node": "0198c0de-7a3b-7000-8000-0000000000bb", "name": "attic", "reason": "it does not have the tool" }],
            },
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_appear_and_change_with_node_model_and_time() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Train").await;
        let task = stage.asked("Train").await;
        stage.step(&task, step("plan", "plan", "running", &[]));
        page.until("a card appears", async || page.attribute("[data-step=plan]", "data-status").await, |status| status.as_deref() == Some("running")).await;
        page.run("window.card = document.querySelector('[data-step=plan]'); window.card.focus()", vec![]).await;

        stage.step(&task, with(step("plan", "plan", "succeeded", &[]), &json!({
            "model": "qwen2.5-coder:1.5b", "started_at": "2026-05-04T10:00:00Z", "ended_at": "2026-05-04T10:00:00.340Z", "attempt": 1,
            "placement": { "chosen": { "node": "x", "name": "desktop", "model": "qwen2.5-coder:1.5b", "predicted_ms": 300 }, "reasons": [], "rejected": [] },
        })));
        let train = with(step("train", "tool", "ready", &["plan"]), &json!({ "tool": "ml_tools.train", "waiting": "no tool node is registered" }));
        stage.step(&task, train);
        stage.step(&task, step("answer", "answer", "pending", &["plan", "train"]));
        for part in ["succeeded", "desktop · qwen2.5-coder:1.5b", "340 ms"] {
            page.shows("[data-step=plan]", part).await;
        }
        page.shows("[data-step=train]", "no tool node is registered").await;
        assert_eq!(page.run("return window.card.isConnected && document.activeElement === window.card", vec![]).await, true, "the card that has the focus stays");
        // plan → train → answer; plan → answer is implied.
        page.until("lines", async || page.count("path.edge").await, |count| *count == 2).await;

        stage.step(&task, training());
        page.shows("[data-step=train]", "1.3 s").await;
        page.shows("[data-step=train]", "workshop").await;
        page.shows("[data-step=train]", "attempt 2").await;
        stage.edit(&task, |doc| doc["degraded"] = json!(["The plan was made by rules, since no model answered."]));
        page.shows("#graph", "made by rules").await;
        assert_eq!(page.console().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_card_shows_everything_about_its_step() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Train").await;
        let task = stage.asked("Train").await;
        stage.step(&task, step("plan", "plan", "succeeded", &[]));
        stage.step(&task, training());
        page.click("[data-step=train]").await;
        let details = page.shows("#step", "ml_tools.train").await;
        for part in [
            "Why this node", "It has the tool ml_tools.train.", "Nothing waits there.", "Not chosen", "attic: it does not have the tool",
            "Inputs", "\"$from\": \"plan\"", "Output", "\"accuracy\": 0.9667", "workshop", "1.3 s", "person, tool; untrusted", "landlock, seccomp",
        ] {
            assert!(details.contains(part), "{part} is missing in {details}");
        }
        // What is chosen stays while other steps change, and follows its own changes.
        page.run("window.output = document.querySelector('#step .output')", vec![]).await;
        stage.step(&task, step("answer", "answer", "running", &["train"]));
        page.until("the graph changes", async || page.count("g.card").await, |count| *count == 3).await;
        assert_eq!(page.run("return window.output.isConnected", vec![]).await, true);
        stage.step(&task, with(training(), &json!({ "status": "failed", "error": { "code": "tool_failed", "detail": "The disk is full.", "next_step": "Make room." } })));
        page.shows("#step .error", "The disk is full. Make room.").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_shows_exactly_what_would_run_and_answers_for_exactly_that() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Delete").await;
        let task = stage.asked("Delete").await;
        let code = "import os\nos.remove(\"a.txt\")\u{202e}";
        let waiting = with(step("run", "tool", "awaiting_approval", &[]), &json!({
            "tool": "code_tools.shell",
            "approval": {
                "tool": "code_tools.shell", "arguments": { "code": code, "limit": 3, "paths": ["a b", "c"] }, "command": ["rm", "-rf", "a b", "it's"],
                "reason": "External effects are asked for.", "digest": DIGEST,
                "spans": [{
                    "at": "/code", "start": 0, "end": 900, "excerpt": "os.remove(\"a.txt\")\u{202e}", "labels": { "sources": ["model", "file"], "trust": "untrusted" },
                    "from": [
                        { "step": "read", "source": "file", "tool": "file_ops.read", "file": "notes\u{200b}.txt" },
                        { "step": "recall", "source": "memory", "memory": "0198c0de-7a3b-7000-8000-000000000001" }, { "source": "model" },
                    ],
                }],
            },
        }));
        stage.step(&task, waiting.clone());
        stage.edit(&task, |doc| doc["status"] = json!("awaiting_approval"));
        page.shows("#approvals h2", "May code_tools.shell run?").await;
        assert_eq!(page.text("#approvals .command").await, r"rm -rf 'a b' 'it'\''s'");
        assert_eq!(page.texts("#approvals dt").await, ["code", "limit", "paths"]);
        let values = page.texts("#approvals dd").await;
        assert_eq!(values[0], "import os\nos.remove(\"a.txt\")U+202E");
        assert_eq!(values[1..], ["3", "[\n  \"a b\",\n  \"c\"\n]"]);
        page.shows("#approvals", "External effects are asked for.").await;
        let (span, excerpt) = (page.text("#approvals .spans p").await, page.text("#approvals .spans pre").await);
        for part in [
            "/code, characters 0 to 900", "the file “notesU+200B.txt” (step read, file_ops.read)", "the earlier conversation",
            "the memory 0198c0de-7a3b-7000-8000-000000000001 (step recall)", "(untrusted: model, file)",
        ] {
            assert!(span.contains(part), "{part} is not in {span}");
        }
        assert_eq!(excerpt, "os.remove(\"a.txt\")U+202E…");

        // A refused answer can be given again; the card stays the same one as the document is read again.
        stage.refuse(Some((409, json!({ "code": "conflict", "detail": "The arguments have changed." }))));
        page.click("#approvals .allow").await;
        page.shows("#approvals .error", "The arguments have changed.").await;
        stage.refuse(None);
        page.run("window.question = document.querySelector('.approval')", vec![]).await;
        stage.step(&task, step("other", "reason", "running", &[]));
        page.until("the graph changes", async || page.count("g.card").await, |count| *count == 2).await;
        assert_eq!(page.run("return window.question.isConnected", vec![]).await, true);

        page.click("#approvals .allow").await;
        let call = stage.called(&format!("/v1/tasks/{task}/steps/run/approval"), 2).await;
        assert_eq!(call.body, json!({ "decision": "approve", "digest": DIGEST }));
        page.until("no second answer", async || page.count("#approvals button:disabled").await, |count| *count == 2).await;
        stage.step(&task, with(step("run", "tool", "running", &[]), &json!({ "tool": "code_tools.shell" })));
        page.until("the question goes", async || page.count(".approval").await, |count| *count == 0).await;

        // Nobody knows whether it ran: no request to show, the inputs stand for it.
        stage.step(&task, with(step("run", "tool", "outcome_unknown", &[]), &json!({
            "tool": "code_tools.shell", "inputs": { "code": "ls" }, "error": { "code": "outcome_unknown", "detail": "The node went away." },
        })));
        page.shows("#approvals", "It is not known whether code_tools.shell has run").await;
        page.shows("#approvals", "The node went away.").await;
        page.click("#approvals .deny").await;
        let call = stage.called("/steps/run/approval", 3).await;
        assert_eq!(call.body, json!({ "decision": "deny" }));
        assert!(page.console().await.iter().all(|line| line.contains("409")), "only the refusal is in the console");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_graphs_are_laid_out_without_overlap() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        page.ask("Much").await;
        let task = stage.asked("Much").await;
        stage.step(&task, step("plan", "plan", "succeeded", &[]));
        let names: Vec<String> = (0..60).map(|index| format!("part{index}")).collect();
        stage.edit(&task, |doc| {
            let steps = doc["steps"].as_array_mut().unwrap();
            steps.extend(names.iter().map(|name| step(name, "reason", "pending", &["plan"])));
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            steps.push(step("answer", "answer", "pending", &all));
            // What no orchestrator sends must not hang the page: a circle, itself, an unknown step.
            steps.push(step("odd", "reason", "pending", &["even", "odd", "nowhere"]));
            steps.push(step("even", "reason", "pending", &["odd"]));
        });
        page.until("all cards", async || page.count("g.card").await, |count| *count == 64).await;
        let overlaps = page.run("
            const boxes = [...document.querySelectorAll('g.card')].map((card) => card.getBoundingClientRect());
            return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length;
        ", vec![]).await;
        assert_eq!(overlaps, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_an_earlier_answer_can_be_looked_at_again() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        for (request, kind) in [("One", "recall"), ("Two", "reason")] {
            page.ask(request).await;
            let task = stage.asked(request).await;
            stage.step(&task, step(kind, kind, "succeeded", &[]));
            stage.finish(&task, request);
            page.until(
                "it ends",
                async || page.attribute("li.kamil:last-child", "data-status").await,
                |status| status.as_deref() == Some("succeeded"),
            )
            .await;
        }
        page.shows("g.card", "reason").await;
        page.click("#tab-fleet").await;
        page.click("li.kamil .steps").await;
        page.shows("g.card", "recall").await;
        assert_eq!(page.attribute("#tab-graph", "aria-selected").await.as_deref(), Some("true"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_another_called_for_stands_below_it() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        let below = async |lower: &str, upper: &str| {
            let script = "const [lower, upper] = Array.from(arguments).map((id) => document.querySelector(`[data-step=${id}]`)?.getBoundingClientRect());
                return Boolean(lower && upper && lower.top >= upper.bottom)";
            page.run(script, vec![json!(lower), json!(upper)]).await == true
        };
        page.open(&stage.url).await;
        page.ask("Plan").await;
        let task = stage.asked("Plan").await;
        stage.step(&task, step("recall", "recall", "succeeded", &[]));
        stage.step(&task, step("plan", "plan", "succeeded", &["recall"]));
        // It needs no result of the plan, but it is there because of the plan.
        stage.grow(&task, "plan", &step("s1", "tool", "succeeded", &[]));
        page.until("below the plan", async || below("s1", "plan").await, |is_below| *is_below).await;
        assert_eq!(page.count("path.edge").await, 2);
        page.click("[data-step=s1]").await;
        page.shows("#step", "Added by").await;

        // The same when the task has ended and is only read again.
        stage.finish(&task, "Done");
        page.shows("li.kamil .text", "Done").await;
        page.client.refresh().await.unwrap();
        page.until("below the plan", async || below("s1", "plan").await, |is_below| *is_below).await;
    })
    .await;
}
