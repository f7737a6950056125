//! What orchestration costs beyond the model: `cargo bench -p kamil-orchestrator`.
//!
//! A real orchestrator on loopback, its journal on the disk under the target folder, an LLM node that answers at once and a
//! tool node whose one tool takes as long as it is told. Every task is asked for over HTTP and followed over its event
//! stream to the end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench reports to its reader, and breaks off when it cannot run"
)]

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    response::{IntoResponse as _, Response, sse::Event},
    routing::post,
};
use futures::StreamExt as _;
use kamil_node::{
    Client, Home, Json, Listener, Method, Metrics, NodeOptions, RunningNode, Service, event_stream,
    orchestrator_only,
};
use kamil_orchestrator::{OrchestratorOptions, start};
use kamil_protocol::{
    node::{Capabilities, ModelOffer, Role},
    reason::{Finish, ReasonReply, ReasonRequest, Usage},
    task::{StepSpec, TaskAccepted, TaskRequest},
    tool::{ExecuteReply, ExecuteRequest},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SEQUENTIAL: usize = 400;
const CLIENTS: usize = 16;
const PER_CLIENT: usize = 250;
/// Steps of a task that is one chain.
const CHAIN: usize = 10;
const CHAINS: usize = 100;
const AT_ONCE: usize = 64;
/// Time of each of the four tools of a diamond.
const TOOL_MS: u64 = 200;
const DIAMONDS: usize = 20;

fn main() {
    // `cargo test --benches` only wants to see that it is there.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(folder.path()));
}

async fn measure(folder: &Path) {
    let mut disk = Disk::new(folder);
    let stop = CancellationToken::new();
    let node = NodeOptions::local(Home::resolve(Some(folder.join("hub"))).unwrap());
    let hub = start(node, OrchestratorOptions::default(), stop.clone()).await.unwrap();
    let llm = instant_llm(&hub.url, &folder.join("llm"), stop.clone()).await;
    let client = Client::new(&hub.url, None).unwrap();
    for _ in 0..50 {
        ask(&client).await;
    }
    let commits_before = commits(&client).await;
    let (mut times, mut syncs) = (Vec::with_capacity(SEQUENTIAL), Vec::with_capacity(SEQUENTIAL));
    for _ in 0..SEQUENTIAL {
        times.push(ask(&client).await);
        // In between, since what a sync takes changes from moment to moment.
        syncs.push(disk.sync());
    }
    let per_task = (commits(&client).await - commits_before) as f64 / SEQUENTIAL as f64;
    let mean = |times: &[Duration]| ms(times.iter().sum::<Duration>()) / times.len() as f64;
    let (task_ms, sync_ms) = (mean(&times), mean(&syncs));
    times.sort_unstable();
    syncs.sort_unstable();
    let (median, p99) = (ms(times[SEQUENTIAL / 2]), ms(times[SEQUENTIAL * 99 / 100]));
    println!("fdatasync of 4 KiB: median {:.3} ms, mean {sync_ms:.3} ms", ms(syncs[SEQUENTIAL / 2]));
    println!(
        "sequential: median {median:.2} ms, p99 {p99:.2} ms, mean {task_ms:.2} ms, {per_task:.2} syncs a task"
    );
    println!("  beyond its syncs a task takes {:.2} ms (mean)", task_ms - per_task * sync_ms);
    println!("  mean / (syncs × mean fdatasync) = {:.2}", task_ms / (per_task * sync_ms));

    let (commits_before, begun) = (commits(&client).await, Instant::now());
    let clients = (0..CLIENTS).map(|_| {
        let client = Client::new(&hub.url, None).unwrap();
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(PER_CLIENT);
            for _ in 0..PER_CLIENT {
                times.push(ask(&client).await);
            }
            times
        })
    });
    let mut times: Vec<Duration> = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.unwrap());
    }
    let took = begun.elapsed();
    times.sort_unstable();
    let count = times.len();
    let per_task = (commits(&client).await - commits_before) as f64 / count as f64;
    println!(
        "{CLIENTS} clients: {:.0} tasks/s, median {:.2} ms, p99 {:.2} ms, {per_task:.2} syncs a task",
        count as f64 / took.as_secs_f64(),
        ms(times[count / 2]),
        ms(times[count * 99 / 100])
    );
    let tools = tool_node(&hub.url, &folder.join("tools"), stop.clone()).await;
    chains(&client).await;
    diamonds(&client).await;
    stop.cancel();
    tools.stopped().await.unwrap();
    llm.stopped().await.unwrap();
    hub.stopped().await.unwrap();
}

