//! The durable record of what was run under which idempotency key, so that nothing runs twice silently.
//!
//! A key is recorded before its tool starts and completed when it has ended, each with one synchronous commit
//! (`synchronous=FULL`). A key that is found begun but not completed, by a node that is not running it, means that the
//! node went down in between: nobody knows what happened.

use std::{path::Path, sync::Mutex, sync::PoisonError};

use jiff::Timestamp;
use kamil_protocol::{Problem, tool::ExecuteReply};
use rusqlite::{Connection, OptionalExtension, params};

/// How long a key is remembered.
const RETENTION_MS: i64 = 30 * 24 * 3600 * 1000;
/// Old keys are looked for once in so many new ones.
const EXPIRE_EVERY: u32 = 500;

/// Result of a call, as it was or would be answered.
pub(crate) type Outcome = Result<ExecuteReply, Problem>;

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Known {
    /// Nothing.
    New,
    /// It belongs to another call.
    Mismatch,
    /// Its tool was started, in this run of the node or an earlier one, and has no outcome.
    Begun,
    /// Its tool has ended.
    Ended(Box<Outcome>),
}

/// The record.
pub(crate) struct Receipts {
    database: Mutex<Database>,
}

struct Database {
    connection: Connection,
    since_expiry: u32,
}

impl Receipts {
    /// Opens the database, making it if it is missing.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS receipts (
                key TEXT PRIMARY KEY NOT NULL,
                digest TEXT NOT NULL,
                begun_at_ms INTEGER NOT NULL,
                outcome TEXT
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX IF NOT EXISTS receipts_begun_at ON receipts (begun_at_ms);",
        )?;
        let mut database = Database { connection, since_expiry: 0 };
        database.expire()?;
        Ok(Self { database: Mutex::new(database) })
    }

    /// What is known of the key, for a call with this digest.
    pub(crate) fn look_up(&self, key: &str, digest: &str) -> rusqlite::Result<Known> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement =
            database.connection.prepare_cached("SELECT digest, outcome FROM receipts WHERE key = ?1")?;
        let row: Option<(String, Option<String>)> =
            statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(match row {
            None => Known::New,
            Some((other, _)) if other != digest => Known::Mismatch,
            Some((_, None)) => Known::Begun,
            Some((_, Some(outcome))) => Known::Ended(Box::new(parse(&outcome)?)),
        })
    }

    /// Records that the tool is about to start.
    pub(crate) fn begin(&self, key: &str, digest: &str) -> rusqlite::Result<()> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        database
            .connection
            .prepare_cached("INSERT INTO receipts (key, digest, begun_at_ms) VALUES (?1, ?2, ?3)")?
            .execute(params![key, digest, Timestamp::now().as_millisecond()])?;
        database.since_expiry += 1;
        if database.since_expiry >= EXPIRE_EVERY {
            database.expire()?;
        }
        Ok(())
    }

    /// Takes back that the tool was about to start.
    pub(crate) fn forget(&self, key: &str) -> rusqlite::Result<()> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        database.connection.prepare_cached("DELETE FROM receipts WHERE key = ?1")?.execute([key])?;
        Ok(())
    }

    /// Records how it ended.
    pub(crate) fn end(&self, key: &str, outcome: &Outcome) -> rusqlite::Result<()> {
        let text = serde_json::to_string(outcome)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        database
            .connection
            .prepare_cached("UPDATE receipts SET outcome = ?2 WHERE key = ?1")?
            .execute(params![key, text])?;
        Ok(())
    }
}

impl Database {
    fn expire(&mut self) -> rusqlite::Result<()> {
        self.since_expiry = 0;
        let limit = Timestamp::now().as_millisecond() - RETENTION_MS;
        self.connection.execute("DELETE FROM receipts WHERE begun_at_ms < ?1", [limit])?;
        Ok(())
    }
}

fn parse(text: &str) -> rusqlite::Result<Outcome> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests {
    use kamil_protocol::ErrorCode;

    use super::*;

    #[test]
    fn a_key_outlives_the_process_and_is_forgotten_after_30_days() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tools.db");
        let receipts = Receipts::open(&path).unwrap();
        assert!(matches!(receipts.look_up("k", "d").unwrap(), Known::New));
        receipts.begin("k", "d").unwrap();
        assert!(receipts.begin("k", "d").is_err(), "a key is begun once");
        assert!(matches!(receipts.look_up("k", "d").unwrap(), Known::Begun));
        assert!(matches!(receipts.look_up("k", "other").unwrap(), Known::Mismatch));
        drop(receipts);

        let receipts = Receipts::open(&path).unwrap();
        assert!(matches!(receipts.look_up("k", "d").unwrap(), Known::Begun));
        receipts.end("k", &Err(Problem::new(ErrorCode::ToolFailed, "no"))).unwrap();
        let Known::Ended(outcome) = receipts.look_up("k", "d").unwrap() else { panic!("it has ended") };
        assert_eq!(outcome.unwrap_err().detail, "no");
        let old = Timestamp::now().as_millisecond() - RETENTION_MS - 1;
        receipts
            .database
            .lock()
            .unwrap()
            .connection
            .execute("UPDATE receipts SET begun_at_ms = ?1", [old])
            .unwrap();
        drop(receipts);
        assert!(matches!(Receipts::open(&path).unwrap().look_up("k", "d").unwrap(), Known::New));
    }
}
