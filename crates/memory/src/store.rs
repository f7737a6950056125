//! The store: one SQLite file, one thread that writes, readers beside it, all embeddings in memory.

pub(crate) mod rows;
mod schema;
pub(crate) mod search;
mod writer;

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kamil_protocol::{
    MemoryId,
    memory::{Memory, MemoryKind, MemoryStats, NewMemory, RememberReply},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use self::writer::{Change, Writer};
use crate::matrix::Matrix;

/// Idle connections that are kept for readers.
const IDLE_READERS: usize = 4;
/// How long a node that is just shutting down may still hold the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("The memory store {} cannot be opened: {reason}. Check the file's owner and mode, or set KAMIL_HOME to another folder.", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it.
    #[error("The memory store {} is in use by another memory node. Stop that one, or set KAMIL_HOME to another folder.", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Kamil wrote it.
    #[error(
        "The memory store is of version {found}, and this Kamil knows versions up to {known}. Use a newer Kamil."
    )]
    Newer {
        /// Version of the file.
        found: i64,
        /// Newest version that is known.
        known: i64,
    },
    /// SQLite failed.
    #[error("The memory store could not {operation}: {source}.")]
    Sqlite {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A write could not be made durable.
    #[error("The memory store could not write: {reason}.")]
    Commit {
        /// Why.
        reason: String,
    },
    /// The disk is full.
    #[error("The disk of the memory store is full.")]
    Full,
    /// No memory has this id.
    #[error("There is no memory {0}.")]
    Unknown(MemoryId),
    /// Facts are not edited.
    #[error("Memory {0} is a fact; its text alone cannot be changed.")]
    FactNotEdited(MemoryId),
    /// The store was closed.
    #[error("The memory store is closed.")]
    Stopped,
}

impl StoreError {
    fn sqlite(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite { operation, source },
        }
    }
}

/// A memory that has no embedding yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unembedded {
    seq: i64,
    kind: MemoryKind,
    revision: i64,
    /// What is to be embedded.
    pub text: String,
}

