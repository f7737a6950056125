//! How the page looks: nothing sticks out, text can be read on its ground, in light and dark, wide and narrow.

use serde_json::{Value, json};

use crate::{
    browser::{Page, in_browser},
    hub::Stage,
    panels,
};

const ANSWER: &str = "The model reaches an accuracy of **96.7 %** on the 30 flowers that were held out [1].\n\n\
    | species | correct | wrong |\n|---|---|---|\n| setosa | 10 | 0 |\n| versicolor | 9 | 1 |\n| virginica | 10 | 0 |\n\n\
    1. Petal length decides most.\n2. Saved as `models/iris.json`:\n   ```python\n   model = load(\"models/iris.json\")\n   ```\n\n\
    > Trained on 120 flowers, see [the data](https://archive.example/iris).";

fn steps() -> Vec<Value> {
    let placed = |name: &str, model: Option<&str>| {
        json!({
            "chosen": { "node": "0198c0de-7a3b-7000-8000-0000000000aa", "name": name, "predicted_ms": 900 , "model": model },
            "reasons": ["It has the tool ml_tools.train.", "Predicted to end after 0.9 s: nothing waits there."],
            "rejected": [{ "node": "0198c0de-7a3b-7000-8000-0000000000bb", "name": "attic", "reason": "it does not have the tool ml_tools.train" }],
        })
    };
    let step = |id: &str,
                kind: &str,
                status: &str,
                after: &[&str],
                tool: Option<&str>,
                model: Option<&str>,
                ended: Option<&str>| {
        let mut step = json!({
            "id": id, "kind": kind, "status": status, "depends_on": after, "inputs": { "data": "iris", "algorithm": "decision_tree" },
            "attempt": 1, "placement": placed("desktop", model),
        });
        for (key, value) in [("tool", tool), ("model", model), ("ended_at", ended)] {
            if let Some(value) = value {
                step[key] = json!(value);
            }
        }
        step["started_at"] = json!("2026-05-04T10:00:00Z");
        if status == "succeeded" {
            step["output"] = json!({ "accuracy": 0.9667, "confusion": [[10, 0, 0], [0, 9, 1], [0, 0, 10]] });
        }
        step
    };
    let model = Some("qwen2.5-coder:1.5b");
    vec![
        step("recall", "recall", "succeeded", &[], None, None, Some("2026-05-04T10:00:00.012Z")),
        step("plan", "plan", "succeeded", &["recall"], None, model, Some("2026-05-04T10:00:02.400Z")),
        step(
            "train",
            "tool",
            "succeeded",
            &["plan"],
            Some("ml_tools.train"),
            None,
            Some("2026-05-04T10:00:01.250Z"),
        ),
        step(
            "status",
            "tool",
            "failed",
            &["plan"],
            Some("system_tools.status"),
            None,
            Some("2026-05-04T10:00:00.090Z"),
        ),
        step("clean", "tool", "awaiting_approval", &["plan"], Some("code_tools.shell"), None, None),
        step("summary", "reason", "running", &["train", "status"], None, model, None),
        step("answer", "answer", "pending", &["summary", "clean"], None, None, None),
        step("remember", "remember", "pending", &["answer"], None, None, None),
    ]
}

async fn furnish(page: &Page, stage: &Stage) {
    stage.nodes(vec![panels::node("desktop", "llm", 0.25), panels::node("attic", "memory", 0.95)]);
    stage.memories(vec![panels::memory(
        "0198c0de-7a3b-7000-8000-000000000001",
        "Trained a decision tree on iris: accuracy 0.967, saved as models/iris.json",
    )]);
    page.open(&stage.url).await;
    page.ask("Train a small ML model on the iris data and summarize the results").await;
    let task = stage.asked("Train a small ML model on the iris data and summarize the results").await;
    stage.edit(&task, |doc| {
        doc["status"] = json!("awaiting_approval");
        doc["degraded"] = json!(["The summary runs on the processor, since the graphics card is full."]);
        doc["steps"] = json!(steps());
        doc["steps"][4]["approval"] = json!({
            "tool": "code_tools.shell", "arguments": { "script": "rm -rf build\nls -l" }, "command": ["sh", "-c", "rm -rf build\nls -l"],
            "reason": "Its effects reach beyond the workspace.", "digest": "00",
        });
    });
    stage.delta(&task, 0, ANSWER);
    page.shows("li.kamil .text", "Trained on 120 flowers").await;
    page.shows("#approvals", "May code_tools.shell run?").await;
    page.click("[data-step=train]").await;
    page.shows("#step", "Why this node").await;
}

/// Elements wider than the window, and text with less contrast than WCAG 2 asks (4.5 : 1).
const FLAWS: &str = "
    const flaws = [];
    if (document.documentElement.scrollWidth > innerWidth || document.documentElement.scrollHeight > innerHeight) flaws.push('the page itself scrolls');
    for (const one of document.querySelectorAll('[role=tabpanel], #messages, #approvals, #graph .scroll')) {
      if (one.scrollWidth > one.clientWidth) flaws.push(`${one.id || one.className} scrolls sideways`);
    }
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (one) => {
      for (let up = one; up; up = up.parentElement) {
        const colour = channels(getComputedStyle(up).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    for (const one of document.querySelectorAll('body *')) {
      const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      const box = one.getBoundingClientRect();
      if (!own || !box.width || one.closest('.hidden, [hidden], button:disabled, g.pending, svg')) continue;
      const [a, b] = [luminance(channels(getComputedStyle(one).color)), luminance(ground(one))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) flaws.push(`${one.tagName}.${one.className} has contrast ${contrast.toFixed(2)}: ${one.textContent.slice(0, 40)}`);
      if (box.right > innerWidth + 1 && !one.closest('.scroll, pre, [role=tablist]')) flaws.push(`${one.tagName}.${one.className} sticks out: ${one.textContent.slice(0, 40)}`);
    }
    return flaws;
";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_readable_in_light_and_dark_wide_and_narrow() {
    let stage = Stage::start().await;
    in_browser(async move |page| {
        furnish(&page, &stage).await;
        for (scheme, width, height) in
            [("light", 1280, 860), ("dark", 1280, 860), ("light", 400, 800), ("dark", 400, 800)]
        {
            page.devtools(
                "Emulation.setEmulatedMedia",
                json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
            )
            .await;
            page.devtools(
                "Emulation.setDeviceMetricsOverride",
                json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
            )
            .await;
            for tab in ["graph", "fleet", "memory", "tasks"] {
                page.click(&format!("#tab-{tab}")).await;
                let content = ["#step h2", ".node h2", ".hit", ".task"]
                    [["graph", "fleet", "memory", "tasks"].iter().position(|one| *one == tab).unwrap()];
                page.find(content).await;
                page.picture(&format!("{tab}-{scheme}-{width}")).await;
                let flaws = page.run(FLAWS, vec![]).await;
                assert_eq!(flaws, json!([]), "{scheme} {width} {tab}");
            }
        }
    })
    .await;
}
