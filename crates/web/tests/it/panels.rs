//! Nodes, memory, earlier tasks, and the keyboard.

use serde_json::{Value, json};

use crate::{browser::in_browser, hub::Stage};

pub(crate) fn node(name: &str, role: &str, cpu: f64) -> Value {
    json!({
        "id": "0198c0de-7a3b-7000-8000-0000000000aa", "name": name, "role": role, "url": "http://127.0.0.1:8001", "status": "alive", "version": "0.1.0",
        "registered_at": "2026-05-04T10:00:00Z", "last_seen_at": "2026-05-04T10:00:00Z",
        "capabilities": {
            "slots": 2,
            "models": [{
                "name": "qwen2.5-coder:1.5b", "engine": "llama.cpp", "resident": true, "bytes": 1_100_000_000, "context_tokens": 8192,
                "specializations": ["coding", "general"], "prefill_tokens_per_s": 210.4, "decode_tokens_per_s": 31.6, "generates": true,
            }],
        },
        "hardware": {
            "cpu_model": "Ryzen 7 5800X", "physical_cores": 8, "logical_cores": 16, "instruction_sets": ["avx2"], "ram_total_bytes": 34_359_738_368_u64,
            "ram_available_bytes": 17_179_869_184_u64, "platform": "linux x86_64", "power": "ac", "from_profile": false,
            "accelerators": [{ "kind": "cuda", "name": "RTX 4070", "vram_total_bytes": 12_884_901_888_u64, "vram_available_bytes": 6_442_450_944_u64, "utilization": 0.37 }],
        },
        "load": { "cpu": cpu, "ram_available_bytes": 17_179_869_184_u64, "running": 1, "queued": 3 },
    })
}

