//! The one thread that writes: requests that arrive together share a transaction, and so one flush to the disk.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
};

use kamil_protocol::memory::MemoryKind;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use crate::matrix::Matrix;

/// Requests that may wait for the writer.
const QUEUE: usize = 256;
/// Requests that share a transaction at most.
const BATCH: usize = 64;

/// What a write changes beside the file, once it is durable.
pub(super) enum Change {
    Put {
        seq: i64,
        kind: MemoryKind,
        vector: Vec<f32>,
    },
    Remove {
        seq: i64,
    },
    /// Content was deleted: no copy of it may stay in the write-ahead log.
    Scrub,
}

/// One request, whatever its answer's type.
trait Job: Send {
    fn run(&mut self, connection: &Connection, changes: &mut Vec<Change>) -> bool;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Write<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut Vec<Change>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection, changes: &mut Vec<Change>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = work(connection, changes);
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), Some(Ok(_)) | None) => Err(error),
            (_, Some(Err(error))) => Err(error),
            (Ok(()), None) => Err(StoreError::Stopped),
        };
        // Whoever asked may have gone; the write stands.
        let _ = self.reply.send(result);
    }
}

/// Where writes are handed in. The thread ends with the last of these.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Box<dyn Job>>);

impl Writer {
    /// Starts the thread, which takes the connection over.
    pub(super) fn start(
        connection: Connection,
        matrix: Arc<RwLock<Matrix>>,
        path: PathBuf,
    ) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("memory-writer".to_owned())
            .spawn(move || keep_writing(&connection, &matrix, receiver))
            .map_err(|source| StoreError::Open { path, reason: source.to_string() })?;
        Ok(Self(sender))
    }

    /// Does the work in a transaction; answers when it is durable. An error of the work undoes the work.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Vec<Change>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Write { work: Some(work), result: None, reply };
        self.0.send(Box::new(job)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn keep_writing(
    connection: &Connection,
    matrix: &RwLock<Matrix>,
    mut receiver: mpsc::Receiver<Box<dyn Job>>,
) {
    let mut batch: Vec<Box<dyn Job>> = Vec::with_capacity(BATCH);
    let mut scrub_due = false;
    while receiver.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut changes = Vec::new();
        let committed = run_batch(connection, &mut batch, &mut changes);
        if committed.is_ok() {
            scrub_due |= changes.iter().any(|change| matches!(change, Change::Scrub));
            apply(matrix, changes);
        }
        if scrub_due {
            scrub_due = !scrub(connection);
        }
        for job in batch.drain(..) {
            job.answer(committed.as_ref().copied().map_err(CommitFailure::as_error));
        }
    }
}

/// Why a transaction did not become durable, for each of those who wait.
#[derive(Clone, Debug)]
struct CommitFailure {
    full: bool,
    text: String,
}

impl CommitFailure {
    fn as_error(&self) -> StoreError {
        if self.full { StoreError::Full } else { StoreError::Commit { reason: self.text.clone() } }
    }
}

impl From<rusqlite::Error> for CommitFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self { full: error.sqlite_error_code() == Some(ErrorCode::DiskFull), text: error.to_string() }
    }
}

fn run_batch(
    connection: &Connection,
    batch: &mut [Box<dyn Job>],
    changes: &mut Vec<Change>,
) -> Result<(), CommitFailure> {
    let run = |changes: &mut Vec<Change>, batch: &mut [Box<dyn Job>]| -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for job in batch {
            connection.execute_batch("SAVEPOINT job")?;
            let before = changes.len();
            if !job.run(connection, changes) {
                changes.truncate(before);
                connection.execute_batch("ROLLBACK TO job")?;
            }
            connection.execute_batch("RELEASE job")?;
        }
        connection.execute_batch("COMMIT")
    };
    run(changes, batch).map_err(|error| {
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction of the memory store could not be rolled back");
        }
        error.into()
    })
}

fn apply(matrix: &RwLock<Matrix>, changes: Vec<Change>) {
    // A panic elsewhere does not make the vectors wrong.
    let mut matrix = matrix.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    for change in changes {
        match change {
            Change::Put { seq, kind, vector } => matrix.put(seq, kind, &vector),
            Change::Remove { seq } => matrix.remove(seq),
            Change::Scrub => {}
        }
    }
}

/// Writes the log back into the file, where deleted content was overwritten, and cuts the log to nothing.
fn scrub(connection: &Connection) -> bool {
    let busy: rusqlite::Result<i64> =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    match busy {
        Ok(0) => true,
        Ok(_) => {
            tracing::warn!(
                "a reader keeps deleted content in the memory store's log; trying again with the next write"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "the memory store's log could not be written back; trying again with the next write");
            false
        }
    }
}
