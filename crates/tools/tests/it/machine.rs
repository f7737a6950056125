//! `calc` and `system_tools`.

use std::time::{Duration, Instant};

use kamil_protocol::{
    ErrorCode,
    task::{Labels, Source, Trust},
    tool::ExecuteRequest,
};
use serde_json::json;

use crate::world::{World, request};

#[tokio::test]
async fn expressions_are_calculated() {
    let world = World::new().await;
    for (expression, result) in [
        ("3847 * 291", "1119477"),
        ("17.5% of 240", "42"),
        ("2^100", "1267650600228229401496703205376"),
        ("100 km to m", "100000 m"),
        ("5!", "120"),
        ("10 miles to km", "16.09344 km"),
        ("sqrt(144)", "12"),
    ] {
        let output = world.output("calc.evaluate", json!({"expression": expression})).await;
        assert_eq!(output["result"], result, "{expression}");
    }
    let problem =
        world.refusal("calc.evaluate", json!({"expression": "2 +* 3"}), ErrorCode::ToolFailed).await;
    assert!(problem.next_step.is_some(), "{problem}");
    world.refusal("calc.evaluate", json!({"expression": ""}), ErrorCode::InvalidArguments).await;
    world.refusal("calc.evaluate", json!({"expression": "5 km + 3 s"}), ErrorCode::ToolFailed).await;
}

#[tokio::test]
async fn a_calculation_without_end_is_stopped() {
    let world = World::new().await;
    for expression in ["9^9^9^9", "(10^7)!", "2^(10^12)"] {
        let began = Instant::now();
        assert!(
            world.call("calc.evaluate", json!({"expression": expression})).await.is_err(),
            "{expression}"
        );
        assert!(began.elapsed() < Duration::from_secs(8), "{expression}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn labels_join_those_of_the_arguments() {
    let world = World::new().await;
    let call = ExecuteRequest {
        labels: Labels { sources: vec![Source::Web], trust: Trust::Untrusted },
        ..request("calc.evaluate", json!({"expression": "1"}))
    };
    let labels = world.send(&call).await.unwrap().labels;
    assert_eq!((labels.sources, labels.trust), (vec![Source::Tool, Source::Web], Trust::Untrusted));
    let labels = world.call("calc.evaluate", json!({"expression": "1"})).await.unwrap().labels;
    assert_eq!((labels.sources, labels.trust), (vec![Source::Person, Source::Tool], Trust::Trusted));
}

#[tokio::test]
async fn the_machine_is_described() {
    let world = World::new().await;
    let status = world.output("system_tools.status", json!({})).await;
    assert!(status["ram_available_bytes"].as_u64().unwrap() > 0);
    assert!(status["ram_available_bytes"].as_u64() <= status["ram_total_bytes"].as_u64());
    assert!((0.0..=1.0).contains(&status["cpu"].as_f64().unwrap()), "{status}");
    assert!(status["logical_cores"].as_u64().unwrap() > 0);

    let processes = world.output("system_tools.processes", json!({"limit": 3})).await;
    let listed = processes["processes"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    let memory: Vec<u64> = listed.iter().map(|process| process["memory_bytes"].as_u64().unwrap()).collect();
    assert!(memory.is_sorted_by(|a, b| a >= b), "{memory:?}");
    world.refusal("system_tools.processes", json!({"limit": 1000}), ErrorCode::InvalidArguments).await;
    world.refusal("system_tools.processes", json!({"sort": "name"}), ErrorCode::InvalidArguments).await;

    let disk = world.output("system_tools.disk", json!({})).await;
    assert!(disk["disks"].as_array().unwrap().len() <= 50, "{disk}");

    let time = world.output("system_tools.time", json!({"timezone": "UTC"})).await;
    let stamp: jiff::Timestamp = time["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(stamp).abs() < jiff::SignedDuration::from_secs(60));
    world.refusal("system_tools.time", json!({"timezone": "Mars/Base"}), ErrorCode::InvalidArguments).await;
}

#[tokio::test]
async fn a_call_that_a_shutdown_cuts_short_can_go_to_another_node() {
    let world = World::new().await;
    let (client, shutdown) = (world.client.clone(), world.shutdown.clone());
    let call = request("ml_tools.train", json!({"dataset": "digits", "model": "logistic_regression"}));
    let sent = tokio::spawn(async move { client.post::<_, serde_json::Value>("/v1/execute", &call).await });
    crate::world::until("the worker starts", || crate::world::runs("__ml-worker")).await;
    shutdown.cancel();
    let problem = sent.await.unwrap().unwrap_err();
    assert!(problem.code.is_transient(), "{problem}");
    assert!(!world.file("models").exists());
}