/// The store, cheap to clone. Writes are durable when they are answered; those that arrive together share a flush.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
    matrix: Arc<RwLock<Matrix>>,
    /// Locked for as long as the store is open.
    _lock: File,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and reads its embeddings. Blocks.
    ///
    /// # Errors
    /// If the file cannot be opened, another process has it, or a newer Kamil wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        let lock_path = path.with_added_extension("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed(error.to_string()))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
            }
        }
        let opened = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            schema::configure(&connection)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            connection.execute_batch("PRAGMA synchronous = FULL;")?;
            Ok(connection)
        };
        let mut connection = opened().map_err(|error| failed(error.to_string()))?;
        schema::migrate(&mut connection)?;
        let matrix = read_matrix(&connection).map_err(StoreError::sqlite("read its embeddings"))?;
        let matrix = Arc::new(RwLock::new(matrix));
        let writer = Writer::start(connection, Arc::clone(&matrix), path.to_owned())?;
        let inner =
            Inner { path: path.to_owned(), writer, readers: Mutex::new(Vec::new()), matrix, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps all of the memories or, with an error, none. One whose id is there already, or was forgotten, is left as it is.
    /// The memories must be valid (see [`crate::validation`]).
    ///
    /// # Errors
    /// If they cannot be written.
    pub async fn remember(
        &self,
        memories: Vec<NewMemory>,
        now: Timestamp,
    ) -> Result<RememberReply, StoreError> {
        let work = move |connection: &Connection, _: &mut Vec<Change>| {
            let mut reply = RememberReply { stored: Vec::new(), known: Vec::new() };
            for memory in &memories {
                let id = memory.id;
                let written = is_known(connection, id).and_then(|known| {
                    if !known {
                        rows::insert(connection, memory, now)?;
                    }
                    Ok(known)
                });
                let list = match written.map_err(StoreError::sqlite("keep a memory"))? {
                    true => &mut reply.known,
                    false => &mut reply.stored,
                };
                list.push(id);
            }
            Ok(reply)
        };
        self.inner.writer.write(work).await
    }

    /// Replaces the text of a memory.
    ///
    /// # Errors
    /// If there is no such memory, it is a fact, or the change cannot be written.
    pub async fn edit(&self, id: MemoryId, text: String) -> Result<Memory, StoreError> {
        let work = move |connection: &Connection, changes: &mut Vec<Change>| {
            let edited = (|| {
                let Some((seq, memory)) = find(connection, id)? else { return Ok(None) };
                if memory.kind != MemoryKind::Structured {
                    rows::replace_text(connection, seq, &memory, &text)?;
                    changes.extend([Change::Remove { seq }, Change::Scrub]);
                }
                rows::load(connection, seq)
            })();
            match edited.map_err(StoreError::sqlite("change a memory"))? {
                None => Err(StoreError::Unknown(id)),
                Some(memory) if memory.kind == MemoryKind::Structured => Err(StoreError::FactNotEdited(id)),
                Some(memory) => Ok(memory),
            }
        };
        self.inner.writer.write(work).await
    }

    /// Deletes a memory: its text, its words in the index, its embedding, and every copy of them in the file and its log.
    ///
    /// # Errors
    /// If there is no such memory, or the deletion cannot be written.
    pub async fn forget(&self, id: MemoryId) -> Result<(), StoreError> {
        let work = move |connection: &Connection, changes: &mut Vec<Change>| {
            let found = find(connection, id).map_err(StoreError::sqlite("find a memory"))?;
            let (seq, memory) = found.ok_or(StoreError::Unknown(id))?;
            rows::delete(connection, seq, &memory).map_err(StoreError::sqlite("forget a memory"))?;
            changes.extend([Change::Remove { seq }, Change::Scrub]);
            Ok(())
        };
        self.inner.writer.write(work).await
    }

    /// Keeps embeddings. One whose memory was changed or forgotten since is left out.
    ///
    /// # Errors
    /// If they cannot be written.
    pub async fn embed(
        &self,
        model: String,
        embeddings: Vec<(Unembedded, Vec<f32>)>,
    ) -> Result<(), StoreError> {
        let work = move |connection: &Connection, changes: &mut Vec<Change>| {
            for (memory, vector) in embeddings {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                let written = connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO embedding (seq, model, vector)
                         SELECT seq, ?3, ?4 FROM entry WHERE seq = ?1 AND revision = ?2",
                    )
                    .and_then(|mut sql| sql.execute(params![memory.seq, memory.revision, model, bytes]))
                    .map_err(StoreError::sqlite("keep an embedding"))?;
                if written > 0 {
                    changes.push(Change::Put { seq: memory.seq, kind: memory.kind, vector });
                }
            }
            Ok(())
        };
        self.inner.writer.write(work).await
    }

    /// Memories that have no embedding of this model, newest first. Turns of conversations are never embedded: they are
    /// returned whole, in order.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn unembedded(&self, model: String, limit: u32) -> Result<Vec<Unembedded>, StoreError> {
        self.read("find memories without embedding", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT entry.seq, entry.kind, entry.revision FROM entry LEFT JOIN embedding USING (seq)
                 WHERE entry.kind IN (1, 2, 3) AND embedding.model IS NOT ?1
                 ORDER BY entry.seq DESC LIMIT ?2",
            )?;
            let found = statement
                .query_map(params![model, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<(i64, i64, i64)>>>()?;
            let mut memories = Vec::with_capacity(found.len());
            for (seq, kind, revision) in found {
                let kind = rows::kind_of(kind)?;
                let sql = format!("SELECT text FROM {} WHERE seq = ?1", rows::table(kind));
                let text = connection.prepare_cached(&sql)?.query_row([seq], |row| row.get(0))?;
                memories.push(Unembedded { seq, kind, revision, text });
            }
            Ok(memories)
        })
        .await
    }

    /// How many memories [`Self::unembedded`] would find.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn count_unembedded(&self, model: String) -> Result<usize, StoreError> {
        self.read("count memories without embedding", move |connection| {
            connection
                .prepare_cached(
                    "SELECT count(*) FROM entry LEFT JOIN embedding USING (seq)
                     WHERE entry.kind IN (1, 2, 3) AND embedding.model IS NOT ?1",
                )?
                .query_row([model], |row| row.get::<_, i64>(0))
                .map(|count| usize::try_from(count).unwrap_or(0))
        })
        .await
    }

    /// The memory with this id.
    ///
    /// # Errors
    /// If there is none, or the file cannot be read.
    pub async fn get(&self, id: MemoryId) -> Result<Memory, StoreError> {
        let found = self.read("read a memory", move |connection| find(connection, id)).await?;
        found.map(|(_, memory)| memory).ok_or(StoreError::Unknown(id))
    }

    /// Memories in the order of writing, newest first, from below the row number `before`; and where the next page begins.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn list(
        &self,
        kind: Option<MemoryKind>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<Memory>, Option<i64>), StoreError> {
        self.read("list memories", move |connection| {
            let before = before.unwrap_or(i64::MAX);
            let asked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let sql = match kind {
                Some(_) => "SELECT seq FROM entry WHERE kind = ?3 AND seq < ?1 ORDER BY seq DESC LIMIT ?2",
                None => "SELECT seq FROM entry WHERE ?3 IS NULL AND seq < ?1 ORDER BY seq DESC LIMIT ?2",
            };
            let mut statement = connection.prepare_cached(sql)?;
            let mut seqs = statement
                .query_map(params![before, asked, kind.map(rows::kind_number)], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            let more = seqs.len() > limit;
            seqs.truncate(limit);
            let mut memories = Vec::with_capacity(seqs.len());
            for seq in &seqs {
                memories.extend(rows::load(connection, *seq)?);
            }
            Ok((memories, seqs.last().copied().filter(|_| more)))
        })
        .await
    }

    /// What is held.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn stats(&self) -> Result<MemoryStats, StoreError> {
        let by_kind = self
            .read("count memories", |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT kind, count(*) FROM entry GROUP BY kind")?;
                let mut counts: BTreeMap<String, u64> =
                    rows::KINDS.iter().map(|kind| (rows::table(*kind).to_owned(), 0)).collect();
                let found = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
                for row in found {
                    let (kind, count) = row?;
                    let name = rows::table(rows::kind_of(kind)?).to_owned();
                    counts.insert(name, u64::try_from(count).unwrap_or(0));
                }
                Ok(counts)
            })
            .await?;
        let mut log = self.inner.path.clone().into_os_string();
        log.push("-wal");
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let total = by_kind.values().sum();
        let embedded = u64::try_from(self.vectors().len()).unwrap_or(u64::MAX);
        Ok(MemoryStats {
            by_kind,
            total,
            embedded,
            embedder: None,
            bytes: size(&self.inner.path) + size(Path::new(&log)),
        })
    }

    pub(crate) fn vectors(&self) -> RwLockReadGuard<'_, Matrix> {
        self.inner.matrix.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads on a thread that may block, all queries from the same state of the file.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let store = self.clone();
        let reading = tokio::task::spawn_blocking(move || store.read_now(work));
        reading.await.map_err(|_| StoreError::Stopped)?.map_err(StoreError::sqlite(operation))
    }

    fn read_now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.inner.path, flags)?;
                schema::configure(&connection)?;
                connection
            }
        };
        let transaction = connection.unchecked_transaction()?;
        let result = work(&transaction)?;
        drop(transaction);
        let mut readers = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        Ok(result)
    }
}

