//! Reading and writing rows of the journal.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kamil_ledger::{Frontier, Hash, SignedNote, TaskProof, Tree};
use kamil_protocol::{
    NodeId, TaskId,
    event::{EventRecord, TaskEvent},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;
use uuid::Uuid;

use super::{Head, JournalError};
use crate::{replay::History, tool_set::ToolSet};

/// How long an orchestrator that is ending may take to let go of the journal.
const LOCK_PATIENCE: Duration = Duration::from_millis(1_500);

/// A record as it was read back.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredRecord {
    /// Its place in the journal.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What happened.
    #[serde(rename = "body")]
    pub event: TaskEvent,
    /// The task.
    pub task: TaskId,
}

/// Takes the journal for this process alone.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let lock_path: PathBuf = path.with_extension("lock");
    let failed = |action, error: &std::io::Error| JournalError::File {
        action,
        path: lock_path.clone(),
        reason: error.to_string(),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&lock_path).map_err(|error| failed("open", &error))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // One that has just been told to stop may still be writing its last records.
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &error)),
        }
    }
}

/// The nodes that were registered when the last run ended.
pub(super) fn fleet(connection: &Connection) -> Result<Vec<NodeId>, JournalError> {
    let mut select = connection.prepare_cached("SELECT node FROM fleet ORDER BY node")?;
    let ids = select.query_map([], |row| row.get(0))?;
    Ok(ids.map(|id| id.map(|bytes| NodeId::from_uuid(Uuid::from_bytes(bytes)))).collect::<Result<_, _>>()?)
}

/// Notes that a node is there, or that it is not expected any more.
pub(super) fn note_node(connection: &Connection, node: NodeId, there: bool) -> Result<(), JournalError> {
    let statement = if there {
        "INSERT OR IGNORE INTO fleet (node) VALUES (?1)"
    } else {
        "DELETE FROM fleet WHERE node = ?1"
    };
    connection.prepare_cached(statement)?.execute(params![node.as_uuid().as_bytes()])?;
    Ok(())
}

pub(super) fn insert_record(
    connection: &Connection,
    seq: u64,
    task: TaskId,
    leaf: &[u8],
    hash: &Hash,
) -> Result<(), JournalError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO records (seq, task, body, leaf_hash) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![seq.cast_signed(), task.as_uuid().as_bytes(), leaf, hash.as_bytes()])?;
    Ok(())
}

pub(super) fn insert_task(
    connection: &Connection,
    task: TaskId,
    key: Option<&str>,
    fingerprint: &[u8],
) -> Result<(), JournalError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO tasks (id, idempotency_key, fingerprint) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![task.as_uuid().as_bytes(), key, fingerprint])?;
    Ok(())
}

pub(super) fn end_task(connection: &Connection, task: TaskId) -> Result<(), JournalError> {
    let mut update = connection.prepare_cached("UPDATE tasks SET ended = 1 WHERE id = ?1")?;
    update.execute(params![task.as_uuid().as_bytes()])?;
    Ok(())
}

pub(super) fn task_of_key(
    connection: &Connection,
    key: &str,
) -> Result<Option<(TaskId, Vec<u8>)>, JournalError> {
    let mut select =
        connection.prepare_cached("SELECT id, fingerprint FROM tasks WHERE idempotency_key = ?1")?;
    let found =
        select.query_row(params![key], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?))).optional()?;
    Ok(found.map(|(id, fingerprint)| (task_id(id), fingerprint)))
}

pub(super) fn insert_checkpoint(
    connection: &Connection,
    head: &Head,
    frontier: &Frontier,
) -> Result<(), JournalError> {
    let frontier =
        serde_json::to_string(frontier).map_err(|error| JournalError::Database(error.to_string()))?;
    let mut insert = connection
        .prepare_cached("INSERT OR REPLACE INTO checkpoints (size, note, frontier) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![head.size.cast_signed(), head.note, frontier])?;
    Ok(())
}

pub(super) fn records_of(connection: &Connection, task: TaskId) -> Result<Vec<StoredRecord>, JournalError> {
    let mut select = connection.prepare_cached("SELECT body FROM records WHERE task = ?1 ORDER BY seq")?;
    let mut rows = select.query(params![task.as_uuid().as_bytes()])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let leaf = row.get_ref(0)?.as_blob().map_err(|error| JournalError::Database(error.to_string()))?;
        let record: StoredRecord = serde_json::from_slice(leaf).map_err(|error| {
            JournalError::Database(format!("a record of task {task} cannot be read: {error}"))
        })?;
        records.push(record);
    }
    Ok(records)
}

