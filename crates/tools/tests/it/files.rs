//! `file_ops`: the workspace, and nothing but the workspace.

use std::os::unix::fs::symlink;

use kamil_protocol::{
    ErrorCode,
    task::{Source, Trust},
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn a_file_lives_from_writing_to_restoring() {
    let world = World::new().await;
    let written = world.output("file_ops.write", json!({"path": "a/b.txt", "text": "one\n"})).await;
    assert_eq!(written, json!({"path": "a/b.txt", "bytes": 4, "created": true}));
    let appended = world.output("file_ops.append", json!({"path": "a/b.txt", "text": "zwö\n"})).await;
    assert_eq!(appended, json!({"path": "a/b.txt", "bytes": 9, "created": false}));
    let reply = world.call("file_ops.read", json!({"path": "/workspace/a/b.txt"})).await.unwrap();
    assert_eq!(reply.output["text"], "one\nzwö\n");
    assert_eq!(reply.labels.trust, Trust::Untrusted);
    assert_eq!(reply.labels.sources, [Source::Person, Source::Tool, Source::File]);
    assert_eq!(reply.policy, "default: reading is allowed");
    assert!(!reply.repeated && reply.enforced.is_empty());

    let listed = world.output("file_ops.list", json!({"recursive": true})).await;
    assert_eq!(
        listed["entries"],
        json!([{"path": "a", "kind": "folder", "bytes": listed["entries"][0]["bytes"]},
               {"path": "a/b.txt", "kind": "file", "bytes": 9}])
    );
    let found = world.output("file_ops.search", json!({"query": "ZWÖ"})).await;
    assert_eq!(found["matches"], json!([{"path": "a/b.txt", "line": 2, "text": "zwö"}]));
    let found = world.output("file_ops.search", json!({"query": "one", "path": "a/b.txt"})).await;
    assert_eq!(found["matches"].as_array().unwrap().len(), 1);

    world.output("file_ops.write", json!({"path": "c.txt", "text": "c"})).await;
    world.refusal("file_ops.move", json!({"from": "a/b.txt", "to": "c.txt"}), ErrorCode::ToolFailed).await;
    world.output("file_ops.move", json!({"from": "a/b.txt", "to": "d/e.txt"})).await;
    let deleted = world.output("file_ops.delete", json!({"path": "d"})).await;
    assert!(!world.file("d").exists());
    let listed = world.output("file_ops.list", json!({})).await;
    assert!(!listed.to_string().contains("trash"), "{listed}");
    let trash = format!("{}/e.txt", deleted["trash"].as_str().unwrap());
    world.output("file_ops.move", json!({"from": trash, "to": "back.txt"})).await;
    assert_eq!(std::fs::read_to_string(world.file("back.txt")).unwrap(), "one\nzwö\n");

    let refusal = json!({"path": "back.txt", "text": "", "overwrite": false});
    world.refusal("file_ops.write", refusal, ErrorCode::ToolFailed).await;
    let problem = world.refusal("file_ops.read", json!({"path": "gone.txt"}), ErrorCode::ToolFailed).await;
    assert!(problem.to_string().contains("no such file") && problem.next_step.is_some(), "{problem}");
}

#[tokio::test]
async fn nothing_outside_is_read_or_written() {
    let world = World::new().await;
    let secret = world.outside().join("secret.txt");
    std::fs::write(&secret, "canary").unwrap();
    symlink(&secret, world.file("link")).unwrap();
    symlink(world.outside(), world.file("up")).unwrap();
    symlink("../..", world.file("dots")).unwrap();
    std::fs::hard_link(&secret, world.file("hard")).unwrap();
    let sibling = world.home().join("workspace-evil");
    std::fs::create_dir(&sibling).unwrap();
    // Without the confined lookup each of them does lead to the canary.
    for way in ["link", "up/secret.txt", "dots/secret.txt", "hard", "../../secret.txt"] {
        assert_eq!(std::fs::read_to_string(world.file(way)).unwrap(), "canary", "{way}");
    }
    let absolute = secret.to_str().unwrap();
    for way in [
        "link",
        "up/secret.txt",
        "dots/secret.txt",
        "hard",
        "../../secret.txt",
        absolute,
        "%2e%2e/secret.txt",
    ] {
        for (tool, arguments) in
            [("file_ops.read", json!({"path": way})), ("file_ops.append", json!({"path": way, "text": "x"}))]
        {
            match world.call(tool, arguments).await {
                Err(_) => {}
                // A name with percent signs is a name like any other.
                Ok(reply) => assert!(way.starts_with('%') && tool == "file_ops.append", "{way}: {reply:?}"),
            }
        }
    }
    for way in ["up/new.txt", "dots/new.txt", "../new.txt", "../workspace-evil/new.txt", "up/made/new.txt"] {
        assert!(world.call("file_ops.write", json!({"path": way, "text": "x"})).await.is_err(), "{way}");
        let moved = world.call("file_ops.move", json!({"from": "link", "to": way})).await;
        assert!(moved.is_err(), "{way}");
    }
    for way in ["up", "dots", "..", "/"] {
        let listed = world.call("file_ops.list", json!({"path": way})).await;
        assert!(listed.is_err(), "{way}: {listed:?}");
    }
    assert!(world.call("file_ops.delete", json!({"path": "up/secret.txt"})).await.is_err());
    let found = world.output("file_ops.search", json!({"query": "canary"})).await;
    assert_eq!(found["matches"], json!([]));

    // What replaces a link replaces the link, not what it names.
    world.output("file_ops.write", json!({"path": "link", "text": "mine"})).await;
    world.output("file_ops.write", json!({"path": "hard", "text": "mine"})).await;
    world.output("file_ops.delete", json!({"path": "up"})).await;
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "canary");
    assert_eq!(std::fs::read_dir(&sibling).unwrap().count(), 0);
    assert!(!world.outside().join("new.txt").exists() && !world.outside().join("made").exists());
}