fn find(connection: &Connection, id: MemoryId) -> rusqlite::Result<Option<(i64, Memory)>> {
    match rows::find(connection, id)? {
        Some((seq, _)) => Ok(rows::load(connection, seq)?.map(|memory| (seq, memory))),
        None => Ok(None),
    }
}

fn is_known(connection: &Connection, id: MemoryId) -> rusqlite::Result<bool> {
    if rows::find(connection, id)?.is_some() {
        return Ok(true);
    }
    let forgotten = connection
        .prepare_cached("SELECT 1 FROM forgotten WHERE id = ?1")?
        .query_row([rows::id_bytes(id)], |_| Ok(()))
        .optional()?;
    Ok(forgotten.is_some())
}

fn read_matrix(connection: &Connection) -> rusqlite::Result<Matrix> {
    let mut matrix = Matrix::default();
    // Vectors of another model than the newest are of no use beside it; they are made anew.
    let model: Option<String> = connection
        .query_row("SELECT model FROM embedding ORDER BY seq DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    let Some(model) = model else { return Ok(matrix) };
    let mut statement = connection.prepare(
        "SELECT entry.seq, entry.kind, embedding.vector FROM embedding JOIN entry USING (seq)
         WHERE embedding.model = ?1 ORDER BY entry.seq",
    )?;
    let mut found = statement.query([model])?;
    while let Some(row) = found.next()? {
        let bytes = row.get_ref(2)?.as_blob()?;
        let vector: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        matrix.put(row.get(0)?, rows::kind_of(row.get(1)?)?, &vector);
    }
    Ok(matrix)
}
