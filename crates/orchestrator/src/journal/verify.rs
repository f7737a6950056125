//! Holding the journal against its signed heads.

use std::path::Path;

use kamil_ledger::{Audit, Checkpoint, Frontier, Hash, VerifierKey, leaf_hash};
use kamil_protocol::{TaskId, log::VerifyReport};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{JournalError, schema, store};
use crate::{replay::History, tool_set::digest};

/// A journal of at most this many records is read in full at every start.
const FULL_AUDIT_RECORDS: u64 = 20_000;
/// Most findings in a report.
const MAX_FINDINGS: usize = 20;

/// Reads the whole journal in this file and holds it against every signed head in it. It works while an orchestrator runs,
/// and without one.
///
/// # Errors
/// [`JournalError`] if the file cannot be read at all; what does not fit is in the report.
pub fn verify(path: &Path, key: &VerifierKey) -> Result<VerifyReport, JournalError> {
    let connection = schema::open_read_only(path)?;
    let mut report = VerifyReport { ok: true, records: 0, checkpoints: 0, findings: Vec::new() };
    let outcome = audit(&connection, key, &mut report);
    if let Err(finding) = outcome {
        report.findings.push(finding);
    }
    if let Err(finding) = audit_tools(&connection, &mut report) {
        report.findings.push(finding);
    }
    report.ok = report.findings.is_empty();
    Ok(report)
}

/// All that a task's decisions went by, from the journal in this file; no records if there is no such task. It works while an
/// orchestrator runs, and without one.
///
/// # Errors
/// [`JournalError`] if the file or a record cannot be read.
pub fn history(path: &Path, task: TaskId) -> Result<History, JournalError> {
    store::history(&schema::open_read_only(path)?, task)
}

/// Checks the journal in this file against the key of this home.
///
/// # Errors
/// [`JournalError`] if the file or the key cannot be read at all.
pub fn verify_journal(home: &kamil_node::Home, path: &Path) -> Result<VerifyReport, JournalError> {
    verify(path, &super::verifier_key(&home.identity())?)
}

/// The frontier of the journal as it stands and its newest signed head, both checked.
pub(super) fn at_start(
    path: &Path,
    connection: &Connection,
    key: &VerifierKey,
) -> Result<(Frontier, Option<(u64, String)>), JournalError> {
    let damaged = |reason: String| JournalError::Damaged { path: path.to_owned(), reason };
    let newest = newest_checkpoint(connection).map_err(|error| damaged(error.to_string()))?;
    let Some((size, note, stored)) = newest else {
        let records = count(connection).map_err(|error| damaged(error.to_string()))?;
        if records > 0 {
            return Err(damaged(format!("it has {records} records and no signed head")));
        }
        return Ok((Frontier::new(), None));
    };
    let records = count(connection).map_err(|error| damaged(error.to_string()))?;
    if records <= FULL_AUDIT_RECORDS {
        let mut report = VerifyReport { ok: true, records: 0, checkpoints: 0, findings: Vec::new() };
        let frontier = audit(connection, key, &mut report).map_err(damaged)?;
        if let Some(finding) = report.findings.pop() {
            return Err(damaged(finding));
        }
        return Ok((frontier, Some((size, note))));
    }
    let frontier = from_newest(connection, key, (size, &note, &stored), records).map_err(damaged)?;
    Ok((frontier, Some((size, note))))
}

/// The frontier of the journal, from its newest signed head on.
fn from_newest(
    connection: &Connection,
    key: &VerifierKey,
    (size, note, stored): (u64, &str, &str),
    records: u64,
) -> Result<Frontier, String> {
    let checkpoint = Checkpoint::open(note, key).map_err(|error| error.to_string())?;
    let mut frontier: Frontier = serde_json::from_str(stored)
        .map_err(|error| format!("the stored frontier cannot be read: {error}"))?;
    if frontier.size() != checkpoint.size()
        || frontier.root() != checkpoint.root()
        || checkpoint.size() != size
    {
        return Err("the stored frontier is not that of the signed head".to_owned());
    }
    append_tail(connection, &mut frontier)?;
    if frontier.size() != records {
        return Err(format!("it has {records} records, but their numbers go up to {}", frontier.size()));
    }
    Ok(frontier)
}

fn newest_checkpoint(connection: &Connection) -> rusqlite::Result<Option<(u64, String, String)>> {
    let mut select =
        connection.prepare("SELECT size, note, frontier FROM checkpoints ORDER BY size DESC LIMIT 1")?;
    select
        .query_row([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?, row.get(2)?)))
        .optional()
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// Adds what was written after the newest head.
fn append_tail(connection: &Connection, frontier: &mut Frontier) -> Result<(), String> {
    let told = |error: rusqlite::Error| error.to_string();
    let mut select =
        connection.prepare("SELECT seq, body FROM records WHERE seq >= ?1 ORDER BY seq").map_err(told)?;
    let mut rows = select.query(params![frontier.size().cast_signed()]).map_err(told)?;
    while let Some(row) = rows.next().map_err(told)? {
        let seq = row.get::<_, i64>(0).map_err(told)?.cast_unsigned();
        if seq != frontier.size() {
            return Err(format!("record {} is missing", frontier.size()));
        }
        let body = row.get_ref(1).map_err(told)?.as_blob().map_err(|error| error.to_string())?;
        frontier.push(leaf_hash(body));
    }
    Ok(())
}

