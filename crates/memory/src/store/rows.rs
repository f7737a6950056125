//! Memories as rows, and back.

use jiff::Timestamp;
use kamil_protocol::{
    MemoryId, SessionId, StepId, TaskId,
    label::Labels,
    memory::{Fact, Memory, MemoryKind, NewMemory, Origin, Provenance},
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use uuid::Uuid;

/// The kinds, by the number that stands for each in the file.
pub(crate) const KINDS: [MemoryKind; 4] =
    [MemoryKind::Working, MemoryKind::Semantic, MemoryKind::Episodic, MemoryKind::Structured];

pub(crate) const fn kind_number(kind: MemoryKind) -> i64 {
    match kind {
        MemoryKind::Working => 0,
        MemoryKind::Semantic => 1,
        MemoryKind::Episodic => 2,
        MemoryKind::Structured => 3,
    }
}

pub(crate) const fn table(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Working => "working",
        MemoryKind::Semantic => "semantic",
        MemoryKind::Episodic => "episodic",
        MemoryKind::Structured => "structured",
    }
}

pub(crate) fn kind_of(number: i64) -> rusqlite::Result<MemoryKind> {
    let found = usize::try_from(number).ok().and_then(|number| KINDS.get(number)).copied();
    found.ok_or_else(|| unreadable(format!("{number} is no kind of memory")))
}

const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Person => "person",
        Origin::Assistant => "assistant",
        Origin::Tool => "tool",
        Origin::Import => "import",
    }
}

fn origin_of(name: &str) -> rusqlite::Result<Origin> {
    [Origin::Person, Origin::Assistant, Origin::Tool, Origin::Import]
        .into_iter()
        .find(|origin| origin_name(*origin) == name)
        .ok_or_else(|| unreadable(format!("`{name}` is no origin")))
}

fn unreadable(reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Null, reason.into())
}

fn moment(micros: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| unreadable(error.to_string()))
}

fn uuid(bytes: &[u8]) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
}

