//! One task's records with all that is needed to check them, in one file.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{Hash, leaf_hash};
use crate::key::VerifierKey;
use crate::note::SignedNote;
use crate::proof::{MerkleError, verify_inclusion};
use crate::record::{LeafRecord, RecordError};
use crate::tree::Tree;

/// A proof file is at most this long, in bytes.
pub const MAX_PROOF_BYTES: usize = 64 * 1024 * 1024;

const FORMAT: &str = "kamil-task-proof/1";

/// Why a proof could not be made or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum TaskProofError {
    /// The file is longer than a proof may be.
    #[error("the proof is longer than {MAX_PROOF_BYTES} bytes")]
    TooLarge,
    /// The file is not JSON of the right shape.
    #[error("the file is not a task proof")]
    Format(#[source] serde_json::Error),
    /// The file is of a version this program does not know.
    #[error("the proof has the format {0:?}; this program knows {FORMAT:?}")]
    Version(String),
    /// The checkpoint is not good.
    #[error("the proof's checkpoint is not good")]
    Checkpoint(#[from] CheckpointError),
    /// A record is not one.
    #[error("record {position} of the proof is not good")]
    Record {
        /// Its place in the file, from 0.
        position: usize,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A record is not in the log.
    #[error("record {seq} is not shown to be in the log")]
    NotIncluded {
        /// Its number in the log.
        seq: u64,
        /// What is wrong with its proof.
        source: MerkleError,
    },
    /// A record belongs to another task, or to none.
    #[error("record {seq} is not of task {task}")]
    OtherTask {
        /// Its number in the log.
        seq: u64,
        /// The task that the proof is for.
        task: String,
    },
    /// The records are not in the log's order, or one is there twice.
    #[error("record {seq} is out of order")]
    Order {
        /// Its number in the log.
        seq: u64,
    },
    /// There is no record.
    #[error("the proof has no record")]
    Empty,
}

/// The proof of one task, as it is written to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskProof {
    format: String,
    task: String,
    checkpoint: String,
    records: Vec<ProvenRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvenRecord {
    /// The canonical bytes, which are UTF-8.
    record: String,
    /// The siblings on the way to the root, lowest first.
    proof: Vec<Hash>,
}

/// What a proof that holds says.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedTask {
    /// The task.
    pub task: String,
    /// The head that covers the records.
    pub checkpoint: Checkpoint,
    /// The task's records in the log's order.
    pub records: Vec<LeafRecord>,
}

impl TaskProof {
    /// Makes the proof of `task` from its records' bytes, in the log's order, under a signed checkpoint that covers them.
    ///
    /// # Errors
    /// When the checkpoint's text is none, a record is not one, or the tree does not reach as far as the checkpoint.
    pub fn prove<'a>(
        task: &str,
        checkpoint: &SignedNote,
        tree: &Tree,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TaskProofError> {
        let size = Checkpoint::parse_text(checkpoint.text())?.size();
        let mut proven = Vec::new();
        for (position, bytes) in records.into_iter().enumerate() {
            let record =
                LeafRecord::decode(bytes).map_err(|source| TaskProofError::Record { position, source })?;
            let proof = tree
                .inclusion_proof(record.seq, size)
                .map_err(|source| TaskProofError::NotIncluded { seq: record.seq, source })?;
            proven.push(ProvenRecord { record: String::from_utf8_lossy(bytes).into_owned(), proof });
        }
        Ok(Self {
            format: FORMAT.to_owned(),
            task: task.to_owned(),
            checkpoint: checkpoint.to_string(),
            records: proven,
        })
    }

    /// The file's bytes: indented JSON.
    ///
    /// # Errors
    /// [`TaskProofError::TooLarge`] beyond [`MAX_PROOF_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, TaskProofError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(TaskProofError::Format)?;
        bytes.push(b'\n');
        if bytes.len() > MAX_PROOF_BYTES { Err(TaskProofError::TooLarge) } else { Ok(bytes) }
    }

    /// Reads a file. Nothing is checked but its shape.
    ///
    /// # Errors
    /// [`TaskProofError::TooLarge`], [`TaskProofError::Format`] or [`TaskProofError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TaskProofError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(TaskProofError::TooLarge);
        }
        let proof: Self = serde_json::from_slice(bytes).map_err(TaskProofError::Format)?;
        if proof.format == FORMAT { Ok(proof) } else { Err(TaskProofError::Version(proof.format)) }
    }

    /// Checks the proof against the log's key.
    ///
    /// It shows that the log holds these records of the task, at these places, under a head it signed. It does not
    /// show that the log holds no further record of the task; an [`Audit`](crate::Audit) of the whole log does.
    ///
    /// # Errors
    /// Any [`TaskProofError`].
    pub fn verify(&self, key: &VerifierKey) -> Result<VerifiedTask, TaskProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let mut records: Vec<LeafRecord> = Vec::with_capacity(self.records.len());
        for (position, ProvenRecord { record: text, proof }) in self.records.iter().enumerate() {
            let record = LeafRecord::decode(text.as_bytes())
                .map_err(|source| TaskProofError::Record { position, source })?;
            let seq = record.seq;
            verify_inclusion(&leaf_hash(text.as_bytes()), seq, checkpoint.size(), proof, &checkpoint.root())
                .map_err(|source| TaskProofError::NotIncluded { seq, source })?;
            if record.task.as_deref() != Some(self.task.as_str()) {
                return Err(TaskProofError::OtherTask { seq, task: self.task.clone() });
            }
            if records.last().is_some_and(|last| last.seq >= seq) {
                return Err(TaskProofError::Order { seq });
            }
            records.push(record);
        }
        if records.is_empty() {
            return Err(TaskProofError::Empty);
        }
        Ok(VerifiedTask { task: self.task.clone(), checkpoint, records })
    }
}

/// Reads a proof file and checks it against the log's key, without the log.
///
/// # Errors
/// Any [`TaskProofError`].
pub fn verify_task_proof(bytes: &[u8], key: &VerifierKey) -> Result<VerifiedTask, TaskProofError> {
    TaskProof::from_bytes(bytes)?.verify(key)
}