/// All that a task's decisions went by.
pub(super) fn history(connection: &Connection, task: TaskId) -> Result<History, JournalError> {
    let records = events_of(connection, task)?;
    let origin = match records.first().map(|record| &record.event) {
        Some(TaskEvent::TaskCreated { forked_from: Some(from), .. }) => events_of(connection, from.task)?,
        _ => Vec::new(),
    };
    let digests: Vec<String> =
        records.iter().filter_map(|record| record.event.tool_set()).map(str::to_owned).collect();
    let tools = tools_of(connection, &digests)?.iter().map(|set| set.body().to_owned()).collect();
    Ok(History { records, tools, origin })
}

fn events_of(connection: &Connection, task: TaskId) -> Result<Vec<EventRecord>, JournalError> {
    let records = records_of(connection, task)?.into_iter();
    let event = |record: StoredRecord| EventRecord {
        seq: record.seq,
        task: record.task,
        at: record.at,
        event: record.event,
    };
    Ok(records.map(event).collect())
}

/// Keeps tools under their digest, once.
pub(super) fn keep_tools(connection: &Connection, tools: &ToolSet) -> Result<(), JournalError> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO tools (digest, body) VALUES (?1, ?2)")?;
    insert.execute(params![tools.digest(), tools.body()])?;
    Ok(())
}

/// The sets of tools that are kept under these digests, in this order.
pub(super) fn tools_of(
    connection: &Connection,
    digests: &[String],
) -> Result<Vec<Arc<ToolSet>>, JournalError> {
    let mut select = connection.prepare_cached("SELECT body FROM tools WHERE digest = ?1")?;
    let mut sets = Vec::with_capacity(digests.len());
    for digest in digests {
        let body: Option<String> = select.query_row(params![digest], |row| row.get(0)).optional()?;
        let set = body.and_then(|body| ToolSet::read(&body));
        sets.extend(set.filter(|set| set.digest() == digest).map(Arc::new));
    }
    Ok(sets)
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<TaskId>, JournalError> {
    let mut select = connection.prepare_cached("SELECT id FROM tasks WHERE ended = 0 ORDER BY id")?;
    let ids = select.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
    Ok(ids.map(|id| id.map(task_id)).collect::<Result<_, _>>()?)
}

pub(super) fn page(
    connection: &Connection,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<TaskId>, JournalError> {
    let before = before.map_or([0xff; 16], |task| *task.as_uuid().as_bytes());
    let mut select =
        connection.prepare_cached("SELECT id FROM tasks WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids = select.query_map(params![before, limit], |row| row.get::<_, [u8; 16]>(0))?;
    Ok(ids.map(|id| id.map(task_id)).collect::<Result<_, _>>()?)
}

pub(super) fn proof(
    connection: &Connection,
    task: TaskId,
    head: &Head,
) -> Result<Option<Vec<u8>>, JournalError> {
    let failed =
        |error: &dyn std::fmt::Display| JournalError::Database(format!("the proof cannot be made: {error}"));
    let mut select =
        connection.prepare_cached("SELECT body FROM records WHERE task = ?1 AND seq < ?2 ORDER BY seq")?;
    let bodies =
        select.query_map(params![task.as_uuid().as_bytes(), head.size.cast_signed()], |row| row.get(0))?;
    let bodies: Vec<Vec<u8>> = bodies.collect::<Result<_, _>>()?;
    if bodies.is_empty() {
        return Ok(None);
    }
    let mut select =
        connection.prepare_cached("SELECT leaf_hash FROM records WHERE seq < ?1 ORDER BY seq")?;
    let leaves = select.query_map(params![head.size.cast_signed()], |row| row.get::<_, [u8; 32]>(0))?;
    let tree: Tree = leaves.map(|leaf| leaf.map(Hash::from)).collect::<Result<_, _>>()?;
    let note = SignedNote::parse(&head.note).map_err(|error| failed(&error))?;
    let proof = TaskProof::prove(&task.to_string(), &note, &tree, bodies.iter().map(Vec::as_slice))
        .map_err(|error| failed(&error))?;
    proof.to_bytes().map(Some).map_err(|error| failed(&error))
}

fn task_id(bytes: [u8; 16]) -> TaskId {
    TaskId::from_uuid(Uuid::from_bytes(bytes))
}