pub(super) fn id_bytes(id: MemoryId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

/// Subjects and predicates are the same if they differ in case and white space alone.
fn key(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// What the index of words holds for a memory.
pub(super) fn indexed_text(text: &str, fact: Option<&Fact>) -> String {
    match fact {
        Some(fact) => format!("{text}\n{} {} {}", fact.subject, fact.predicate, fact.object),
        None => text.to_owned(),
    }
}

/// What a memory is found by.
pub(crate) fn searched_text(memory: &Memory) -> String {
    indexed_text(&memory.text, memory.fact.as_ref())
}

/// Writes a memory that is not there yet; returns its row number.
pub(super) fn insert(connection: &Connection, memory: &NewMemory, now: Timestamp) -> rusqlite::Result<i64> {
    let id = id_bytes(memory.id);
    connection
        .prepare_cached("INSERT INTO entry (id, kind, created_at) VALUES (?1, ?2, ?3)")?
        .execute(params![id, kind_number(memory.kind), now.as_microsecond()])?;
    let seq = connection.last_insert_rowid();
    let session = memory.session.map(|session| *session.as_uuid().as_bytes());
    let task = memory.source.task.map(|task| *task.as_uuid().as_bytes());
    let step = memory.source.step.as_ref().map(StepId::as_str);
    let origin = origin_name(memory.source.origin);
    let labels = memory.source.labels.as_ref().map(serde_json::to_string).transpose();
    let labels = labels.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let occurred_at = memory.occurred_at.as_microsecond();
    let fact = memory.fact.as_ref().filter(|_| memory.kind == MemoryKind::Structured);
    match fact {
        Some(fact) => {
            let valid_from = fact.valid_from.map(Timestamp::as_microsecond);
            let valid_to = fact.valid_to.map(Timestamp::as_microsecond);
            connection
                .prepare_cached(
                    "INSERT INTO structured (seq, session, text, origin, task, step, occurred_at, subject, predicate, object,
                         valid_from, valid_to, subject_key, predicate_key, holds_from, labels)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                )?
                .execute(params![
                    seq,
                    session,
                    memory.text,
                    origin,
                    task,
                    step,
                    occurred_at,
                    fact.subject,
                    fact.predicate,
                    fact.object,
                    valid_from,
                    valid_to,
                    key(&fact.subject),
                    key(&fact.predicate),
                    valid_from.unwrap_or(occurred_at),
                    labels,
                ])?;
        }
        None => {
            let sql = format!(
                "INSERT INTO {} (seq, session, text, origin, task, step, occurred_at, labels)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                table(memory.kind)
            );
            connection.prepare_cached(&sql)?.execute(params![
                seq,
                session,
                memory.text,
                origin,
                task,
                step,
                occurred_at,
                labels
            ])?;
        }
    }
    connection
        .prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?
        .execute(params![seq, indexed_text(&memory.text, fact)])?;
    Ok(seq)
}

/// Where a memory stands: row number and kind.
pub(super) fn find(connection: &Connection, id: MemoryId) -> rusqlite::Result<Option<(i64, MemoryKind)>> {
    connection
        .prepare_cached("SELECT seq, kind FROM entry WHERE id = ?1")?
        .query_row([id_bytes(id)], |row| Ok((row.get(0)?, kind_of(row.get(1)?)?)))
        .optional()
}

/// Reads the memory with this row number.
pub(crate) fn load(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Memory>> {
    let head = connection
        .prepare_cached("SELECT id, kind, created_at FROM entry WHERE seq = ?1")?
        .query_row([seq], |row| {
            Ok((row.get_ref(0)?.as_blob().map(<[u8]>::to_vec)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((id, kind, created_at)) = head else { return Ok(None) };
    let kind = kind_of(kind)?;
    let facts = if kind == MemoryKind::Structured {
        ", labels, subject, predicate, object, valid_from, valid_to, subject_key, predicate_key, holds_from"
    } else {
        ", labels"
    };
    let sql = format!(
        "SELECT text, session, origin, task, step, occurred_at{facts} FROM {} WHERE seq = ?1",
        table(kind)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut memory = statement.query_row([seq], |row| {
        Ok(Memory {
            id: MemoryId::from_uuid(uuid(&id)?),
            kind,
            text: row.get(0)?,
            fact: None,
            superseded_by: None,
            session: optional_uuid(row, 1)?.map(SessionId::from_uuid),
            source: Provenance {
                origin: origin_of(row.get_ref(2)?.as_str()?)?,
                task: optional_uuid(row, 3)?.map(TaskId::from_uuid),
                step: row.get::<_, Option<String>>(4)?.and_then(|step| step.parse().ok()),
                labels: labels_of(row.get(6)?)?,
            },
            occurred_at: moment(row.get(5)?)?,
            created_at: moment(created_at)?,
        })
    })?;
    if kind == MemoryKind::Structured {
        let (fact, superseded_by) = statement.query_row([seq], |row| fact_of(connection, seq, row))?;
        memory.fact = Some(fact);
        memory.superseded_by = superseded_by;
    }
    Ok(Some(memory))
}

fn labels_of(text: Option<String>) -> rusqlite::Result<Option<Labels>> {
    let parse = |text: String| serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()));
    text.map(parse).transpose()
}

fn optional_uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Uuid>> {
    match row.get_ref(column)?.as_blob_or_null()? {
        Some(bytes) => uuid(bytes).map(Some),
        None => Ok(None),
    }
}

/// The fact in a row, with the one that took its place: the next of the same subject and predicate.
fn fact_of(connection: &Connection, seq: i64, row: &Row<'_>) -> rusqlite::Result<(Fact, Option<MemoryId>)> {
    let optional_moment = |micros: Option<i64>| micros.map(moment).transpose();
    let next = connection
        .prepare_cached(
            "SELECT entry.id, structured.holds_from FROM structured JOIN entry USING (seq)
             WHERE subject_key = ?1 AND predicate_key = ?2 AND (holds_from, structured.seq) > (?3, ?4)
             ORDER BY holds_from, structured.seq LIMIT 1",
        )?
        .query_row(
            params![row.get_ref(12)?.as_str()?, row.get_ref(13)?.as_str()?, row.get::<_, i64>(14)?, seq],
            |next| Ok((uuid(next.get_ref(0)?.as_blob()?)?, next.get::<_, i64>(1)?)),
        )
        .optional()?;
    let given: Option<i64> = row.get(11)?;
    let valid_to = match (given, next) {
        (Some(given), Some((_, replaced))) => Some(given.min(replaced)),
        (given, next) => given.or(next.map(|(_, replaced)| replaced)),
    };
    let fact = Fact {
        subject: row.get(7)?,
        predicate: row.get(8)?,
        object: row.get(9)?,
        valid_from: optional_moment(row.get(10)?)?,
        valid_to: optional_moment(valid_to)?,
    };
    Ok((fact, next.map(|(id, _)| MemoryId::from_uuid(id))))
}

/// Takes a memory out of every table and index.
pub(super) fn delete(connection: &Connection, seq: i64, memory: &Memory) -> rusqlite::Result<()> {
    unindex(connection, seq, memory)?;
    // The kind's row and the embedding go by their foreign keys.
    connection.prepare_cached("DELETE FROM entry WHERE seq = ?1")?.execute([seq])?;
    connection
        .prepare_cached("INSERT OR IGNORE INTO forgotten (id) VALUES (?1)")?
        .execute([id_bytes(memory.id)])?;
    Ok(())
}

fn unindex(connection: &Connection, seq: i64, memory: &Memory) -> rusqlite::Result<()> {
    // The index holds no text of its own: it must be told the very text that it is to forget.
    connection
        .prepare_cached("INSERT INTO words (words, rowid, text) VALUES ('delete', ?1, ?2)")?
        .execute(params![seq, indexed_text(&memory.text, memory.fact.as_ref())])?;
    Ok(())
}

/// Replaces the text of a memory that is no fact; its embedding is made anew.
pub(super) fn replace_text(
    connection: &Connection,
    seq: i64,
    memory: &Memory,
    text: &str,
) -> rusqlite::Result<()> {
    unindex(connection, seq, memory)?;
    let sql = format!("UPDATE {} SET text = ?2 WHERE seq = ?1", table(memory.kind));
    connection.prepare_cached(&sql)?.execute(params![seq, text])?;
    connection
        .prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?
        .execute(params![seq, indexed_text(text, None)])?;
    connection.prepare_cached("DELETE FROM embedding WHERE seq = ?1")?.execute([seq])?;
    connection.prepare_cached("UPDATE entry SET revision = revision + 1 WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}
