//! How long a warm tool call takes over HTTP: `cargo run --release -p kamil-tools --example warm_calls [CALLS]`.
//!
//! The example is its own launcher and worker, so that it needs no other binary.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::{Duration, Instant};

use kamil_node::{Client, Home, Listener, NodeOptions};
use kamil_protocol::{
    TaskId,
    node::Role,
    task::{Labels, Source, Trust},
    tool::{ExecuteReply, ExecuteRequest},
};
use kamil_sandbox::Launcher;
use kamil_tools::{ToolsOptions, Worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    kamil_sandbox::launcher::run_if_requested();
    kamil_tools::worker::run_if_requested();
    let calls = std::env::args().nth(1).map_or(Ok(300), |text| text.parse())?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(calls))
}

async fn measure(calls: usize) -> Result<(), Fault> {
    let folder = std::env::temp_dir().join(format!("kamil-warm-calls-{}", std::process::id()));
    let home = Home::resolve(Some(folder.clone()))?;
    let options = ToolsOptions::new(Launcher::current()?, Worker::current()?, home.workspace());
    let listener = Listener::bind(&NodeOptions::local(home.clone()), Role::Tool).await?;
    let client = Client::new(listener.url(), None)?.with_node_token(listener.token().expose())?;
    let shutdown = CancellationToken::new();
    let node = kamil_tools::serve(listener, &home, options, shutdown.clone()).await?;

    println!("{:<38} {:>6} {:>9} {:>9} {:>9}", "call", "count", "p50 ms", "p99 ms", "max ms");
    for (what, tool, arguments, count) in [
        ("calc.evaluate", "calc.evaluate", json!({"expression": "3847 * 291"}), calls * 4),
        ("file_ops.write (fsync)", "file_ops.write", json!({"path": "a.txt", "text": "x"}), calls),
        ("file_ops.read", "file_ops.read", json!({"path": "a.txt"}), calls * 4),
        ("file_ops.append (fsync, key)", "file_ops.append", json!({"path": "b.txt", "text": "x"}), calls),
        ("code_tools.shell (sandbox, key)", "code_tools.shell", json!({"code": ":"}), calls),
        ("code_tools.python (sandbox, key)", "code_tools.python", json!({"code": "print(1)"}), calls),
        ("ml_tools.train iris (sandbox)", "ml_tools.train", json!({}), calls),
    ] {
        let mut times = Vec::with_capacity(count);
        for number in 0..count + 10 {
            let took = call(&client, tool, &arguments, &format!("{tool}-{number}")).await?;
            // The first ten warm caches and connections up.
            if number >= 10 {
                times.push(took);
            }
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{what:<38} {count:>6} {:>9.3} {:>9.3} {:>9.3}", at(0.5), at(0.99), at(1.0));
    }
    shutdown.cancel();
    node.stopped().await?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn call(client: &Client, tool: &str, arguments: &Value, key: &str) -> Result<Duration, Fault> {
    let request = ExecuteRequest {
        task: TaskId::generate(),
        step: "s1".parse()?,
        tool: tool.to_owned(),
        arguments: arguments.clone(),
        idempotency_key: key.to_owned(),
        approval: None,
        labels: Labels { sources: vec![Source::Person], trust: Trust::Trusted },
        deadline_ms: None,
    };
    let began = Instant::now();
    let _: ExecuteReply = client.post("/v1/execute", &request).await?;
    Ok(began.elapsed())
}