/// Durable steps a second: tasks of ten steps one after another, and 64 such tasks at once.
async fn chains(client: &Client) {
    let steps = (0..CHAIN).map(|place| {
        let before: Vec<String> =
            place.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect();
        tool_step(&format!("s{place}"), 0, &before)
    });
    let request = graph(steps.collect());
    follow(client, &request).await;
    for at_once in [1, AT_ONCE] {
        let (commits_before, begun) = (commits(client).await, Instant::now());
        let rounds = CHAINS.div_ceil(at_once);
        for _ in 0..rounds {
            let tasks = (0..at_once).map(|_| follow(client, &request));
            futures::future::join_all(tasks).await;
        }
        let (tasks, took) = (rounds * at_once, begun.elapsed().as_secs_f64());
        println!(
            "chains of {CHAIN} steps, {at_once} at once: {:.0} steps/s durable, {:.2} syncs a task",
            (tasks * CHAIN) as f64 / took,
            (commits(client).await - commits_before) as f64 / tasks as f64
        );
    }
}

/// What independence gains: the makespan of a diamond against its critical path.
async fn diamonds(client: &Client) {
    let after = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let request = graph(vec![
        tool_step("top", TOOL_MS, &[]),
        tool_step("left", TOOL_MS, &after(&["top"])),
        tool_step("right", TOOL_MS, &after(&["top"])),
        tool_step("bottom", TOOL_MS, &after(&["left", "right"])),
    ]);
    let critical_ms = (3 * TOOL_MS) as f64;
    let mut times = Vec::with_capacity(DIAMONDS);
    for _ in 0..DIAMONDS {
        times.push(follow(client, &request).await);
    }
    times.sort_unstable();
    let (median, worst) = (ms(times[DIAMONDS / 2]), ms(times[DIAMONDS - 1]));
    println!(
        "diamond of four tools of {TOOL_MS} ms: {median:.1} ms median, {worst:.1} ms at worst; {:.3} and {:.3} × the critical path",
        median / critical_ms,
        worst / critical_ms
    );
}

fn tool_step(id: &str, wait_ms: u64, after: &[String]) -> StepSpec {
    let step = serde_json::json!({
        "id": id, "kind": "tool", "tool": "bench.wait", "inputs": {"ms": wait_ms}, "depends_on": after
    });
    serde_json::from_value(step).unwrap()
}

fn graph(steps: Vec<StepSpec>) -> TaskRequest {
    TaskRequest { input: "Wait.".to_owned(), steps: Some(steps), ..TaskRequest::default() }
}

/// Asks a question that is answered at once, and follows it to the end.
async fn ask(client: &Client) -> Duration {
    let request =
        TaskRequest { input: "What is a hash chain?".to_owned(), direct: true, ..TaskRequest::default() };
    follow(client, &request).await
}

/// Asks, and follows to the end.
async fn follow(client: &Client, request: &TaskRequest) -> Duration {
    let begun = Instant::now();
    let task: TaskAccepted = client.post("/v1/tasks", request).await.unwrap();
    let path = format!("/v1/tasks/{}/events", task.id);
    let mut events = client.stream(Method::GET, &path, None::<&()>, &[]).await.unwrap();
    while let Some(event) = events.next().await {
        if event.unwrap().event == "end" {
            break;
        }
    }
    let took = begun.elapsed();
    // Reading to the end of the body gives the connection back.
    while events.next().await.is_some() {}
    took
}

