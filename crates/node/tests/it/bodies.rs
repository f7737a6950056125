//! Bad input, and what every node answers.

use kamil_node::{CapabilitiesDoc, Client};
use kamil_protocol::{ErrorCode, MAX_BODY_BYTES, node::Role};
use serde_json::{Value, json};

use crate::world::{Greeting, get_with, post, send, start};

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn bad_bodies_are_refused_with_what_is_wrong() {
    let world = start(|_| {}).await;
    let addr = world.node.addr;
    let reply =
        post(addr, "/greet", "Content-Type: application/json; charset=utf-8\r\n", r#"{"name":"Ada"}"#).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"name":"Ada","times":0}"#));

    let problem = post(addr, "/greet", JSON, "{\"name\":\n  oops}").await.problem();
    assert_eq!(problem.code, ErrorCode::MalformedBody);
    assert!(problem.detail.contains("line 2 column 3"), "{}", problem.detail);

    let problem = post(addr, "/greet", JSON, r#"{"name":"Ada","tmies":2}"#).await.problem();
    assert_eq!(problem.code, ErrorCode::UnknownField);
    for named in ["`tmies`", "`name`", "`times`"] {
        assert!(problem.detail.contains(named), "{}", problem.detail);
    }
    for (body, why) in [
        ("", "EOF"),
        ("{}", "missing field `name`"),
        (r#"{"name":1}"#, "invalid type"),
        (r#"{"name":"a"} x"#, "trailing"),
    ] {
        let problem = post(addr, "/greet", JSON, body).await.problem();
        assert_eq!(problem.code, ErrorCode::MalformedBody, "{body}");
        assert!(problem.detail.contains(why), "{}", problem.detail);
    }
    for content_type in
        ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"]
    {
        assert_eq!(post(addr, "/greet", content_type, "{}").await.code(), "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_read_and_a_larger_one_refused() {
    let world = start(|_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let frame = json!({ "name": "", "times": 0 }).to_string().len();
    let largest = Greeting { name: "a".repeat(MAX_BODY_BYTES - frame), times: 0 };
    let greeting: Greeting = client.post("/greet", &largest).await.unwrap();
    assert_eq!(greeting.name.len(), largest.name.len());
    for excess in [1, 5 * MAX_BODY_BYTES] {
        let larger = Greeting { name: "a".repeat(MAX_BODY_BYTES - frame + excess), times: 0 };
        let problem = client.post::<_, Greeting>("/greet", &larger).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::BodyTooLarge, "{problem}");
    }
}

#[tokio::test]
async fn wrong_paths_methods_and_parameters_get_problem_documents() {
    let world = start(|_| {}).await;
    let addr = world.node.addr;
    let host = format!("Host: {addr}");
    let problem = get_with(addr, "/v1/nothing", &[&host]).await.problem();
    assert_eq!(problem.code, ErrorCode::NotFound);
    assert!(problem.detail.contains("/v1/nothing"));

    let reply = send(addr, &format!("DELETE /greet HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n")).await;
    assert_eq!((reply.status, reply.code()), (405, "method_not_allowed"));
    assert!(reply.head.to_lowercase().contains("allow: get,head,post"), "{}", reply.head);
    let reply = send(
        addr,
        &format!("POST /health HTTP/1.1\r\n{host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert_eq!(reply.code(), "method_not_allowed");

    assert_eq!(get_with(addr, "/number/12", &[&host]).await.body, "12");
    let problem = get_with(addr, "/number/twelve", &[&host]).await.problem();
    assert_eq!(problem.code, ErrorCode::InvalidParameter);
    assert!(problem.detail.contains("twelve"), "{}", problem.detail);

    assert_eq!(get_with(addr, "/list?limit=7", &[&host]).await.body, "7");
    assert_eq!(get_with(addr, "/list?limit=x", &[&host]).await.code(), "invalid_parameter");
    let problem = get_with(addr, "/list?limt=7", &[&host]).await.problem();
    assert_eq!(problem.code, ErrorCode::UnknownField);
    assert!(problem.detail.contains("`limt`") && problem.detail.contains("`limit`"), "{}", problem.detail);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_problem_and_the_node_goes_on() {
    let world = start(|_| {}).await;
    let host = format!("Host: {}", world.node.addr);
    let reply = get_with(world.node.addr, "/panic", &[&host]).await;
    assert_eq!((reply.status, reply.code()), (500, "internal"));
    assert!(!reply.body.contains("on purpose"), "what happened inside is for the log");
    assert_eq!(get_with(world.node.addr, "/greet", &[&host]).await.body, "hello");
}

#[tokio::test]
async fn every_node_describes_itself() {
    let world = start(|options| options.name = Some("desk".to_owned())).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let about: CapabilitiesDoc = client.get("/capabilities").await.unwrap();
    assert_eq!((about.name.as_str(), about.role, about.id), ("desk", Role::Tool, world.node.id));
    assert_eq!((about.load.running, about.load.queued, about.capabilities.slots), (2, 3, 1));
    assert!(about.hardware.ram_total_bytes > 0);

    let document: Value = client.get("/openapi.json").await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in ["/health", "/capabilities", "/metrics", "/openapi.json"] {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
    let metrics = client.get_text("/metrics").await.unwrap();
    assert!(
        metrics.contains(r#"kamil_http_requests_total{method="GET",route="/capabilities",status="2xx"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains("# TYPE kamil_http_request_ms histogram"), "{metrics}");
}

#[tokio::test]
async fn a_hardware_profile_is_what_the_node_tells() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("big.json");
    let text = json!({
        "cpu_model": "Big", "physical_cores": 64, "logical_cores": 128, "ram_total_bytes": 1_u64 << 40, "ram_available_bytes": 1_u64 << 39,
        "accelerators": [{ "kind": "cuda", "name": "H", "vram_total_bytes": 80, "vram_available_bytes": 79 }]
    });
    std::fs::write(&profile, text.to_string()).unwrap();
    let world = start(|options| options.hardware_profile = Some(profile)).await;
    let about: CapabilitiesDoc =
        Client::new(&world.node.url, None).unwrap().get("/capabilities").await.unwrap();
    assert!(about.hardware.from_profile);
    assert_eq!((about.hardware.cpu_model.as_str(), about.hardware.logical_cores), ("Big", 128));
    assert_eq!(about.hardware.accelerators[0].name, "H");
    assert_eq!(about.load.ram_available_bytes, 1 << 39);
}
