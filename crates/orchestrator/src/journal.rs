//! The journal: every event of every task, durable before its effect, and a leaf of the signed log from the first day.
//!
//! One thread writes. All appends that wait when it turns to them share one transaction, hence one sync to the disk (group
//! commit); each is answered only after that. A group in which a task ended also stores a signed checkpoint of the log.

mod disk;
mod key;
mod schema;
mod store;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use kamil_ledger::{Frontier, VerifierKey};
use kamil_protocol::{ErrorCode, NodeId, Problem, TaskId, event::TaskEvent};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{replay::History, tool_set::ToolSet};

pub use disk::{Disk, Fault, Faults};
pub use key::verifier_key;
pub use store::StoredRecord;
pub use verify::history;
pub use verify::{verify, verify_journal};
pub(crate) use writer::Writer;

/// Most appends that wait for the writer; what comes beyond waits to be let in.
const QUEUE: usize = 4_096;

/// Why the journal cannot be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// Another orchestrator has it open.
    #[error("{} is in use by another orchestrator. Stop that one, or set KAMIL_HOME to another folder.", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// A file of the journal cannot be used.
    #[error("Kamil cannot {action} {}: {reason}.", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// What is in it is not what was written.
    #[error("The journal {} is damaged: {reason}. Restore it from a backup, or move it away to begin a new one; `kamil log verify` lists all that is wrong.", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no room on the disk.
    #[error("There is no room on the disk for the journal")]
    Full,
    /// The database failed otherwise.
    #[error("The journal's database failed: {0}")]
    Database(String),
    /// The writer has ended.
    #[error("The journal is closed")]
    Closed,
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full => Self::new(
                ErrorCode::StorageFull,
                "There is no room on the disk for the journal, and what is not recorded is not done.",
            )
            .next("Free some space on the disk that holds KAMIL_HOME, then try again."),
            JournalError::Closed => {
                Self::new(ErrorCode::NodeUnreachable, "The orchestrator is shutting down.")
            }
            other => Self::new(ErrorCode::Internal, format!("{other}.")),
        }
    }
}

/// The task that an append begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) idempotency_key: Option<String>,
    /// SHA-256 of the request.
    pub(crate) fingerprint: [u8; 32],
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// The records are durable; the first has this number.
    At(u64),
    /// The idempotency key belongs to this task already: nothing was written.
    Known { task: TaskId, fingerprint: Vec<u8> },
}

/// An event as the journal has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) event: TaskEvent,
    /// Its canonical JSON: what the leaf of the log and the event stream both carry.
    pub(crate) body: String,
    /// The tools that it names by their digest, to be kept with it.
    pub(crate) tools: Option<Arc<ToolSet>>,
}

impl Entry {
    pub(crate) fn new(event: TaskEvent, tools: Option<Arc<ToolSet>>) -> Result<Self, JournalError> {
        let value = serde_json::to_value(&event)
            .map_err(|error| JournalError::Database(format!("an event cannot be written: {error}")))?;
        Ok(Self { body: kamil_ledger::canonical_json(&value), event, tools })
    }
}

struct Append {
    task: TaskId,
    at: Timestamp,
    entries: Vec<Entry>,
    beginning: Option<Beginning>,
    ends: bool,
    reply: oneshot::Sender<Written>,
}

/// The entries come back, so that they can be published, or written again.
pub(crate) type Written = (Vec<Entry>, Result<Appended, JournalError>);

/// The signed head of the log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) note: String,
}

struct Shared {
    head: Mutex<Head>,
    queue: kamil_node::Gauge,
    groups: kamil_node::Counter,
    records: kamil_node::Counter,
    group_ms: kamil_node::Histogram,
}

/// A handle on the journal; cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    appends: mpsc::Sender<Append>,
    reader: Arc<Mutex<Connection>>,
    shared: Arc<Shared>,
    verifier: VerifierKey,
    disk: Disk,
}

/// Formats a moment as the journal does.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string()
}

