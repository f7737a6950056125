//! The record that cannot be changed unseen: bytes in, bytes out, no I/O, no clock, no randomness.
//!
//! - [`canonical`]: canonical JSON (RFC 8785), so that a record has one encoding only.
//! - [`record`]: what a leaf of the log says, and its bytes.
//! - [`hash`] and [`tree`]: the Merkle tree of RFC 6962 and 9162; [`Frontier`] grows it, [`Tree`] proves from it.
//! - [`proof`]: checks an inclusion or a consistency proof.
//! - [`key`] and [`note`]: Ed25519 keys and signed notes (C2SP `signed-note`).
//! - [`checkpoint`]: the signed head of the log (C2SP `tlog-checkpoint`).
//! - [`task_proof`]: one task's records with their proofs in one file, verified offline.
//! - [`audit`]: reads a whole log again and holds it against its checkpoints.

pub mod audit;
pub mod canonical;
pub mod checkpoint;
pub mod hash;
pub mod key;
pub mod note;
pub mod proof;
pub mod record;
pub mod task_proof;
pub mod tree;

pub use audit::{Audit, AuditError};
pub use canonical::canonical_json;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use hash::{Hash, leaf_hash};
pub use key::{KeyError, SigningKey, VerifierKey};
pub use note::{NoteError, SignedNote};
pub use proof::{MerkleError, verify_consistency, verify_inclusion};
pub use record::{LeafRecord, RecordError};
pub use task_proof::{TaskProof, TaskProofError, VerifiedTask, verify_task_proof};
pub use tree::{Frontier, Tree};
