//! Finding out what there is.

use std::{collections::VecDeque, sync::Arc};

use kamil_protocol::tool::SideEffect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::here;
use crate::{
    failure::Failure,
    tool::{About, Call, Product, Tool},
    workspace::{Entry, EntryKind, TRASH, Workspace, WorkspacePath},
};

/// Entries of one answer.
const MAX_ENTRIES: usize = 500;
/// Bytes of paths of one answer; a step's output holds 64 KiB of JSON.
const MAX_PATHS_BYTES: usize = 30 * 1024;
/// Entries that one call looks at.
const MAX_VISITED: usize = 20_000;
/// Matches of one answer.
const MAX_MATCHES: usize = 100;
/// Characters kept of a line that matches.
const MAX_LINE_CHARS: usize = 200;
/// Larger files are not searched.
const MAX_SEARCHED_BYTES: u64 = 4 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    #[serde(default = "here")]
    path: String,
    /// Also what is in folders below.
    #[serde(default)]
    recursive: bool,
}

#[derive(Serialize, JsonSchema)]
struct ListedEntry {
    path: String,
    kind: EntryKind,
    bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct ListResult {
    entries: Vec<ListedEntry>,
    /// Whether there are more than are shown.
    truncated: bool,
}

pub(super) fn list(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.list",
        description: "List the files and folders of the workspace.",
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: 10_000,
        examples: vec![
            ("Which files do I have?", json!({})),
            ("Show everything in the folder data", json!({"path": "data", "recursive": true})),
        ],
    };
    Tool::new(about, move |arguments: ListArguments, call| {
        let path = WorkspacePath::parse("path", &arguments.path)?;
        let (mut entries, mut room) = (Vec::new(), MAX_PATHS_BYTES);
        let complete = walk(&workspace, &path, arguments.recursive, call, |path, entry| {
            let shown = path.to_string();
            if entries.len() == MAX_ENTRIES || shown.len() > room {
                return Ok(false);
            }
            room -= shown.len();
            entries.push(ListedEntry { path: shown, kind: entry.kind, bytes: entry.bytes });
            Ok(true)
        })?;
        Ok(Product::from_files(ListResult { entries, truncated: !complete }))
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    /// Text to look for; upper and lower case are the same.
    #[schemars(length(min = 1, max = 200))]
    query: String,
    #[serde(default = "here")]
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct Match {
    path: String,
    /// Line number from 1; 0 when the name matches.
    line: u64,
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct SearchResult {
    matches: Vec<Match>,
    files_searched: u64,
    /// Whether there may be more matches than are shown.
    truncated: bool,
}

pub(super) fn search(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.search",
        description: "Find text in the names and contents of the workspace's files.",
        side_effect: SideEffect::Read,
        idempotent: true,
        timeout_ms: 30_000,
        examples: vec![
            ("Which of my files mention the invoice?", json!({"query": "invoice"})),
            ("Search for TODO in src", json!({"query": "TODO", "path": "src"})),
        ],
    };
    Tool::new(about, move |arguments: SearchArguments, call| {
        let path = WorkspacePath::parse("path", &arguments.path)?;
        let mut found =
            Found { query: arguments.query.to_lowercase(), matches: Vec::new(), room: MAX_PATHS_BYTES };
        let mut files_searched = 0;
        if let Ok(bytes) = workspace.read(&path, MAX_SEARCHED_BYTES) {
            let complete = found.search(&path, &String::from_utf8_lossy(&bytes));
            let result = SearchResult { matches: found.matches, files_searched: 1, truncated: !complete };
            return Ok(Product::from_files(result));
        }
        let complete = walk(&workspace, &path, true, call, |path, entry| {
            if entry.name.to_lowercase().contains(&found.query) && !found.push(path, 0, &entry.name) {
                return Ok(false);
            }
            if entry.kind != EntryKind::File || entry.bytes > MAX_SEARCHED_BYTES {
                return Ok(true);
            }
            // A file that cannot be read, or is not text, has nothing to find.
            let Ok(bytes) = workspace.read(path, MAX_SEARCHED_BYTES) else { return Ok(true) };
            let Ok(text) = String::from_utf8(bytes) else { return Ok(true) };
            files_searched += 1;
            Ok(found.search(path, &text))
        })?;
        Ok(Product::from_files(SearchResult { matches: found.matches, files_searched, truncated: !complete }))
    })
}

struct Found {
    query: String,
    matches: Vec<Match>,
    room: usize,
}

impl Found {
    /// Whether there is room for more.
    fn search(&mut self, path: &WorkspacePath, text: &str) -> bool {
        for (line, number) in text.lines().zip(1..) {
            if line.to_lowercase().contains(&self.query) && !self.push(path, number, line.trim()) {
                return false;
            }
        }
        true
    }

    fn push(&mut self, path: &WorkspacePath, line: u64, text: &str) -> bool {
        let path = path.to_string();
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_LINE_CHARS).collect();
        let size = path.len() + text.len();
        if self.matches.len() == MAX_MATCHES || size > self.room {
            return false;
        }
        self.room -= size;
        self.matches.push(Match { path, line, text });
        true
    }
}

/// Visits what lies under a folder, nearest first, until `visit` has no room for more; the trash is left out unless
/// it is named. Tells whether everything was visited.
fn walk(
    workspace: &Workspace,
    start: &WorkspacePath,
    recursive: bool,
    call: &Call,
    mut visit: impl FnMut(&WorkspacePath, &Entry) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut folders = VecDeque::from([start.clone()]);
    let mut visited = 0;
    let mut complete = true;
    while let Some(folder) = folders.pop_front() {
        let (entries, more) = match workspace.entries(&folder, MAX_VISITED - visited) {
            Ok(listed) => listed,
            // Only the folder that was asked for must be there; others may vanish meanwhile.
            Err(failure) if &folder == start => return Err(failure),
            Err(_) => continue,
        };
        complete &= !more;
        visited += entries.len();
        for entry in entries {
            call.check()?;
            let path = folder.join(&entry.name);
            if start.is_root() && folder.is_root() && entry.name == TRASH {
                continue;
            }
            if !visit(&path, &entry)? {
                return Ok(false);
            }
            if recursive && entry.kind == EntryKind::Folder {
                folders.push_back(path);
            }
        }
        if visited == MAX_VISITED {
            return Ok(complete && folders.is_empty());
        }
    }
    Ok(complete)
}
