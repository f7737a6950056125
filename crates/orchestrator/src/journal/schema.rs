//! The journal's tables.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{Disk, JournalError};

const APPLICATION_ID: i32 = 0x4b6d_6c4a;
const VERSION: i32 = 1;
/// The write-ahead log is folded into the database after this many pages (16 MiB), which costs two more syncs.
const CHECKPOINT_PAGES: i32 = 4_096;

const TABLES: &str = "
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    task BLOB NOT NULL,
    body BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;
CREATE INDEX records_by_task ON records (task, seq);
CREATE TABLE tasks (
    id BLOB PRIMARY KEY,
    ended INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    fingerprint BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tasks_by_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_open ON tasks (id) WHERE ended = 0;
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL,
    frontier TEXT NOT NULL
) STRICT;
";

/// Beside the log, not part of it: the nodes that were there last, so that a new start can wait for them.
const FLEET: &str = "CREATE TABLE IF NOT EXISTS fleet (node BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;";

/// What decisions went by, each once, under its SHA-256; records name the digest. A journal from before these were kept gets
/// the table when it is opened.
const KEPT: &str =
    "CREATE TABLE IF NOT EXISTS tools (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/// Opens the database, and makes its tables if it is new.
pub(super) fn open(path: &Path, disk: &Disk) -> Result<Connection, JournalError> {
    let synchronous = if matches!(disk, Disk::Synced) { "FULL" } else { "OFF" };
    let damaged = |error: &rusqlite::Error| damage(path, error);
    let connection = Connection::open(path).map_err(|error| damaged(&error))?;
    let prepare = || -> rusqlite::Result<(i32, i32)> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((application, version))
    };
    match prepare().map_err(|error| damaged(&error))? {
        (APPLICATION_ID, VERSION) => {
            connection.execute_batch(FLEET).map_err(|error| damaged(&error))?;
            connection.execute_batch(KEPT).map_err(|error| damaged(&error))?;
            Ok(connection)
        }
        (0, 0) => {
            let create = format!(
                "BEGIN; {TABLES} {FLEET} {KEPT} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            );
            connection.execute_batch(&create).map_err(|error| damaged(&error))?;
            Ok(connection)
        }
        (APPLICATION_ID, version) => Err(JournalError::File {
            action: "use",
            path: path.to_owned(),
            reason: format!(
                "it has the format {version}, this program knows {VERSION}; use the newer program"
            ),
        }),
        _ => Err(JournalError::File {
            action: "use",
            path: path.to_owned(),
            reason: "it is another program's database".to_owned(),
        }),
    }
}

/// Keeps the database from growing beyond so many bytes.
pub(super) fn limit(connection: &Connection, bytes: u64) -> Result<(), JournalError> {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
    // The pragma answers with the limit that applies.
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    Ok(())
}

/// Opens the database to look at it only.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, JournalError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| damage(path, &error))
}

pub(super) fn damage(path: &Path, error: &rusqlite::Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { path: path.to_owned(), reason: error.to_string() }
        }
        _ => JournalError::File { action: "open", path: path.to_owned(), reason: error.to_string() },
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Database(error.to_string()),
        }
    }
}
