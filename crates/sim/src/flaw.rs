//! Faults that are put into the nodes on purpose, to show that the simulation finds them.

/// A node that breaks its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flaw {
    /// A tool node forgets its ledger of idempotency keys when it dies.
    ForgetfulLedger,
    /// A tool node acts before it has recorded the key.
    EagerTool,
    /// A memory node loses what it acknowledged when it dies.
    ForgetfulMemory,
}
