//! A record of the journal and the bytes that stand for it in the log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{write_string, write_value};
use crate::hash::{Hash, leaf_hash};

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON of a record.
    #[error("the bytes are not a record")]
    Format(#[source] serde_json::Error),
    /// The JSON of a record, but not in its canonical form.
    #[error("the record is not in canonical form")]
    NotCanonical,
}

/// One record: the leaf number `seq` of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafRecord {
    /// The record's place in the log, from 0: its index as a leaf.
    pub seq: u64,
    /// The task it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When it was made, in RFC 3339. The ledger does not read it.
    pub at: String,
    /// What happened.
    pub body: Value,
}

impl LeafRecord {
    /// The canonical bytes: RFC 8785 JSON with the members `at`, `body`, `seq` and, if there is one, `task`. The journal
    /// stores these very bytes, and the leaf's hash is over them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = String::from("{\"at\":");
        write_string(&mut out, &self.at);
        out.push_str(",\"body\":");
        write_value(&mut out, &self.body);
        out.push_str(",\"seq\":");
        out.push_str(&self.seq.to_string());
        if let Some(task) = &self.task {
            out.push_str(",\"task\":");
            write_string(&mut out, task);
        }
        out.push('}');
        out.into_bytes()
    }

    /// Reads a record and checks that the bytes are its one canonical form.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::Format)?;
        if record.encode() == bytes { Ok(record) } else { Err(RecordError::NotCanonical) }
    }

    /// The hash of the leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canonical::canonical_json;

    fn record(task: Option<&str>) -> LeafRecord {
        LeafRecord {
            seq: u64::MAX,
            task: task.map(str::to_owned),
            at: "2026-01-02T03:04:05.006Z".into(),
            body: json!({"step": "answer", "output": {"b": 1.5, "a": [null, true, "é\n"]}}),
        }
    }

    #[test]
    fn the_bytes_are_the_canonical_form_and_read_back() {
        for record in [record(None), record(Some("t-1"))] {
            let value = serde_json::to_value(&record).unwrap();
            assert_eq!(String::from_utf8(record.encode()).unwrap(), canonical_json(&value));
            assert_eq!(LeafRecord::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn any_other_form_of_the_same_record_is_refused() {
        let good = String::from_utf8(record(Some("t-1")).encode()).unwrap();
        for (from, to) in [
            ("{\"at\"", "{ \"at\""),
            ("\"b\":1.5", "\"b\":1.50"),
            ("\"seq\":", "\"seq\": "),
            ("\"step\":\"answer\"", "\"step\":\"x\",\"step\":\"answer\""),
            ("é", "\\u00e9"),
            ("\"seq\":18446744073709551615", "\"seq\":-1"),
            ("\"task\":\"t-1\"", "\"task\":null"),
            ("\"task\":\"t-1\"", "\"task\":\"t-1\",\"x\":1"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(LeafRecord::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
