//! Conversations: lines typed into `kamil distributed`, answers, and what is kept between them.

use std::process::{Child, Command, Stdio};

use crate::{
    binary::Kamil,
    cluster::Cluster,
    scripted_llm::{Prompt, ScriptedLlm},
};

/// `kamil ask` as a process of its own, for tests that do something meanwhile.
pub(crate) fn spawn_ask(orchestrator: &str, request: &str) -> Child {
    let home = tempfile::tempdir().unwrap().keep();
    Command::new(env!("CARGO_BIN_EXE_kamil"))
        .args(["ask", request, "--orchestrator", orchestrator])
        .env("KAMIL_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn echo(prompt: &Prompt) -> String {
    if prompt.is_plan() { "answer".to_owned() } else { format!("You said: {}", prompt.question()) }
}

#[test]
fn a_conversation_knows_its_earlier_turns() {
    let cluster = Cluster::start(echo);
    let client = Kamil::new();
    let lines = "My cat is called Miso\nWhat is my cat called?\n/nodes\n/trace\n/help\n/nonsense\n/quit\n";
    let talk = client.run_with_input(&["distributed", cluster.orchestrator.address()], lines).succeeded();
    assert!(talk.stdout.contains("You said: My cat is called Miso"), "{talk:#?}\n{}", cluster.logs());
    let last = cluster.llm.asked().pop().unwrap();
    assert!(last.text().contains("Miso"), "the second turn does not know the first: {}", last.text());
    assert!(talk.stdout.contains("scripted"), "/nodes shows nothing: {talk:#?}");
    assert!(talk.stdout.contains("moves"), "/trace shows nothing: {talk:#?}");
    assert!(talk.stderr.contains("Ctrl-C stops the task"), "{talk:#?}");
    assert!(talk.stderr.contains("`/nonsense` is not a command"), "{talk:#?}");
    let tasks = cluster.run(&["tasks", "--json"]).succeeded().json();
    assert_eq!(tasks[0]["session"], tasks[1]["session"]);
    assert!(tasks[0]["session"].is_string());
}

#[test]
fn what_is_typed_at_a_terminal_can_be_recalled() {
    let cluster = Cluster::start(echo);
    let client = Kamil::new();
    // The prompt, then the answer and the prompt after it.
    let dialogue = [("› ", "hello there\r"), ("You said", ""), ("› ", "/quit\r")];
    let talk = client.run_on_a_terminal(&["distributed", cluster.orchestrator.address()], &dialogue);
    assert!(talk.stdout.contains("You said: hello there"), "{talk:#?}");
    let history = std::fs::read_to_string(client.path("history")).unwrap();
    assert!(history.contains("hello there"), "{history}");
}

#[test]
fn a_conversation_in_one_process() {
    let llm = ScriptedLlm::start(echo);
    let kamil = Kamil::new()
        .with_environment("KAMIL_ENGINE_URL", llm.url())
        .with_settings("[orchestrator]\nport = 0\n");
    let talk = kamil.run_with_input(&[], "hello there\n").succeeded();
    assert!(talk.stdout.contains("You said:"), "{talk:#?}");
    // The log is in its file, not on the screen.
    assert!(!talk.stderr.contains("INFO"), "{talk:#?}");
    assert!(std::fs::read_dir(kamil.path("logs")).unwrap().count() >= 1);
}