#[tokio::test]
async fn pipes_sockets_and_devices_are_refused_without_waiting() {
    let world = World::new().await;
    mknodat(CWD, world.file("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.file("socket")).unwrap();
    for name in ["pipe", "socket"] {
        for tool in ["file_ops.read", "file_ops.append"] {
            let mut arguments = json!({"path": name});
            if tool == "file_ops.append" {
                arguments["text"] = Value::from("x");
            }
            let began = std::time::Instant::now();
            world.refusal(tool, arguments, ErrorCode::ToolFailed).await;
            assert!(began.elapsed() < std::time::Duration::from_secs(5));
        }
    }
    let listed = world.output("file_ops.list", json!({})).await;
    assert!(listed["entries"].as_array().unwrap().iter().all(|entry| entry["kind"] == "other"));
}

#[tokio::test]
async fn large_files_are_read_piece_by_piece_and_long_lists_are_cut() {
    let world = World::new().await;
    let text: String = (0..40_000).map(|line| format!("{line} \"ä\"\n")).collect();
    std::fs::write(world.file("large.txt"), &text).unwrap();
    let (mut whole, mut offset, mut pieces) = (String::new(), 0, 0);
    loop {
        let piece = world.output("file_ops.read", json!({"path": "large.txt", "offset": offset})).await;
        assert!(piece.to_string().len() <= kamil_protocol::MAX_OUTPUT_BYTES);
        whole.push_str(piece["text"].as_str().unwrap());
        pieces += 1;
        match piece["next_offset"].as_u64() {
            Some(next) => offset = next,
            None => break,
        }
    }
    assert!(whole == text && pieces > 5, "{pieces} pieces");
    let beyond = json!({"path": "large.txt", "offset": 10_000_000});
    world.refusal("file_ops.read", beyond, ErrorCode::InvalidArguments).await;

    for number in 0..600 {
        std::fs::write(world.file(&format!("{number:0100}")), "x").unwrap();
    }
    let listed = world.output("file_ops.list", json!({})).await;
    assert_eq!(listed["truncated"], true);
    assert!(listed["entries"].as_array().unwrap().len() <= 500);
    std::fs::write(world.file("binary"), [0u8, 159, 146, 150]).unwrap();
    let problem = world.refusal("file_ops.read", json!({"path": "binary"}), ErrorCode::ToolFailed).await;
    assert!(problem.detail.contains("not UTF-8 text"), "{problem}");
}
