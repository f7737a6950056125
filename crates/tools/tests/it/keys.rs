//! Idempotency keys: nothing runs twice silently.

use kamil_protocol::{ErrorCode, tool::ExecuteRequest};
use serde_json::json;

use crate::world::{World, request, runs, until};

fn append(text: &str) -> ExecuteRequest {
    request("file_ops.append", json!({"path": "log.txt", "text": text}))
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_result_also_after_a_restart() {
    let world = World::new().await;
    let call = append("once\n");
    let first = world.send(&call).await.unwrap();
    assert!(!first.repeated);
    let second = world.send(&call).await.unwrap();
    assert!(second.repeated);
    assert_eq!((&second.output, &second.labels), (&first.output, &first.labels));
    let other = ExecuteRequest { idempotency_key: call.idempotency_key.clone(), ..append("other\n") };
    let problem = world.send(&other).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::IdempotencyMismatch, "{problem}");

    // A failure is a result as well.
    let failing = request("file_ops.move", json!({"from": "missing", "to": "there"}));
    let fault = world.send(&failing).await.unwrap_err();
    std::fs::write(world.file("missing"), "now it is here").unwrap();
    assert_eq!(world.send(&failing).await.unwrap_err(), fault);

    let copy = tempfile::tempdir().unwrap();
    copy_folder(&world.home(), &copy.path().join("home"));
    let restarted = World::on(copy, |_| {}).await;
    assert!(restarted.send(&call).await.unwrap().repeated);
    assert_eq!(restarted.send(&other).await.unwrap_err().code, ErrorCode::IdempotencyMismatch);
    for world in [&world, &restarted] {
        assert_eq!(std::fs::read_to_string(world.file("log.txt")).unwrap(), "once\n");
    }
    let no_key = ExecuteRequest { idempotency_key: String::new(), ..append("x") };
    assert_eq!(world.send(&no_key).await.unwrap_err().code, ErrorCode::ValidationFailed);
}

#[tokio::test]
async fn a_repeat_while_the_first_still_runs_waits_for_its_result() {
    let world = World::new().await;
    let code = "echo run >> runs.txt; while [ ! -e go ]; do sleep 0.02; done; cat go";
    let call = request("code_tools.shell", json!({"code": code}));
    let send = || {
        let (client, call) = (world.client.clone(), call.clone());
        tokio::spawn(async move {
            client.post::<_, kamil_protocol::tool::ExecuteReply>("/v1/execute", &call).await.unwrap()
        })
    };
    let first = send();
    until("the program starts", || world.file("runs.txt").exists()).await;
    let second = send();
    let third = send();
    let all_wait = async {
        while !world.client.get_text("/metrics").await.unwrap().contains("kamil_tool_callers 3") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all_wait).await.unwrap();
    // The first caller goes; the others still wait for the result.
    first.abort();
    let _ = first.await;
    std::fs::write(world.file("go"), "gone").unwrap();
    let (second, third) = (second.await.unwrap(), third.await.unwrap());
    assert!(second.repeated && third.repeated);
    assert_eq!(second.output["stdout"], "gone");
    assert_eq!(std::fs::read_to_string(world.file("runs.txt")).unwrap(), "run\n");
}

#[tokio::test]
async fn what_was_cut_short_has_an_unknown_outcome() {
    let world = World::new().await;
    let marker = "marker-cut-short";
    let call =
        request("code_tools.shell", json!({"code": format!("echo half > half.txt; sleep 600 # {marker}")}));
    let copy = tempfile::tempdir().unwrap();
    {
        let running = world.send(&call);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            () = until("the program starts", || world.file("half.txt").exists()) => {}
        }
        // What a power failure at this moment would leave behind.
        copy_folder(&world.home(), &copy.path().join("home"));
    }
    until("the program is gone", || !runs(marker)).await;

    let after_crash = World::on(copy, |_| {}).await;
    let problem = after_crash.send(&call).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::OutcomeUnknown, "{problem}");
    assert!(problem.next_step.is_some() && !runs(marker));
    // The node that stayed up knows that it was stopped, and does not know more.
    let problem = world.send(&call).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::OutcomeUnknown, "{problem}");
    assert!(problem.detail.contains("caller went away"), "{problem}");
}

#[tokio::test]
async fn what_can_be_repeated_leaves_no_key_behind() {
    let world = World::new().await;
    let key = "the-same-for-all".to_owned();
    for tool in [
        request("calc.evaluate", json!({"expression": "2 + 2"})),
        request("file_ops.write", json!({"path": "x", "text": "x"})),
        request("file_ops.read", json!({"path": "x"})),
    ] {
        let call = ExecuteRequest { idempotency_key: key.clone(), ..tool };
        assert!(!world.send(&call).await.unwrap().repeated);
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