async fn instant_llm(orchestrator: &str, home: &Path, stop: CancellationToken) -> RunningNode {
    let offer = ModelOffer {
        name: "instant".to_owned(),
        engine: "openai".to_owned(),
        resident: true,
        bytes: 0,
        context_tokens: 8_192,
        specializations: vec!["general".to_owned()],
        prefill_tokens_per_s: None,
        decode_tokens_per_s: None,
        generates: true,
    };
    let offers = Capabilities { models: vec![offer], slots: 64, ..Capabilities::default() };
    node(orchestrator, home, Role::Llm, Router::new().route("/v1/reason", post(reason)), offers, stop).await
}

async fn tool_node(orchestrator: &str, home: &Path, stop: CancellationToken) -> RunningNode {
    let tool = serde_json::json!({
        "name": "bench.wait", "description": "Waits.", "side_effect": "pure", "idempotent": true, "timeout_ms": 10_000,
        "arguments": {"type": "object", "properties": {"ms": {"type": "integer"}}, "required": ["ms"]},
        "result": {"type": "object"}
    });
    let tool = serde_json::from_value(tool).unwrap();
    let offers = Capabilities { tools: vec![tool], slots: 64, ..Capabilities::default() };
    node(orchestrator, home, Role::Tool, Router::new().route("/v1/execute", post(execute)), offers, stop)
        .await
}

async fn node(
    orchestrator: &str,
    home: &Path,
    role: Role,
    router: Router,
    offers: Capabilities,
    stop: CancellationToken,
) -> RunningNode {
    let mut options = NodeOptions::local(Home::resolve(Some(home.to_owned())).unwrap());
    options.orchestrator = Some(orchestrator.to_owned());
    let listener = Listener::bind(&options, role).await.unwrap();
    let router = orchestrator_only(router, listener.token());
    let (_offers, capabilities) = watch::channel(offers);
    let service = Service {
        role,
        router,
        openapi: utoipa::openapi::OpenApi::default(),
        capabilities,
        load: Arc::new(|| (0, 0)),
        metrics: Metrics::new(),
    };
    let running = listener.start(service, stop);
    running.registered().await;
    running
}

async fn reason(Json(request): Json<ReasonRequest>) -> Response {
    let reply = ReasonReply {
        model: request.model.unwrap_or_default(),
        text: "Each block holds the hash of the one before it.".to_owned(),
        finish: Finish::Stop,
        usage: Usage { tokens_in: 20, tokens_out: 11, ..Usage::default() },
    };
    if request.stream {
        let done = Event::default().event("done").data(serde_json::to_string(&reply).unwrap());
        return event_stream(futures::stream::iter([done]));
    }
    Json(reply).into_response()
}

async fn execute(Json(request): Json<ExecuteRequest>) -> Json<ExecuteReply> {
    let wait = Duration::from_millis(request.arguments["ms"].as_u64().unwrap());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    Json(ExecuteReply {
        output: serde_json::json!({}),
        labels: request.labels,
        enforced: Vec::new(),
        policy: "a bench".to_owned(),
        duration_ms: 0,
        repeated: false,
    })
}

async fn commits(client: &Client) -> u64 {
    let text = client.get_text("/metrics").await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("kamil_journal_commits_total "));
    line.unwrap().parse().unwrap()
}

/// A file that grows beside the journal.
struct Disk(File);

impl Disk {
    fn new(folder: &Path) -> Self {
        Self(File::create(folder.join("sync")).unwrap())
    }

    /// What it takes to make 4 KiB durable.
    fn sync(&mut self) -> Duration {
        self.0.write_all(&[7; 4096]).unwrap();
        let begun = Instant::now();
        self.0.sync_data().unwrap();
        begun.elapsed()
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
