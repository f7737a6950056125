//! `file_ops.*`: files of the workspace.

mod arrangement;
mod content;
mod listing;

use std::sync::Arc;

use crate::{failure::Failure, tool::Tool, workspace::Workspace};

pub(crate) fn tools(workspace: &Arc<Workspace>) -> Result<Vec<Tool>, Failure> {
    Ok(vec![
        listing::list(workspace)?,
        listing::search(workspace)?,
        content::read(workspace)?,
        content::write(workspace)?,
        content::append(workspace)?,
        arrangement::move_to(workspace)?,
        arrangement::delete(workspace)?,
    ])
}

fn here() -> String {
    ".".to_owned()
}
