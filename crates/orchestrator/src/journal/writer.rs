//! The one who writes.

use std::{fs::File, sync::Arc, sync::PoisonError, time::Instant};

use kamil_ledger::{Checkpoint, Frontier, SigningKey, leaf_hash};
use kamil_protocol::event::EventRecord;
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Append, Appended, Disk, Fault, Head, JournalError, Shared, moment, store};

/// Most appends in one transaction.
const MAX_GROUP: usize = 1_024;

pub(crate) struct Writer {
    connection: Connection,
    frontier: Frontier,
    key: SigningKey,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Append>,
    disk: Disk,
    /// Held as long as anything may be written.
    _lock: File,
}

/// A signed head over the records of this frontier.
pub(super) fn sign(key: &SigningKey, frontier: &Frontier) -> Result<Head, JournalError> {
    let failed =
        |error: &dyn std::fmt::Display| JournalError::Database(format!("the head cannot be signed: {error}"));
    let checkpoint = Checkpoint::new(key.verifier().name(), frontier.size(), frontier.root())
        .map_err(|error| failed(&error))?;
    let note = checkpoint.sign(key).map_err(|error| failed(&error))?;
    Ok(Head { size: frontier.size(), note: note.to_string() })
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        frontier: Frontier,
        key: SigningKey,
        shared: Arc<Shared>,
        lock: File,
        queue: mpsc::Receiver<Append>,
        disk: Disk,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, frontier, key, shared, queue, disk, _lock: lock }
    }

    /// Writes until the last handle is gone.
    pub(crate) fn run(mut self) {
        let mut group = Vec::new();
        while self.queue.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            if !self.turn(&mut group) {
                return;
            }
        }
    }

    /// Writes on the runtime's own thread, until the orchestrator stops or its machine does.
    pub(crate) async fn run_here(mut self, stop: CancellationToken) {
        let mut group = Vec::new();
        loop {
            let waiting = self.queue.recv_many(&mut group, MAX_GROUP);
            if stop.run_until_cancelled(waiting).await.is_none_or(|appends| appends == 0)
                || !self.turn(&mut group)
            {
                return;
            }
        }
    }

    /// Writes a group and answers it. Returns whether there is anyone left to write.
    fn turn(&mut self, group: &mut Vec<Append>) -> bool {
        self.shared.queue.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        let begun = Instant::now();
        let written = self.write(group);
        self.shared.group_ms.observe(begun.elapsed());
        match written {
            Ok(appended) => {
                for (append, appended) in group.drain(..).zip(appended) {
                    // A caller that has gone away needs no answer; what it wrote stays.
                    let _ = append.reply.send((append.entries, Ok(appended)));
                }
            }
            Err(JournalError::Closed) => return false,
            Err(error) => {
                tracing::error!(%error, appends = group.len(), "a transaction of the journal failed");
                for append in group.drain(..) {
                    let _ = append.reply.send((append.entries, Err(error.clone())));
                }
            }
        }
        true
    }

    /// One transaction: all of the group, or nothing.
    fn write(&mut self, group: &[Append]) -> Result<Vec<Appended>, JournalError> {
        let mut frontier = self.frontier.clone();
        let transaction = self.connection.unchecked_transaction()?;
        let mut appended = Vec::with_capacity(group.len());
        for append in group {
            appended.push(insert(&self.connection, &mut frontier, append)?);
        }
        let ended = group.iter().any(|append| append.ends);
        let head = if ended { Some(sign(&self.key, &frontier)?) } else { None };
        if let Some(head) = &head {
            store::insert_checkpoint(&self.connection, head, &frontier)?;
        }
        match &self.disk {
            Disk::Synced => transaction.commit()?,
            Disk::Simulated(faults) => {
                let records = records(group, &appended);
                pass(faults.before_commit(&records))?;
                transaction.commit()?;
                if faults.after_commit(&records) == Fault::Crash {
                    return Err(JournalError::Closed);
                }
            }
        }
        self.shared.groups.inc();
        self.shared.records.add(frontier.size() - self.frontier.size());
        self.frontier = frontier;
        if let Some(head) = head {
            *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        }
        Ok(appended)
    }
}

fn pass(fault: Fault) -> Result<(), JournalError> {
    match fault {
        Fault::None => Ok(()),
        Fault::Full => Err(JournalError::Full),
        Fault::Crash => Err(JournalError::Closed),
    }
}

/// What a group has written.
fn records(group: &[Append], appended: &[Appended]) -> Vec<EventRecord> {
    let mut records = Vec::new();
    for (append, appended) in group.iter().zip(appended) {
        let Appended::At(first) = appended else { continue };
        let entries = (*first..).zip(&append.entries);
        records.extend(entries.map(|(seq, entry)| EventRecord {
            seq,
            task: append.task,
            at: append.at,
            event: entry.event.clone(),
        }));
    }
    records
}

fn insert(
    connection: &Connection,
    frontier: &mut Frontier,
    append: &Append,
) -> Result<Appended, JournalError> {
    if let Some(beginning) = &append.beginning {
        let key = beginning.idempotency_key.as_deref();
        if let Some(key) = key
            && let Some((task, fingerprint)) = store::task_of_key(connection, key)?
        {
            return Ok(Appended::Known { task, fingerprint });
        }
        store::insert_task(connection, append.task, key, &beginning.fingerprint)?;
    }
    let (first, at) = (frontier.size(), moment(append.at));
    for entry in &append.entries {
        let body = &entry.body;
        let seq = frontier.size();
        // The canonical bytes of `kamil_ledger::LeafRecord`; neither a moment nor an id has a character to escape.
        let leaf = format!("{{\"at\":\"{at}\",\"body\":{body},\"seq\":{seq},\"task\":\"{}\"}}", append.task);
        let hash = leaf_hash(leaf.as_bytes());
        store::insert_record(connection, seq, append.task, leaf.as_bytes(), &hash)?;
        if let Some(tools) = &entry.tools {
            store::keep_tools(connection, tools)?;
        }
        frontier.push(hash);
    }
    if append.ends {
        store::end_task(connection, append.task)?;
    }
    Ok(Appended::At(first))
}
