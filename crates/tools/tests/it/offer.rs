//! What the node offers, and to whom.

use kamil_node::{Home, Listener, NodeOptions};
use kamil_protocol::{ErrorCode, Page, node::Role, tool::ToolDescriptor};
use kamil_sandbox::Launcher;
use kamil_tools::{StartError, ToolsOptions, Worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::{PROGRAM, World, request};

#[tokio::test]
async fn tools_are_listed_page_by_page_with_usable_schemas_and_examples() {
    let world = World::new().await;
    let mut names = Vec::new();
    let mut path = "/v1/tools?limit=4".to_owned();
    loop {
        let page: Page<ToolDescriptor> = world.client.get(&path).await.unwrap();
        assert!(page.items.len() <= 4);
        for tool in page.items {
            let schema = jsonschema::validator_for(&tool.arguments).unwrap();
            assert!(!tool.examples.is_empty() && tool.examples.len() <= 3, "{}", tool.name);
            for example in &tool.examples {
                assert!(schema.is_valid(&example.arguments), "{}: {}", tool.name, example.arguments);
            }
            assert!(!schema.is_valid(&json!({"no_such_argument": 1})), "{}", tool.name);
            let size = tool.arguments.to_string().len();
            assert!(size < 900, "the schema of {} has {size} bytes, which every plan pays for", tool.name);
            assert!(!tool.arguments.to_string().contains("\"$ref\""), "{}", tool.name);
            jsonschema::validator_for(&tool.result).unwrap();
            names.push(tool.name);
        }
        match page.next_cursor {
            Some(cursor) => path = format!("/v1/tools?limit=4&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(
        names,
        [
            "calc.evaluate",
            "code_tools.python",
            "code_tools.shell",
            "file_ops.append",
            "file_ops.delete",
            "file_ops.list",
            "file_ops.move",
            "file_ops.read",
            "file_ops.search",
            "file_ops.write",
            "ml_tools.evaluate",
            "ml_tools.predict",
            "ml_tools.train",
            "system_tools.disk",
            "system_tools.processes",
            "system_tools.status",
            "system_tools.time",
        ]
    );
    let offered: Value = world.client.get("/capabilities").await.unwrap();
    assert_eq!(offered["capabilities"]["tools"].as_array().unwrap().len(), names.len());
    assert!(offered["capabilities"]["slots"].as_u64().unwrap() >= 2);
}

#[tokio::test]
async fn only_the_orchestrator_gets_in() {
    let world = World::new().await;
    let refused = world.stranger.get::<Value>("/v1/tools").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OrchestratorOnly);
    let call = request("file_ops.write", json!({"path": "x", "text": "x"}));
    let refused = world.stranger.post::<_, Value>("/v1/execute", &call).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OrchestratorOnly);
    assert!(!world.file("x").exists());
    world.send(&call).await.unwrap();
    assert!(world.file("x").exists());
}

#[tokio::test]
async fn wrong_calls_are_refused_before_anything_happens() {
    let world = World::new().await;
    let problem = world.refusal("file_ops.raed", json!({"path": "x"}), ErrorCode::ToolUnknown).await;
    assert!(problem.to_string().contains("`file_ops.read`"), "{problem}");
    let problem = world.refusal("file_ops.write", json!({"path": 5}), ErrorCode::InvalidArguments).await;
    assert!(problem.detail.contains("/path") && problem.detail.contains("text"), "{problem}");
    assert_eq!(problem.data.unwrap()["errors"].as_array().unwrap().len(), 2);
    assert!(problem.next_step.unwrap().contains("path (required), text (required), overwrite"));
    let wrong = json!({"path": "x", "text": "x", "mode": "w"});
    let problem = world.refusal("file_ops.write", wrong, ErrorCode::InvalidArguments).await;
    assert!(problem.detail.contains("mode"), "{problem}");
    world.refusal("file_ops.write", json!("x"), ErrorCode::InvalidArguments).await;
    let mut body = serde_json::to_value(request("calc.evaluate", json!({"expression": "1"}))).unwrap();
    body["extra"] = json!(1);
    let problem = world.client.post::<_, Value>("/v1/execute", &body).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::UnknownField);
    assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 0);
}

#[tokio::test]
async fn families_are_chosen_on_the_command_line() {
    let world = World::with(|options| options.families = vec!["calc".into(), "file_ops.read".into()]).await;
    let page: Page<ToolDescriptor> = world.client.get("/v1/tools").await.unwrap();
    let names: Vec<_> = page.items.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["calc.evaluate", "file_ops.read"]);
    world.refusal("file_ops.write", json!({"path": "x", "text": "x"}), ErrorCode::ToolUnknown).await;

    let fault = start_fault(|options| options.families = vec!["file_opps".into()]).await;
    assert!(matches!(fault, StartError::UnknownFamily { .. }));
    let text = fault.to_string();
    assert!(
        text.contains("did you mean `file_ops`?") && text.contains("calc, code_tools, file_ops"),
        "{text}"
    );
    let fault = start_fault(|options| {
        options.rules.insert("fileops.delete".into(), kamil_tools::Access::Ask);
    });
    assert!(fault.await.to_string().contains("did you mean `file_ops.delete`?"));
    let fault = start_fault(|options| {
        options.rules.insert("file_ops.remove".into(), kamil_tools::Access::Ask);
    });
    assert!(fault.await.to_string().contains("about no tool"));
    let fault = start_fault(|options| options.workspace = "/dev/null/x".into()).await;
    assert!(fault.to_string().contains("/dev/null/x"));
}

async fn start_fault(change: impl FnOnce(&mut ToolsOptions)) -> StartError {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path().join("home"))).unwrap();
    let mut options = ToolsOptions::new(Launcher::new(PROGRAM), Worker::new(PROGRAM), home.workspace());
    change(&mut options);
    let listener = Listener::bind(&NodeOptions::local(home.clone()), Role::Tool).await.unwrap();
    kamil_tools::serve(listener, &home, options, CancellationToken::new()).await.unwrap_err()
}

#[tokio::test]
async fn the_description_is_served_as_it_stands() {
    let world = World::new().await;
    let served: Value = world.client.get("/openapi.json").await.unwrap();
    assert_eq!(served, serde_json::to_value(kamil_tools::openapi()).unwrap());
    for path in ["/v1/tools", "/v1/execute", "/health"] {
        assert!(served["paths"][path].is_object(), "{path}");
    }
}
