//! Whether a plan is worth a model's time.

use super::Context;

/// Whether tools can matter for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No tool can matter: answer at once.
    Direct,
    /// A model writes a plan first.
    Plan,
}

const ACTIONS: &[&str] = &[
    "train",
    "run",
    "execute",
    "compute",
    "calculate",
    "list",
    "read",
    "write",
    "append",
    "create",
    "save",
    "delete",
    "move",
    "search",
    "find",
    "fetch",
    "evaluate",
    "file",
    "files",
    "folder",
    "csv",
    "python",
    "shell",
    "disk",
    "memory",
    "cpu",
    "process",
    "processes",
    "dataset",
    "iris",
    "workspace",
    "status",
];

/// Decides whether a model is asked for a plan.
#[must_use]
pub fn gate(ctx: &Context<'_>) -> Gate {
    if ctx.tools.is_empty() || ctx.request.direct {
        return Gate::Direct;
    }
    let input = ctx.request.input.to_lowercase();
    let mut words = input.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let named =
        |word: &str| ctx.tools.iter().any(|tool| tool.name.split(['.', '_']).any(|part| part == word));
    let digits = input.chars().filter(char::is_ascii_digit).count() > 1;
    let operator = input.contains(['+', '*', '/', '^', '%']);
    if (digits && operator) || words.any(|word| ACTIONS.contains(&word) || named(word)) {
        Gate::Plan
    } else {
        Gate::Direct
    }
}
