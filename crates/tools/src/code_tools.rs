//! `code_tools.*`: programs that a model or a person writes, run confined.

use std::sync::Arc;

use kamil_protocol::{
    task::{Source, Trust},
    tool::SideEffect,
};
use kamil_sandbox::{Command, Program, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    confinement::{self, Confinement},
    excerpt,
    failure::Failure,
    tool::{About, Call, Product, Tool},
};

/// What is kept of each of the two outputs, in bytes of JSON.
const OUTPUT_JSON_BYTES: usize = 28 * 1024;
const TIMEOUT_MS: u64 = 60_000;
/// Longest program, in bytes: Linux takes at most 128 KiB as one argument of a command. Not in the schema, since bounds of
/// this size burden grammars that models decode under.
const MAX_CODE_BYTES: usize = 100 * 1024;
/// Every tool that this family may have, whatever this machine has installed.
pub(crate) const NAMES: [&str; 2] = ["code_tools.python", "code_tools.shell"];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CodeArguments {
    #[schemars(length(min = 1))]
    code: String,
    /// Text on standard input.
    #[serde(default)]
    stdin: String,
}

#[derive(Serialize, JsonSchema)]
struct CodeResult {
    /// 0 means success; 128 and more: ended by a signal.
    exit_code: i32,
    stdout: String,
    stderr: String,
    truncated: bool,
}

/// The tools whose interpreters this machine has.
pub(crate) fn tools(confinement: &Arc<Confinement>) -> Result<Vec<Tool>, Failure> {
    let mut tools = Vec::new();
    match kamil_sandbox::find_program("python3") {
        Some(python) => tools.push(python_tool(confinement, python)?),
        None => tracing::warn!("python3 is not installed here, so that code_tools.python is not offered"),
    }
    match kamil_sandbox::find_program("bash").or_else(|| kamil_sandbox::find_program("sh")) {
        Some(shell) => tools.push(shell_tool(confinement, shell)?),
        None => tracing::warn!("no shell is installed here, so that code_tools.shell is not offered"),
    }
    Ok(tools)
}

fn python_tool(confinement: &Arc<Confinement>, python: Program) -> Result<Tool, Failure> {
    let about = About {
        name: "code_tools.python",
        description: "Run Python code and return what it prints. It sees the workspace's files, no network. Use print().",
        side_effect: SideEffect::Write,
        idempotent: false,
        timeout_ms: TIMEOUT_MS,
        examples: vec![
            (
                "Compute the first 10 Fibonacci numbers with Python",
                json!({"code": "a, b = 0, 1\nfor _ in range(10):\n    print(a)\n    a, b = b, a + b"}),
            ),
            (
                "How many rows does sales.csv have?",
                json!({"code": "import csv\nprint(sum(1 for _ in csv.DictReader(open('sales.csv'))))"}),
            ),
        ],
    };
    // -I: nothing of the workspace is imported in place of Python's own modules; -B: no caches left behind.
    interpreter(about, confinement, python, &["-I", "-B", "-X", "utf8", "-c"])
}

fn shell_tool(confinement: &Arc<Confinement>, shell: Program) -> Result<Tool, Failure> {
    let about = About {
        name: "code_tools.shell",
        description: "Run a shell script and return what it prints. It sees the workspace's files, no network.",
        side_effect: SideEffect::Write,
        idempotent: false,
        timeout_ms: TIMEOUT_MS,
        examples: vec![
            ("Count the lines of all text files", json!({"code": "wc -l *.txt"})),
            ("Pack the folder data into a tar archive", json!({"code": "tar czf data.tar.gz data"})),
        ],
    };
    interpreter(about, confinement, shell, &["-c"])
}

fn interpreter(
    about: About,
    confinement: &Arc<Confinement>,
    program: Program,
    options: &'static [&'static str],
) -> Result<Tool, Failure> {
    let confinement = Arc::clone(confinement);
    let shown = program.path.to_string_lossy().into_owned();
    let run = move |arguments: CodeArguments, call: &Call| {
        if arguments.code.contains('\0') {
            return Err(Failure::argument("code", "it holds a NUL character"));
        }
        if arguments.code.len() > MAX_CODE_BYTES {
            return Err(Failure::argument("code", format!("it is longer than {MAX_CODE_BYTES} bytes")));
        }
        let mut command = Command::new(
            &program.path,
            options.iter().copied().chain(std::iter::once(arguments.code.as_str())),
        );
        command.stdin = arguments.stdin.into_bytes();
        let outcome = confinement.run(&command, &program.read_only_binds, call)?;
        let (stdout, stdout_cut) = text(&outcome.stdout);
        let (mut stderr, stderr_cut) = text(&outcome.stderr);
        let exit_code = match outcome.status {
            Status::Exited(code) => code,
            Status::Signalled(signal) => {
                stderr.push_str(&format!(
                    "\n[ended by signal {signal}: {}]",
                    confinement::signal_meaning(signal)
                ));
                128 + signal
            }
            // The confinement turns all other ends into failures.
            _ => {
                return Err(Failure::Internal(
                    "a stopped program was taken for one that has ended".to_owned(),
                ));
            }
        };
        let truncated = stdout_cut || stderr_cut || outcome.stdout_truncated || outcome.stderr_truncated;
        Ok(Product {
            output: CodeResult { exit_code, stdout, stderr, truncated },
            // The program may have printed any file of the workspace.
            sources: &[Source::Tool, Source::File],
            trust: Trust::Untrusted,
            enforced: confinement::layers(&outcome),
        })
    };
    Ok(Tool::new(about, run)?.with_command(move |arguments| {
        let code = arguments.get("code").and_then(Value::as_str).unwrap_or_default();
        std::iter::once(shown.as_str())
            .chain(options.iter().copied())
            .chain([code])
            .map(str::to_owned)
            .collect()
    }))
}

fn text(bytes: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let (kept, cut) = excerpt::fit(&text, OUTPUT_JSON_BYTES);
    (kept.to_owned(), cut)
}
