//! Allow, ask, deny.

use kamil_protocol::{
    ErrorCode,
    label::{Labels, Source, Trust},
    task::ApprovalRequest,
    tool::ExecuteRequest,
};
use kamil_tools::Access;
use serde_json::{Value, json};

use crate::world::{World, request};

#[tokio::test]
async fn the_person_agrees_to_one_call_and_no_other() {
    let world = World::with(|options| {
        options.rules.insert("file_ops.delete".into(), Access::Ask);
        options.rules.insert("code_tools".into(), Access::Ask);
    })
    .await;
    std::fs::write(world.file("a"), "a").unwrap();
    std::fs::write(world.file("b"), "b").unwrap();
    let call = request("file_ops.delete", json!({"path": "a"}));
    let problem = world.send(&call).await.unwrap_err();
    assert_eq!((problem.code, problem.status), (ErrorCode::ApprovalRequired, 403));
    let asked: ApprovalRequest = serde_json::from_value(problem.data.unwrap()).unwrap();
    assert_eq!((asked.tool.as_str(), &asked.arguments), ("file_ops.delete", &json!({"path": "a"})));
    assert_eq!(asked.reason, "rule file_ops.delete = ask");
    assert!(asked.command.is_none() && asked.digest.len() == 64);

    let other = ExecuteRequest {
        arguments: json!({"path": "b"}),
        approval: Some(asked.digest.clone()),
        ..call.clone()
    };
    let problem = world.send(&other).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ApprovalRequired);
    assert!(problem.detail.contains("another call"), "{problem}");
    assert!(world.file("a").exists() && world.file("b").exists());
    let agreed = ExecuteRequest { approval: Some(asked.digest), ..call };
    let reply = world.send(&agreed).await.unwrap();
    assert_eq!(reply.policy, "rule file_ops.delete = ask; the person agreed");
    assert!(!world.file("a").exists());

    // For a program the person sees what would be executed.
    let problem =
        world.refusal("code_tools.shell", json!({"code": "rm -r *"}), ErrorCode::ApprovalRequired).await;
    let asked: ApprovalRequest = serde_json::from_value(problem.data.unwrap()).unwrap();
    let command = asked.command.unwrap();
    assert!(command[0].starts_with('/') && command.last().unwrap() == "rm -r *", "{command:?}");
}

#[tokio::test]
async fn the_nearer_rule_decides_and_a_denial_is_final() {
    let world = World::with(|options| {
        options.rules.insert("file_ops".into(), Access::Deny);
        options.rules.insert("file_ops.list".into(), Access::Allow);
    })
    .await;
    let reply = world.call("file_ops.list", json!({})).await.unwrap();
    assert_eq!(reply.policy, "rule file_ops.list = allow");
    let problem = world.refusal("file_ops.write", json!({"path": "x", "text": "x"}), ErrorCode::Denied).await;
    assert!(problem.detail.contains("rule file_ops = deny"), "{problem}");
    assert!(!world.file("x").exists());
    // Arguments are checked first, so that nobody is asked about a call that cannot run.
    world.refusal("file_ops.write", json!({"path": 1}), ErrorCode::InvalidArguments).await;
}

#[tokio::test]
async fn what_others_may_have_written_changes_nothing_without_the_persons_yes() {
    // A rule that allows is no yes to a call that nobody has seen.
    let world = World::with(|options| {
        options.rules.insert("file_ops.write".into(), Access::Allow);
        options.rules.insert("file_ops.delete".into(), Access::Deny);
    })
    .await;
    let labelled = |tool: &str, arguments: Value, sources: &[Source], trust| ExecuteRequest {
        labels: Labels { sources: sources.to_vec(), trust },
        ..request(tool, arguments)
    };
    let write = |trust| {
        let arguments = json!({"path": "out.txt", "text": "x"});
        labelled("file_ops.write", arguments, &[Source::Model, Source::File], trust)
    };
    // What a file went into is not trusted, whatever is claimed of it.
    for trust in [Trust::Untrusted, Trust::Trusted] {
        let problem = world.send(&write(trust)).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::ApprovalRequired, "{problem}");
        assert!(problem.detail.contains("others may have written"), "{problem}");
    }
    for (tool, arguments) in [
        ("code_tools.shell", json!({"code": "touch out.txt"})),
        ("code_tools.python", json!({"code": "open('out.txt', 'w')"})),
        ("file_ops.append", json!({"path": "out.txt", "text": "x"})),
        ("ml_tools.train", json!({"dataset": "iris"})),
    ] {
        let problem =
            world.send(&labelled(tool, arguments, &[Source::Web], Trust::Untrusted)).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::ApprovalRequired, "{tool}: {problem}");
    }
    assert!(!world.file("out.txt").exists() && !world.file("models").exists());
    let denied = labelled("file_ops.delete", json!({"path": "x"}), &[Source::Web], Trust::Untrusted);
    assert_eq!(world.send(&denied).await.unwrap_err().code, ErrorCode::Denied);

    let asked = world.send(&write(Trust::Untrusted)).await.unwrap_err();
    let asked: ApprovalRequest = serde_json::from_value(asked.data.unwrap()).unwrap();
    let mut smuggled = write(Trust::Untrusted);
    smuggled.arguments["path"] = json!("other.txt");
    smuggled.approval = Some(asked.digest.clone());
    let problem = world.send(&smuggled).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ApprovalRequired, "{problem}");
    let agreed = ExecuteRequest { approval: Some(asked.digest), ..write(Trust::Untrusted) };
    let reply = world.send(&agreed).await.unwrap();
    assert_eq!(reply.labels.trust, Trust::Untrusted, "a yes to a call is no yes to what it returns");
    assert!(world.file("out.txt").exists() && !world.file("other.txt").exists());

    // Reading and computing change nothing.
    for (tool, arguments) in
        [("file_ops.read", json!({"path": "out.txt"})), ("calc.evaluate", json!({"expression": "1 + 1"}))]
    {
        let call = labelled(tool, arguments, &[Source::Web], Trust::Untrusted);
        assert_eq!(world.send(&call).await.unwrap().labels.trust, Trust::Untrusted, "{tool}");
    }
}