/// Tools are kept beside the records, which name them by their digest.
fn audit_tools(connection: &Connection, report: &mut VerifyReport) -> Result<(), String> {
    let told = |error: rusqlite::Error| format!("the kept tools cannot be read: {error}");
    let exists: bool = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'tools'", [], |row| row.get(0))
        .map_err(told)?;
    if !exists {
        return Ok(());
    }
    let mut select = connection.prepare("SELECT digest, body FROM tools ORDER BY digest").map_err(told)?;
    let mut rows = select.query([]).map_err(told)?;
    while let Some(row) = rows.next().map_err(told)? {
        let (name, body): (String, String) = (row.get(0).map_err(told)?, row.get(1).map_err(told)?);
        if digest(&body) != name && report.findings.len() < MAX_FINDINGS {
            report.findings.push(format!("the tools kept under {name} are not those that were registered"));
        }
    }
    Ok(())
}

fn audit(connection: &Connection, key: &VerifierKey, report: &mut VerifyReport) -> Result<Frontier, String> {
    let told = |error: rusqlite::Error| format!("the database cannot be read: {error}");
    let mut heads = Vec::new();
    let mut select = connection.prepare("SELECT size, note FROM checkpoints ORDER BY size").map_err(told)?;
    let notes = select
        .query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, String>(1)?)))
        .map_err(told)?;
    for note in notes {
        let (size, note) = note.map_err(told)?;
        report.checkpoints += 1;
        match Checkpoint::open(&note, key) {
            Ok(head) if head.size() == size => heads.push(head),
            Ok(head) => {
                return Err(format!("the head stored for size {size} is signed for size {}", head.size()));
            }
            Err(error) => return Err(format!("the head at size {size} is not good: {error}")),
        }
    }
    let mut audit = Audit::new(heads);
    let mut select =
        connection.prepare("SELECT body, leaf_hash, task, seq FROM records ORDER BY seq").map_err(told)?;
    let mut rows = select.query([]).map_err(told)?;
    while let Some(row) = rows.next().map_err(told)? {
        let body = row.get_ref(0).map_err(told)?.as_blob().map_err(|error| error.to_string())?;
        let record = audit.push(body).map_err(|error| error.to_string())?;
        report.records += 1;
        let stored: [u8; 32] = row.get(1).map_err(told)?;
        let column: [u8; 16] = row.get(2).map_err(told)?;
        if Hash::from(stored) != leaf_hash(body) && report.findings.len() < MAX_FINDINGS {
            report
                .findings
                .push(format!("the stored hash of record {} is not that of its content", record.seq));
        }
        let place = row.get::<_, i64>(3).map_err(told)?.cast_unsigned();
        if place != record.seq && report.findings.len() < MAX_FINDINGS {
            report.findings.push(format!("record {} is stored as number {place}", record.seq));
        }
        let task = uuid::Uuid::from_bytes(column).to_string();
        if record.task.as_deref() != Some(task.as_str()) && report.findings.len() < MAX_FINDINGS {
            report.findings.push(format!("record {} is filed under another task", record.seq));
        }
    }
    audit.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use kamil_protocol::{TaskId, event::TaskEvent, task::TaskStatus};

    use super::*;
    use crate::journal::{Beginning, Disk, Entry, Journal};

    /// A journal with ended tasks, and one that has not ended after the newest head.
    async fn written(folder: &Path) -> (std::path::PathBuf, VerifierKey) {
        let path = folder.join("journal.db");
        let metrics = kamil_node::Metrics::new();
        let (journal, writer) = Journal::open(&path, folder, &metrics, None, Disk::Synced).unwrap();
        let thread = std::thread::spawn(|| writer.run());
        for number in 0..9 {
            let mut events = vec![TaskEvent::Degraded { reason: format!("reason {number}") }];
            if number < 8 {
                events.push(TaskEvent::TaskCompleted {
                    status: TaskStatus::Failed,
                    answer: None,
                    error: None,
                });
            }
            let entries = events.into_iter().map(|event| Entry::new(event, None).unwrap()).collect();
            let beginning = Beginning { idempotency_key: None, fingerprint: [0; 32] };
            let at = jiff::Timestamp::UNIX_EPOCH;
            let (_, appended) = journal.append(TaskId::generate(), at, entries, Some(beginning)).await;
            appended.unwrap();
        }
        let key = journal.verifier().clone();
        drop(journal);
        thread.join().unwrap();
        (path, key)
    }

    fn quick(path: &Path, key: &VerifierKey) -> Result<Frontier, String> {
        let connection = schema::open(path, &Disk::Synced).unwrap();
        let (size, note, stored) = newest_checkpoint(&connection).unwrap().unwrap();
        from_newest(&connection, key, (size, &note, &stored), count(&connection).unwrap())
    }

    #[tokio::test]
    async fn a_large_journal_is_taken_up_from_its_newest_head() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = written(folder.path()).await;
        let connection = schema::open(&path, &Disk::Synced).unwrap();
        let mut report = VerifyReport { ok: true, records: 0, checkpoints: 0, findings: Vec::new() };
        let full = audit(&connection, &key, &mut report).unwrap();
        assert_eq!(full.size(), 17);
        assert_eq!(quick(&path, &key).unwrap(), full);
        connection.execute("UPDATE records SET seq = 20 WHERE seq = 16", []).unwrap();
        assert!(quick(&path, &key).unwrap_err().contains("16 is missing"));
        connection.execute("DELETE FROM records WHERE seq >= 15", []).unwrap();
        assert!(quick(&path, &key).is_err());
    }

    #[tokio::test]
    async fn a_stored_frontier_that_was_never_signed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = written(folder.path()).await;
        let connection = schema::open(&path, &Disk::Synced).unwrap();
        let other = serde_json::to_string(&Frontier::new()).unwrap();
        connection.execute("UPDATE checkpoints SET frontier = ?1", [other]).unwrap();
        assert!(quick(&path, &key).unwrap_err().contains("frontier"));
    }
}
