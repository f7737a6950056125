//! The queries that recall is made of.

use kamil_protocol::memory::MemoryKind;
use rusqlite::{Connection, params};

use super::rows::{kind_number, table};

/// A memory that holds some of the words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Worded {
    pub(crate) seq: i64,
    /// BM25 of SQLite's FTS5, turned round: greater is better.
    pub(crate) bm25: f64,
}

/// A word as a query of FTS5: quoted, so that nothing in it is syntax.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

fn kind_mask(kinds: &[MemoryKind]) -> i64 {
    kinds.iter().fold(0, |mask, kind| mask | (1 << kind_number(*kind)))
}

/// In how many memories a word stands, counted to `most`.
pub(crate) fn frequency(connection: &Connection, word: &str, most: u32) -> rusqlite::Result<u32> {
    connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?1 LIMIT ?2)")?
        .query_row(params![quoted(word), most], |row| row.get(0))
}

/// The memories of these kinds that hold any of the words, best first.
pub(crate) fn worded(
    connection: &Connection,
    words: &[&str],
    kinds: &[MemoryKind],
    limit: usize,
) -> rusqlite::Result<Vec<Worded>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let query = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" OR ");
    let mut statement = connection.prepare_cached(
        "SELECT words.rowid, -bm25(words) FROM words JOIN entry ON entry.seq = words.rowid
         WHERE words MATCH ?1 AND (?2 >> entry.kind) & 1
         ORDER BY bm25(words), words.rowid DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![query, kind_mask(kinds), as_limit(limit)], |row| {
        Ok(Worded { seq: row.get(0)?, bm25: row.get(1)? })
    })?;
    rows.collect()
}

/// The newest memories of these kinds that tell of the time from `from` until before `to`, in microseconds.
pub(crate) fn in_time(
    connection: &Connection,
    kinds: &[MemoryKind],
    from: i64,
    to: i64,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    for kind in kinds {
        let sql = format!(
            "SELECT occurred_at, seq FROM {} WHERE occurred_at >= ?1 AND occurred_at < ?2
             ORDER BY occurred_at DESC, seq DESC LIMIT ?3",
            table(*kind)
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params![from, to, as_limit(limit)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in rows {
            found.push(row?);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found.into_iter().take(limit).map(|(_, seq)| seq).collect())
}

/// Row numbers of a conversation's turns, newest first.
pub(crate) fn turns(connection: &Connection, session: &[u8; 16], limit: usize) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM working WHERE session = ?1 ORDER BY occurred_at DESC, seq DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![session, as_limit(limit)], |row| row.get(0))?;
    rows.collect()
}

fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
