//! `code_tools`: programs run, and run confined.

use std::{net::TcpListener, process::Command};

use kamil_protocol::{
    ErrorCode,
    task::{Source, Trust},
};
use kamil_sandbox::Layer;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn programs_run_in_the_workspace_and_their_end_is_a_result() {
    let world = World::new().await;
    std::fs::write(world.file("in.csv"), "a,b\n1,2\n3,4\n").unwrap();
    let code = "import sys, csv, json, math\n\
                rows = list(csv.DictReader(open('in.csv')))\n\
                open('out.json', 'w').write(json.dumps(rows))\n\
                print(len(rows), sys.stdin.read(), math.factorial(20), sys.prefix != '')\n\
                print('oops', file=sys.stderr)\n\
                sys.exit(3)";
    let reply = world.call("code_tools.python", json!({"code": code, "stdin": "hällo"})).await.unwrap();
    assert_eq!(reply.output["stdout"], "2 hällo 2432902008176640000 True\n", "{}", reply.output);
    assert_eq!((&reply.output["exit_code"], &reply.output["stderr"]), (&json!(3), &json!("oops\n")));
    assert_eq!(reply.output["truncated"], false);
    let all: Vec<String> = Layer::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(reply.enforced, all);
    assert_eq!(reply.labels.trust, Trust::Untrusted);
    assert_eq!(reply.labels.sources, [Source::Person, Source::Tool, Source::File]);
    let read = world.output("file_ops.read", json!({"path": "out.json"})).await;
    assert!(read["text"].as_str().unwrap().contains("\"b\": \"4\""));

    let reply = world
        .call("code_tools.shell", json!({"code": "wc -l < in.csv; echo made > made.txt; kill -9 $$"}))
        .await;
    let output = reply.unwrap().output;
    assert_eq!(output["stdout"].as_str().unwrap().trim(), "3");
    assert_eq!(output["exit_code"], 137);
    assert_eq!(std::fs::read_to_string(world.file("made.txt")).unwrap(), "made\n");
    // What the confined user made can be changed by the file tools, and the other way round.
    world.output("file_ops.append", json!({"path": "made.txt", "text": "more\n"})).await;
    world.output("file_ops.write", json!({"path": "mine.txt", "text": "1"})).await;
    let output = world
        .output("code_tools.shell", json!({"code": "echo 2 >> mine.txt && cat mine.txt made.txt"}))
        .await;
    assert_eq!(output["stdout"], "12\nmade\nmore\n", "{output}");
    world.output("file_ops.delete", json!({"path": "made.txt"})).await;

    let output = world.output("code_tools.python", json!({"code": "print('x' * 300000)"})).await;
    assert_eq!((&output["truncated"], &output["exit_code"]), (&json!(true), &json!(0)));
    world.refusal("code_tools.python", json!({"code": ""}), ErrorCode::InvalidArguments).await;
    world.refusal("code_tools.python", json!({"code": "a\0b"}), ErrorCode::InvalidArguments).await;
    let long = "#".repeat(100 * 1024 + 1);
    world.refusal("code_tools.python", json!({"code": &long}), ErrorCode::InvalidArguments).await;
    world.output("code_tools.python", json!({"code": &long[1..]})).await;
}

#[tokio::test]
async fn there_is_no_network_inside() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let code = format!(
        "import socket\nsocket.create_connection(('127.0.0.1', {}), timeout=5).send(b'x')\nprint('through')",
        listener.local_addr().unwrap().port()
    );
    let outside = Command::new("python3").args(["-c", &code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&outside.stdout).trim(), "through");
    let (_, _) = listener.accept().unwrap();

    let inside = world.output("code_tools.python", json!({"code": code})).await;
    assert_ne!(inside["exit_code"], 0);
    assert_eq!(inside["stdout"], "");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_seen_or_changed() {
    let world = World::new().await;
    let secret = world.outside().join("secret.txt");
    std::fs::write(&secret, "canary").unwrap();
    let code = format!("cat {0}; cat ../../secret.txt; echo changed > {0}.new", secret.display());
    let outside = Command::new("sh").args(["-c", &code]).current_dir(world.workspace()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "canarycanary");
    let new = world.outside().join("secret.txt.new");
    assert!(new.exists());
    std::fs::remove_file(&new).unwrap();

    let inside = world.output("code_tools.shell", json!({"code": code})).await;
    assert!(!inside["stdout"].as_str().unwrap().contains("canary"), "{inside}");
    assert!(!new.exists());
    let inside =
        world.output("code_tools.shell", json!({"code": "ls /proc | grep -c '^[0-9]'; id -u; env"})).await;
    let stdout = inside["stdout"].as_str().unwrap();
    assert!(stdout.lines().next().unwrap().parse::<u32>().unwrap() < 10, "{stdout}");
    assert!(!stdout.contains("CARGO"), "{stdout}");
}
