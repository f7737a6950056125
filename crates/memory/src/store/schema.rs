//! Tables, and how an older file becomes a newer one.

use rusqlite::Connection;

use super::StoreError;

/// One script for each version, oldest first; `user_version` counts those that were run.
const MIGRATIONS: &[&str] = &["
    -- Every memory, of whatever kind: its row number, which is also the order of writing.
    CREATE TABLE entry (
        seq        INTEGER PRIMARY KEY AUTOINCREMENT,
        id         BLOB    NOT NULL UNIQUE,
        kind       INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        revision   INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX entry_by_kind ON entry (kind, seq);

    CREATE TABLE working (
        seq         INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
        session     BLOB    NOT NULL,
        text        TEXT    NOT NULL,
        origin      TEXT    NOT NULL,
        task        BLOB,
        step        TEXT,
        occurred_at INTEGER NOT NULL
    );
    CREATE INDEX working_by_session ON working (session, occurred_at, seq);
    CREATE INDEX working_by_time ON working (occurred_at);

    CREATE TABLE semantic (
        seq         INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
        session     BLOB,
        text        TEXT    NOT NULL,
        origin      TEXT    NOT NULL,
        task        BLOB,
        step        TEXT,
        occurred_at INTEGER NOT NULL
    );
    CREATE INDEX semantic_by_time ON semantic (occurred_at);

    CREATE TABLE episodic (
        seq         INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
        session     BLOB,
        text        TEXT    NOT NULL,
        origin      TEXT    NOT NULL,
        task        BLOB,
        step        TEXT,
        occurred_at INTEGER NOT NULL
    );
    CREATE INDEX episodic_by_time ON episodic (occurred_at);

    -- What took a fact's place is not stored but follows from the order of the facts with the same subject and predicate.
    CREATE TABLE structured (
        seq           INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
        session       BLOB,
        text          TEXT    NOT NULL,
        origin        TEXT    NOT NULL,
        task          BLOB,
        step          TEXT,
        occurred_at   INTEGER NOT NULL,
        subject       TEXT    NOT NULL,
        predicate     TEXT    NOT NULL,
        object        TEXT    NOT NULL,
        valid_from    INTEGER,
        valid_to      INTEGER,
        subject_key   TEXT    NOT NULL,
        predicate_key TEXT    NOT NULL,
        holds_from    INTEGER NOT NULL
    );
    CREATE INDEX structured_by_time ON structured (occurred_at);
    CREATE INDEX structured_by_key ON structured (subject_key, predicate_key, holds_from, seq);

    CREATE TABLE embedding (
        seq    INTEGER PRIMARY KEY REFERENCES entry ON DELETE CASCADE,
        model  TEXT NOT NULL,
        vector BLOB NOT NULL
    );

    -- Ids alone: a repeated write must not bring back what was forgotten.
    CREATE TABLE forgotten (id BLOB PRIMARY KEY) WITHOUT ROWID;

    CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = 'porter unicode61 remove_diacritics 2');
    INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
", "
    -- How far the text may be believed, as JSON; of older memories nothing is known but their origin.
    ALTER TABLE working ADD COLUMN labels TEXT;
    ALTER TABLE semantic ADD COLUMN labels TEXT;
    ALTER TABLE episodic ADD COLUMN labels TEXT;
    ALTER TABLE structured ADD COLUMN labels TEXT;
"];

/// Brings the file to this version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |source| StoreError::Sqlite { operation: "set up its tables", source };
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > known {
        return Err(StoreError::Newer { found, known: i64::try_from(known).unwrap_or(i64::MAX) });
    }
    for (index, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(script).map_err(failed)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", index + 1)).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// What every connection is set to.
pub(super) fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16000;
         PRAGMA mmap_size = 268435456;
         PRAGMA trusted_schema = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}
