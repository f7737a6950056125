//! Reading and writing what is in a file.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    sync::Arc,
};

use kamil_protocol::tool::SideEffect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    excerpt,
    failure::Failure,
    tool::{About, Product, Tool},
    workspace::{Workspace, WorkspacePath},
};

/// Text returned by one call, in bytes of JSON; leaves room for the other members of a step's output.
const READ_JSON_BYTES: usize = 60 * 1024;
/// A file that appending may reach, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadArguments {
    path: String,
    /// First byte to read.
    #[serde(default)]
    offset: u64,
}

#[derive(Serialize, JsonSchema)]
struct ReadResult {
    path: String,
    text: String,
    /// Size of the whole file.
    bytes: u64,
    truncated: bool,
    /// Where to go on, when truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
}

pub(super) fn read(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.read",
        description: "Read a text file of the workspace.",
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: 10_000,
        examples: vec![
            ("What does notes.txt say?", json!({"path": "notes.txt"})),
            ("Summarize the file docs/plan.md", json!({"path": "docs/plan.md"})),
        ],
    };
    Tool::new(about, move |arguments: ReadArguments, _| {
        let path = WorkspacePath::parse("path", &arguments.path)?;
        let shown = path.to_string();
        let fault = |error: std::io::Error| Failure::io("read", &shown, &error);
        let (mut file, bytes) = workspace.open_file(&path)?;
        if arguments.offset > bytes {
            return Err(Failure::argument("offset", format!("`{shown}` has only {bytes} bytes")));
        }
        file.seek(SeekFrom::Start(arguments.offset)).map_err(fault)?;
        let mut raw = Vec::new();
        file.take(READ_JSON_BYTES as u64).read_to_end(&mut raw).map_err(fault)?;
        let (text, used) = decode(&raw, &shown)?;
        let end = arguments.offset + used as u64;
        let truncated = end < bytes;
        Ok(Product::from_files(ReadResult {
            path: shown,
            text,
            bytes,
            truncated,
            next_offset: truncated.then_some(end),
        }))
    })
}

/// The text at the beginning of `raw`, and how many bytes of it that is. Only a character that is cut off at the end
/// may be incomplete.
fn decode(raw: &[u8], path: &str) -> Result<(String, usize), Failure> {
    let valid = match std::str::from_utf8(raw) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&raw[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "\0",
    };
    if valid.contains('\0') {
        return Err(Failure::failed_next(
            format!("cannot read `{path}`: it is not UTF-8 text"),
            "Use code_tools.python for other kinds of files.",
        ));
    }
    let (kept, _) = excerpt::fit(valid, READ_JSON_BYTES);
    Ok((kept.to_owned(), kept.len()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteArguments {
    path: String,
    text: String,
    /// Replace an existing file.
    #[serde(default = "yes")]
    overwrite: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
struct WriteResult {
    path: String,
    /// Size of the file now.
    bytes: u64,
    /// Whether there was no such file before.
    created: bool,
}

pub(super) fn write(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.write",
        description: "Write a text file in the workspace, whole. Folders are made as needed.",
        side_effect: SideEffect::Write,
        idempotent: true,
        timeout_ms: 10_000,
        examples: vec![
            ("Save \"buy milk\" to todo.txt", json!({"path": "todo.txt", "text": "buy milk\n"})),
            (
                "Create a file greeting.py that prints hello",
                json!({"path": "greeting.py", "text": "print(\"hello\")\n"}),
            ),
        ],
    };
    Tool::new(about, move |arguments: WriteArguments, _| {
        let path = WorkspacePath::parse_target("path", &arguments.path)?;
        let created = workspace.write(&path, arguments.text.as_bytes(), arguments.overwrite)?;
        Ok(Product::computed(WriteResult {
            path: path.to_string(),
            bytes: arguments.text.len() as u64,
            created,
        }))
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppendArguments {
    path: String,
    text: String,
}

pub(super) fn append(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.append",
        description: "Add text at the end of a file in the workspace; makes the file if it is missing.",
        side_effect: SideEffect::Write,
        idempotent: false,
        timeout_ms: 10_000,
        examples: vec![("Add \"call Ada\" to todo.txt", json!({"path": "todo.txt", "text": "call Ada\n"}))],
    };
    Tool::new(about, move |arguments: AppendArguments, _| {
        let path = WorkspacePath::parse_target("path", &arguments.path)?;
        let created = !workspace.contains(&path);
        let (mut file, size) = workspace.open_append(&path)?;
        let bytes = size + arguments.text.len() as u64;
        if bytes > MAX_FILE_BYTES {
            return Err(Failure::failed(format!("`{path}` would grow beyond {MAX_FILE_BYTES} bytes")));
        }
        file.write_all(arguments.text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| Failure::io("append to", &path.to_string(), &error))?;
        Ok(Product::computed(WriteResult { path: path.to_string(), bytes, created }))
    })
}
