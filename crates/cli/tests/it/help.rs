//! What `--help` says.

use crate::binary::Kamil;

const COMMANDS: [&str; 20] = [
    "up",
    "distributed",
    "ask",
    "orchestrator",
    "llm-node",
    "tool-node",
    "memory-node",
    "nodes",
    "tasks",
    "trace",
    "replay",
    "approve",
    "cancel",
    "memory",
    "models",
    "tools",
    "log",
    "doctor",
    "completions",
    "eval",
];

#[test]
fn the_overview() {
    let help = Kamil::new().run(&["--help"]).succeeded();
    insta::assert_snapshot!(help.stdout);
}

#[test]
fn every_command_has_examples_or_arguments() {
    let kamil = Kamil::new();
    let mut all = String::new();
    for command in COMMANDS {
        let help = kamil.run(&[command, "--help"]).succeeded();
        assert!(help.stdout.contains("Examples:"), "{command}: {}", help.stdout);
        assert!(help.stdout.contains("--json"), "{command}: {}", help.stdout);
        all.push_str(&format!("$ kamil {command} --help\n{}\n", help.stdout));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_does_not_exist_yet_is_not_listed() {
    let help = Kamil::new().run(&["--help"]).succeeded().stdout;
    for absent in ["bench", "backup", "join", "token", "openapi"] {
        assert!(!help.contains(&format!("\n  {absent} ")), "{absent}");
    }
}

#[test]
fn completions_name_the_commands() {
    let kamil = Kamil::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = kamil.run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains("llm-node"), "{shell}");
    }
}
