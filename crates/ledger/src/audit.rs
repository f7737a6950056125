//! Reading a whole log again.

use std::collections::VecDeque;

use crate::checkpoint::Checkpoint;
use crate::hash::leaf_hash;
use crate::record::{LeafRecord, RecordError};
use crate::tree::Frontier;

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The bytes at this place are not a record.
    #[error("record {seq} is damaged")]
    Damaged {
        /// Its place in the log.
        seq: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A record is missing, doubled or out of order.
    #[error("record {found} stands where record {wanted} must be: one was dropped, added or moved")]
    OutOfPlace {
        /// The place in the log.
        wanted: u64,
        /// The number of the record that is there.
        found: u64,
    },
    /// The records do not lead to a root that was signed.
    #[error("the first {size} records are not those whose root was signed: one of them was changed")]
    RootMismatch {
        /// The size of the signed head, in records.
        size: u64,
    },
    /// The log ends before a head that was signed.
    #[error("the log has {held} records, but a head of {signed} was signed: its end was cut off")]
    CutOff {
        /// The size of the signed head, in records.
        signed: u64,
        /// How many records there are.
        held: u64,
    },
}

/// Holds a log, record by record, against the heads that were signed. It needs as much memory as a [`Frontier`].
#[derive(Debug)]
pub struct Audit {
    frontier: Frontier,
    heads: VecDeque<Checkpoint>,
}

impl Audit {
    /// An audit against these heads, whose signatures [`Checkpoint::open`] has checked. Without any head only damage and
    /// order are checked.
    #[must_use]
    pub fn new(heads: impl IntoIterator<Item = Checkpoint>) -> Self {
        let mut heads: Vec<_> = heads.into_iter().collect();
        heads.sort_by_key(Checkpoint::size);
        Self { frontier: Frontier::new(), heads: heads.into() }
    }

    /// Takes the next record's bytes.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], [`AuditError::OutOfPlace`] or [`AuditError::RootMismatch`]; the audit is over then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<LeafRecord, AuditError> {
        self.compare_heads()?;
        let wanted = self.frontier.size();
        let record =
            LeafRecord::decode(bytes).map_err(|source| AuditError::Damaged { seq: wanted, source })?;
        if record.seq != wanted {
            return Err(AuditError::OutOfPlace { wanted, found: record.seq });
        }
        self.frontier.push(leaf_hash(bytes));
        self.compare_heads()?;
        Ok(record)
    }

    /// Ends the audit and gives the frontier of the log as it was read.
    ///
    /// # Errors
    /// [`AuditError::CutOff`] or, for an empty log, [`AuditError::RootMismatch`].
    pub fn finish(mut self) -> Result<Frontier, AuditError> {
        self.compare_heads()?;
        match self.heads.pop_back() {
            Some(head) => Err(AuditError::CutOff { signed: head.size(), held: self.frontier.size() }),
            None => Ok(self.frontier),
        }
    }

    fn compare_heads(&mut self) -> Result<(), AuditError> {
        let size = self.frontier.size();
        while let Some(head) = self.heads.pop_front_if(|head| head.size() == size) {
            if head.root() != self.frontier.root() {
                return Err(AuditError::RootMismatch { size });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(length: u64) -> Vec<Vec<u8>> {
        (0..length)
            .map(|seq| LeafRecord { seq, task: None, at: String::new(), body: json!({"n": seq}) }.encode())
            .collect()
    }

    fn head(records: &[Vec<u8>]) -> Checkpoint {
        let mut frontier = Frontier::new();
        records.iter().for_each(|bytes| frontier.push(leaf_hash(bytes)));
        Checkpoint::new("log", frontier.size(), frontier.root()).unwrap()
    }

    fn audit(records: &[Vec<u8>], heads: &[Checkpoint]) -> Result<Frontier, AuditError> {
        let mut audit = Audit::new(heads.iter().cloned());
        for bytes in records {
            audit.push(bytes)?;
        }
        audit.finish()
    }

    #[test]
    fn an_untouched_log_passes_with_records_after_its_last_head() {
        let records = log(20);
        let heads = [head(&records[..13]), head(&records[..5]), head(&[]), head(&records[..13])];
        assert_eq!(audit(&records, &heads).unwrap().size(), 20);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let records = log(6);
        let heads = [head(&records)];
        for place in 0..records.len() {
            for bit in 0..records[place].len() * 8 {
                let mut changed = records.clone();
                changed[place][bit / 8] ^= 1 << (bit % 8);
                assert!(audit(&changed, &heads).is_err(), "record {place} bit {bit}");
            }
        }
    }

    #[test]
    fn a_dropped_moved_or_cut_off_record_is_found() {
        let records = log(6);
        let heads = [head(&records[..4]), head(&records)];
        for place in 0..records.len() {
            let mut dropped = records.clone();
            dropped.remove(place);
            assert!(audit(&dropped, &heads).is_err(), "record {place}");
        }
        let mut moved = records.clone();
        moved.swap(1, 2);
        assert!(matches!(audit(&moved, &heads), Err(AuditError::OutOfPlace { wanted: 1, found: 2 })));
        assert!(matches!(audit(&records[..5], &heads), Err(AuditError::CutOff { signed: 6, held: 5 })));
        assert!(matches!(audit(&[], &[head(&records[..1])]), Err(AuditError::CutOff { .. })));
    }

    #[test]
    fn a_record_replaced_by_a_well_formed_one_is_found() {
        let mut records = log(6);
        let heads = [head(&records)];
        records[3] = LeafRecord { seq: 3, task: None, at: String::new(), body: json!({"n": 4}) }.encode();
        assert!(matches!(audit(&records, &heads), Err(AuditError::RootMismatch { size: 6 })));
    }
}
