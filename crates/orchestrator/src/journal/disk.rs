//! How the journal reaches the disk.

use std::{fmt, sync::Arc};

use kamil_protocol::event::EventRecord;

/// How the journal reaches the disk.
#[derive(Clone, Debug, Default)]
pub enum Disk {
    /// A thread of its own writes, and every transaction is synced before it is answered.
    #[default]
    Synced,
    /// The runtime's own thread writes and reads the same database, nothing is synced, and what goes wrong is decided here:
    /// for a simulation, whose runs must not depend on threads or on the machine's disk.
    Simulated(Arc<dyn Faults>),
}

/// What goes wrong with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// There is no room: the transaction is rolled back. After a commit it is too late for that, and nothing goes wrong.
    Full,
    /// The machine stops here. The writer answers nobody any more.
    Crash,
}

/// Decides what goes wrong with transactions, and sees what they hold.
pub trait Faults: Send + Sync + fmt::Debug {
    /// These records are about to be committed, in the order of their numbers.
    fn before_commit(&self, records: &[EventRecord]) -> Fault;

    /// These records are durable; nobody has been told so yet.
    fn after_commit(&self, records: &[EventRecord]) -> Fault;
}
