//! Who a node is.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    sync::Arc,
};

use kamil_protocol::{InstanceId, NodeId, node::Role};
use serde::{Deserialize, Serialize};

use crate::{Home, NodeError};

/// Most nodes of one role that can run on one home at once.
const MAX_NODES_PER_ROLE: usize = 64;
const MAX_NAME_CHARS: usize = 64;

/// Who a node is: an id that lasts over restarts, an id of this run, a name for people.
///
/// The id is kept in the home's `identity` folder, locked while the node runs: a second node of the same role on the same
/// home gets an id of its own.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The same over restarts.
    pub id: NodeId,
    /// New at each start.
    pub instance: InstanceId,
    /// For people; 1–64 characters.
    pub name: String,
    /// Held for as long as the node runs.
    _lock: Arc<File>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: NodeId,
}

impl NodeIdentity {
    /// The identity of a node of this role, made at its first start. Without a name it is called after the machine and
    /// the role.
    ///
    /// # Errors
    /// If the identity cannot be read or written, or 64 nodes of the role run on this home.
    pub fn load_or_create(home: &Home, role: Role, name: Option<String>) -> Result<Self, NodeError> {
        let folder = home.identity();
        for place in 1..=MAX_NODES_PER_ROLE {
            let suffix = if place == 1 { String::new() } else { format!("-{place}") };
            let path = folder.join(format!("{}{suffix}.json", role_name(role)));
            let Some((stored, lock)) = open(&path)? else { continue };
            let name = match name {
                Some(name) => name,
                None => format!("{}-{}{suffix}", machine_name(), role_name(role)),
            };
            let name = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
            return Ok(Self { id: stored.id, instance: InstanceId::generate(), name, _lock: Arc::new(lock) });
        }
        let reason = format!(
            "{MAX_NODES_PER_ROLE} nodes of this role run on this home; give the next one its own KAMIL_HOME"
        );
        Err(NodeError::Content { path: folder, reason })
    }
}

/// The role as it is written in file names and messages.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Orchestrator => "orchestrator",
        Role::Llm => "llm",
        Role::Tool => "tool",
        Role::Memory => "memory",
    }
}

pub(crate) fn machine_name() -> String {
    sysinfo::System::host_name().ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "node".to_owned())
}

/// `None` if another running node has it.
fn open(path: &Path) -> Result<Option<(Stored, File)>, NodeError> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(NodeError::file("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(NodeError::file("lock", path)(error)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(NodeError::file("read", path))?;
    // A node that lost power between creating and writing its identity has not used it yet.
    if text.trim().is_empty() {
        let stored = Stored { id: NodeId::generate() };
        let text = serde_json::json!({ "id": stored.id }).to_string();
        let write = |file: &mut File| {
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write(&mut file).map_err(NodeError::file("write", path))?;
        return Ok(Some((stored, file)));
    }
    let stored = serde_json::from_str(&text).map_err(|error| NodeError::Content {
        path: path.to_owned(),
        reason: format!("it is not a node's identity ({error}); delete it and the node gets a new id"),
    })?;
    Ok(Some((stored, file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lasts_over_restarts_and_is_never_shared() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().to_owned())).unwrap();
        let load = |role| NodeIdentity::load_or_create(&home, role, None).unwrap();
        let first = load(Role::Llm);
        let second = load(Role::Llm);
        let other = load(Role::Tool);
        assert_ne!(first.id, second.id);
        assert_ne!(first.id, other.id);
        assert!(second.name.ends_with("-llm-2"), "{}", second.name);
        let (id, instance) = (first.id, first.instance);
        drop(first);
        let again = load(Role::Llm);
        assert_eq!(again.id, id);
        assert_ne!(again.instance, instance);
    }

    #[test]
    fn a_damaged_identity_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().to_owned())).unwrap();
        fs::write(home.identity().join("memory.json"), "{").unwrap();
        let error = NodeIdentity::load_or_create(&home, Role::Memory, None).unwrap_err().to_string();
        assert!(error.contains("memory.json") && error.contains("delete it"), "{error}");
    }
}
