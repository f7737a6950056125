//! What the documents say is so.

use kamil_protocol::ErrorCode;

use crate::binary::{Kamil, project};

#[test]
fn every_error_code_is_explained() {
    let text = std::fs::read_to_string(project().join("docs/errors.md")).unwrap();
    for code in ErrorCode::ALL {
        let row = format!("| `{code}` | {} |", code.status());
        assert!(text.contains(&row), "docs/errors.md lacks the row {row}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, ErrorCode::ALL.len(), "docs/errors.md explains a code that does not exist");
}

#[test]
fn every_command_in_the_readme_exists() {
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    let kamil = Kamil::new();
    let mut seen = 0;
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        let Some(rest) = line.strip_prefix("kamil ").or_else(|| line.strip_prefix("./scripts/start ")) else {
            continue;
        };
        if !in_block {
            continue;
        }
        seen += 1;
        let words: Vec<&str> = rest
            .split_whitespace()
            .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            .collect();
        let mut arguments: Vec<&str> = words.iter().copied().take(2).collect();
        arguments.push("--help");
        let mut help = kamil.run(&arguments);
        // The second word may be an argument rather than a command of a command.
        if help.code != Some(0) {
            help = kamil.run(&[words[0], "--help"]);
        }
        assert_eq!(help.code, Some(0), "README: `{line}`: {help:?}");
        assert!(help.stdout.contains("Usage: kamil"), "README: `{line}`: {help:?}");
    }
    assert!(seen >= 5, "the README shows only {seen} commands");
}