impl Journal {
    /// Opens or makes the journal, and holds what it has against the last signed checkpoint. Appends wait until the writer
    /// runs.
    ///
    /// # Errors
    /// [`JournalError`] if it is in use, damaged, or cannot be opened.
    pub(crate) fn open(
        path: &Path,
        identity: &Path,
        metrics: &kamil_node::Metrics,
        limit_bytes: Option<u64>,
        disk: Disk,
    ) -> Result<(Self, Writer), JournalError> {
        let lock = store::lock(path)?;
        let key = key::load_or_create(identity)?;
        let verifier = key.verifier().clone();
        let connection = schema::open(path, &disk)?;
        if let Some(limit) = limit_bytes {
            schema::limit(&connection, limit)?;
        }
        let (frontier, note) = verify::at_start(path, &connection, &verifier)?;
        let reader = schema::open(path, &disk)?;
        if matches!(disk, Disk::Synced) {
            // What it writes (the nodes that are there) may be lost with the power; the log has a connection of its own.
            reader.pragma_update(None, "synchronous", "NORMAL")?;
        }
        let reader = Arc::new(Mutex::new(reader));
        let head = sign_first(&connection, &key, &frontier, note)?;
        let shared = Arc::new(Shared {
            head: Mutex::new(head),
            queue: metrics.gauge("kamil_journal_queue", "Appends that wait for the writer."),
            groups: metrics.counter(
                "kamil_journal_commits_total",
                "Transactions of the journal; each is one sync to the disk.",
            ),
            records: metrics.counter("kamil_journal_records_total", "Records written to the journal."),
            group_ms: metrics.histogram("kamil_journal_commit_ms", "Time of a transaction, in milliseconds."),
        });
        let (appends, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(connection, frontier, key, Arc::clone(&shared), lock, queue, disk.clone());
        Ok((Self { appends, reader, shared, verifier, disk }, writer))
    }

    /// Writes events of one task. When this returns [`Appended::At`], they are on the disk; with an error, nothing was
    /// written.
    pub(crate) async fn append(
        &self,
        task: TaskId,
        at: Timestamp,
        entries: Vec<Entry>,
        beginning: Option<Beginning>,
    ) -> Written {
        let (reply, written) = oneshot::channel();
        let ends = entries.last().is_some_and(|entry| matches!(entry.event, TaskEvent::TaskCompleted { .. }));
        let append = Append { task, at, entries, beginning, ends, reply };
        if let Err(mpsc::error::SendError(append)) = self.appends.send(append).await {
            return (append.entries, Err(JournalError::Closed));
        }
        written.await.unwrap_or_else(|_| (Vec::new(), Err(JournalError::Closed)))
    }

    /// Reads, on a blocking thread where the disk is a real one.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    {
        let reader = Arc::clone(&self.reader);
        if matches!(self.disk, Disk::Simulated(_)) {
            return read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let reading = tokio::task::spawn_blocking(move || {
            let connection: MutexGuard<'_, Connection> =
                reader.lock().unwrap_or_else(PoisonError::into_inner);
            read(&connection)
        });
        reading.await.map_err(|error| JournalError::Database(error.to_string()))?
    }

    /// All records of a task, in order; none if there is no such task.
    pub(crate) async fn records_of(&self, task: TaskId) -> Result<Vec<StoredRecord>, JournalError> {
        self.read(move |connection| store::records_of(connection, task)).await
    }

    /// All that a task's decisions went by; no records if there is no such task.
    pub(crate) async fn history(&self, task: TaskId) -> Result<History, JournalError> {
        self.read(move |connection| store::history(connection, task)).await
    }

    /// The sets of tools that are kept under these digests, in this order; those that are not kept are left out.
    pub(crate) async fn tools_of(&self, digests: &[String]) -> Result<Vec<Arc<ToolSet>>, JournalError> {
        let digests = digests.to_vec();
        self.read(move |connection| store::tools_of(connection, &digests)).await
    }

    /// Tasks that have not ended, oldest first.
    pub(crate) async fn unfinished(&self) -> Result<Vec<TaskId>, JournalError> {
        self.read(store::unfinished).await
    }

    /// At most `limit` tasks before `before`, newest first.
    pub(crate) async fn page(
        &self,
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskId>, JournalError> {
        self.read(move |connection| store::page(connection, before, limit)).await
    }

    /// The nodes that were registered when the last run ended.
    pub(crate) async fn fleet(&self) -> Result<Vec<NodeId>, JournalError> {
        self.read(store::fleet).await
    }

    /// Notes that a node is there, or that it is not expected any more; not part of the log.
    pub(crate) async fn note_node(&self, node: NodeId, there: bool) -> Result<(), JournalError> {
        self.read(move |connection| store::note_node(connection, node, there)).await
    }

    /// The proof of one task's records, as a file; `None` if there is no such task.
    pub(crate) async fn proof(&self, task: TaskId) -> Result<Option<Vec<u8>>, JournalError> {
        let head = self.head();
        self.read(move |connection| store::proof(connection, task, &head)).await
    }

    /// The newest signed head.
    pub(crate) fn head(&self) -> Head {
        self.shared.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that heads are signed with, its public half.
    pub(crate) fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }
}

/// A new log begins with a signed head of size 0, so that there always is one.
fn sign_first(
    connection: &Connection,
    key: &kamil_ledger::SigningKey,
    frontier: &Frontier,
    note: Option<(u64, String)>,
) -> Result<Head, JournalError> {
    if let Some((size, note)) = note {
        return Ok(Head { size, note });
    }
    let head = writer::sign(key, frontier)?;
    store::insert_checkpoint(connection, &head, frontier)?;
    Ok(head)
}