pub(crate) fn memory(id: &str, text: &str) -> Value {
    json!({
        "id": id, "kind": "episodic", "text": text, "source": { "origin": "tool" },
        "occurred_at": "2026-05-04T10:00:00Z", "created_at": "2026-05-04T10:00:00Z",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_show_their_live_hardware() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        stage.nodes(vec![node("desktop", "llm", 0.25)]);
        page.open(&stage.url).await;
        page.click("#tab-fleet").await;
        let shown = page.shows("#nodes", "desktop").await;
        for part in [
            "llm",
            "alive",
            "Ryzen 7 5800X",
            "8 cores (16 threads)",
            "linux x86_64",
            "25 %",
            "16.0 GiB of 32.0 GiB",
            "RTX 4070 (cuda)",
            "6.0 GiB of 12.0 GiB free",
            "37 % busy",
            "1 running, 3 waiting",
            "qwen2.5-coder:1.5b",
            "coding, general",
            "8192 tokens of context",
            "reads 210 and writes 32 tokens/s",
        ] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
        let mut dead = node("laptop", "tool", 0.0);
        dead["status"] = json!("dead");
        stage.nodes(vec![node("desktop", "llm", 0.75), dead]);
        page.shows("#nodes", "75 %").await;
        page.shows("#nodes .dead", "Last heard of").await;
        stage.nodes(vec![]);
        page.shows("#nodes", "No node has registered yet.").await;
        assert_eq!(page.console().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_searched_explained_and_forgotten() {
    let [first, second] = ["0198c0de-7a3b-7000-8000-000000000001", "0198c0de-7a3b-7000-8000-000000000002"];
    let stage = Stage::start().await;
    in_browser(async move |page| {
        stage.memories(vec![
            memory(first, "Trained a model on iris: accuracy 0.97"),
            memory(second, "Likes tea"),
        ]);
        page.open(&stage.url).await;
        page.click("#tab-memory").await;
        page.shows("#hits", "Likes tea").await;
        page.type_into("#query", "iris\u{e007}").await;
        page.until("one hit", async || page.count(".hit").await, |count| *count == 1).await;
        let shown = page.text("#hits").await;
        for part in [
            "accuracy 0.97",
            "episodic, from tool",
            "score 1.25",
            "lexical 0.75, vector 0.50",
            "Searched by words alone.",
        ] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
        assert_eq!(
            stage.called("/v1/memories/search", 1).await.body,
            json!({ "query": "iris", "limit": 20 })
        );

        page.click(".hit button").await;
        page.client.dismiss_alert().await.unwrap();
        assert_eq!((page.count(".hit").await, stage.calls(first)), (1, 0), "a no forgets nothing");
        stage.refuse(Some((503, json!({ "code": "no_node", "detail": "No memory node is registered." }))));
        page.click(".hit button").await;
        page.client.accept_alert().await.unwrap();
        page.shows(".hit .error", "No memory node is registered.").await;
        stage.refuse(None);
        page.click(".hit button").await;
        page.client.accept_alert().await.unwrap();
        stage.called(first, 2).await;
        page.until("it is gone", async || page.count(".hit").await, |count| *count == 0).await;
        page.type_into("#query", "\u{e007}").await;
        page.shows("#hits", "Nothing was found.").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_task_is_opened_again_and_its_conversation_goes_on() {
    let [task, session] = ["0198c0de-7a3b-7000-8000-000000000010", "0198c0de-7a3b-7000-8000-000000000011"];
    let stage = Stage::start().await;
    in_browser(async move |page| {
        stage.remember_task(json!({
            "id": task, "status": "succeeded", "input": "What was that?", "answer": "It was **this**.", "session": session,
            "created_at": "2026-05-04T10:00:00Z", "ended_at": "2026-05-04T10:00:05Z", "degraded": [],
            "steps": [{ "id": "answer", "kind": "answer", "status": "succeeded", "depends_on": [], "inputs": {}, "attempt": 1 }],
        }));
        page.open(&stage.url).await;
        page.click("#tab-tasks").await;
        page.shows(".task", "What was that?").await;
        page.shows(".task", "succeeded").await;
        page.click(".task").await;
        page.shows("li.kamil .text", "It was this.").await;
        assert_eq!(page.text("li.kamil strong").await, "this");
        page.shows("g.card", "answer").await;
        stage.called("/events", 1).await;
        page.ask("And then?").await;
        stage.asked("And then?").await;
        assert_eq!(stage.called("/v1/tasks", 1).await.body["session"], session);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_done_with_the_keyboard() {
    const TAB: &str = "\u{e004}";
    const RIGHT: &str = "\u{e014}";
    let stage = Stage::start().await;
    in_browser(async move |page| {
        stage.nodes(vec![node("desktop", "llm", 0.25)]);
        page.open(&stage.url).await;
        let focus = async || page.run("return document.activeElement.id || document.activeElement.dataset.step || document.activeElement.dataset.decision || document.activeElement.className", vec![]).await;
        page.until("the request field has the focus", &focus, |id| *id == "input").await;
        page.press("line one").await;
        page.client.perform_actions(shift_enter()).await.unwrap();
        page.press("line two\u{e007}").await;
        let task = stage.asked("line one\nline two").await;
        stage.step(&task, json!({
            "id": "run", "kind": "tool", "status": "awaiting_approval", "depends_on": [], "tool": "t", "inputs": {}, "attempt": 0,
            "approval": { "tool": "t", "arguments": {}, "reason": "asked", "digest": "00" },
        }));
        page.shows("#approvals", "May t run?").await;

        // From the field on: Stop, the four tabs as one stop, the panel, the card.
        for expected in ["cancel", "tab-graph", "panel-graph"] {
            page.press(TAB).await;
            assert_eq!(focus().await, expected);
        }
        page.until("the card is reached", async || { page.press(TAB).await; focus().await }, |id| *id == "run").await;
        page.press("\u{e007}").await;
        page.shows("#step h2", "run: t").await;
        assert_eq!(page.attribute("g.card", "aria-pressed").await.as_deref(), Some("true"));

        page.run("document.getElementById('tab-graph').focus()", vec![]).await;
        page.press(RIGHT).await;
        assert_eq!(focus().await, "tab-fleet");
        page.shows("#nodes", "desktop").await;
        page.press("\u{e010}").await;
        assert_eq!(focus().await, "tab-tasks");
        page.press(RIGHT).await;
        assert_eq!(focus().await, "tab-graph");

        page.run("document.getElementById('new-conversation').focus()", vec![]).await;
        page.until("the answer is reached", async || { page.press(TAB).await; focus().await }, |id| *id == "approve").await;
        page.press(" ").await;
        assert_eq!(stage.called("/steps/run/approval", 1).await.body["decision"], "approve");
    })
    .await;
}

fn shift_enter() -> fantoccini::actions::KeyActions {
    use fantoccini::actions::{InputSource, KeyAction, KeyActions};
    let keys = [
        KeyAction::Down { value: '\u{e008}' },
        KeyAction::Down { value: '\u{e007}' },
        KeyAction::Up { value: '\u{e007}' },
        KeyAction::Up { value: '\u{e008}' },
    ];
    keys.into_iter().fold(KeyActions::new("keyboard".into()), InputSource::then)
}
