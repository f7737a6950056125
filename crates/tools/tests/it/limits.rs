//! Nothing outlives its caller, its deadline or its node; a full node says so.

use std::time::{Duration, Instant};

use kamil_protocol::{ErrorCode, tool::ExecuteRequest};
use kamil_sandbox::Launcher;
use serde_json::json;

use crate::world::{World, request, runs, until};

fn sleeper(marker: &str) -> ExecuteRequest {
    let code = format!("import subprocess\nsubprocess.run(['sleep', '600'])\n# {marker}");
    request("code_tools.python", json!({"code": code}))
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_processes_along() {
    let world = World::new().await;
    let marker = "marker-caller-went-away";
    {
        let call = sleeper(marker);
        let running = world.send(&call);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            () = until("the program starts", || runs(marker)) => {}
        }
    }
    until("the program is gone", || !runs(marker)).await;
}

#[tokio::test]
async fn the_deadline_ends_the_processes() {
    let world = World::new().await;
    let marker = "marker-deadline-passed";
    let began = Instant::now();
    let call = ExecuteRequest { deadline_ms: Some(1500), ..sleeper(marker) };
    let sent = world.send(&call);
    tokio::pin!(sent);
    tokio::select! {
        ended = &mut sent => panic!("{ended:?}"),
        () = until("the program starts", || runs(marker)) => {}
    }
    let problem = sent.await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::DeadlineExceeded, "{problem}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!runs(marker));
}

#[tokio::test]
async fn the_shutdown_of_the_node_ends_the_processes() {
    let world = World::new().await;
    let marker = "marker-node-shut-down";
    let call = sleeper(marker);
    let (client, shutdown) = (world.client.clone(), world.shutdown.clone());
    let sent = tokio::spawn(async move { client.post::<_, serde_json::Value>("/v1/execute", &call).await });
    until("the program starts", || runs(marker)).await;
    shutdown.cancel();
    assert!(sent.await.unwrap().is_err());
    until("the program is gone", || !runs(marker)).await;
    world.node.stopped().await.unwrap();
}

#[tokio::test]
async fn a_full_node_refuses_at_once() {
    let world = World::with(|options| options.slots = Some(1)).await;
    let marker = "marker-full-node";
    let mut calls = tokio::task::JoinSet::new();
    // One runs and sixteen wait.
    for _ in 0..17 {
        let (client, call) = (world.client.clone(), sleeper(marker));
        calls.spawn(async move { client.post::<_, serde_json::Value>("/v1/execute", &call).await });
    }
    let full = async {
        loop {
            let health: serde_json::Value = world.client.get("/capabilities").await.unwrap();
            if health["load"]["running"] == 1 && health["load"]["queued"] == 16 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), full).await.unwrap();
    let problem = world.refusal("calc.evaluate", json!({"expression": "1+1"}), ErrorCode::Busy).await;
    assert!(problem.retry_after_ms.is_some());
    calls.shutdown().await;
    until("the programs are gone", || !runs(marker)).await;
    let call = async {
        while world.call("calc.evaluate", json!({"expression": "1+1"})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), call).await.unwrap();
}

#[tokio::test]
async fn without_a_layer_nothing_runs() {
    // No kernel has this version of Landlock.
    let world = World::with(|options| options.min_landlock_abi = 1_000).await;
    let call = request("code_tools.shell", json!({"code": "touch made"}));
    // The key is not used up, since nothing has run.
    for _ in 0..2 {
        let problem = world.send(&call).await.unwrap_err();
        assert_eq!((problem.code, problem.status), (ErrorCode::LayerUnavailable, 503), "{problem}");
        assert!(problem.detail.contains("landlock"), "{problem}");
    }
    world.refusal("ml_tools.train", json!({}), ErrorCode::LayerUnavailable).await;
    assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 0);
    world.output("calc.evaluate", json!({"expression": "1 + 1"})).await;
}

#[tokio::test]
async fn a_launcher_that_does_not_report_is_not_believed() {
    let world = World::with(|options| options.launcher = Launcher::new("/bin/true")).await;
    let problem = world.call("code_tools.shell", json!({"code": "touch made"})).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::OutcomeUnknown, "{problem}");
    assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 0);
}
