//! Moving and deleting.

use std::sync::Arc;

use kamil_protocol::tool::SideEffect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    failure::Failure,
    tool::{About, Product, Tool},
    workspace::{Workspace, WorkspacePath},
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MoveArguments {
    from: String,
    to: String,
}

#[derive(Serialize, JsonSchema)]
struct MoveResult {
    from: String,
    to: String,
}

pub(super) fn move_to(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.move",
        description: "Move or rename a file or folder of the workspace. Nothing is overwritten.",
        side_effect: SideEffect::Write,
        idempotent: false,
        timeout_ms: 10_000,
        examples: vec![
            ("Rename draft.txt to final.txt", json!({"from": "draft.txt", "to": "final.txt"})),
            (
                "Move report.md into the archive folder",
                json!({"from": "report.md", "to": "archive/report.md"}),
            ),
        ],
    };
    Tool::new(about, move |arguments: MoveArguments, _| {
        // Something may be moved out of the trash, which restores it, but not into it.
        let from = WorkspacePath::parse("from", &arguments.from)?;
        if from.is_root() || from == WorkspacePath::parse("from", crate::workspace::TRASH)? {
            return Err(Failure::argument(
                "from",
                "it names the workspace or its trash, not something in it",
            ));
        }
        let to = WorkspacePath::parse_target("to", &arguments.to)?;
        workspace.rename(&from, &to)?;
        Ok(Product::computed(MoveResult { from: from.to_string(), to: to.to_string() }))
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteArguments {
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct DeleteResult {
    path: String,
    /// Where it can be had back for 30 days.
    trash: String,
}

pub(super) fn delete(workspace: &Arc<Workspace>) -> Result<Tool, Failure> {
    let workspace = Arc::clone(workspace);
    let about = About {
        name: "file_ops.delete",
        description: "Delete a file or folder of the workspace. It stays in the trash for 30 days.",
        side_effect: SideEffect::Write,
        idempotent: false,
        timeout_ms: 10_000,
        examples: vec![("Delete old.log", json!({"path": "old.log"}))],
    };
    Tool::new(about, move |arguments: DeleteArguments, _| {
        let path = WorkspacePath::parse_target("path", &arguments.path)?;
        let trash = workspace.trash(&path)?;
        Ok(Product::computed(DeleteResult { path: path.to_string(), trash }))
    })
}
